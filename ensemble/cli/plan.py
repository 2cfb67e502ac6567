"""`ens plan`: forecast the cost of a run, and what would stop it."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    device_options,
    json_option,
    print_result,
    resolve_run,
    run_option,
)
from evaluation.core.run_folder import RUNS, Run


@click.command("plan")
@click.argument("experiment", type=FILE, required=False)
@run_option
@device_options
@json_option
def command(
    experiment: Path | None, run_path: Path | None, device: str, workers: int | None, as_json: bool
) -> None:
    """Forecast what `ens run EXPERIMENT` would take, with all warnings.

    Time, disk and memory of what is missing; without EXPERIMENT, of the run's own experiment.
    Nothing is written. Exits 2 if the run would fail, with every reason.
    """
    from ensemble.pipeline.run.experiment import read_experiment
    from ensemble.pipeline.run.open_run import run_experiment
    from ensemble.pipeline.workflow.plan import format_plan, plan_run, raise_if_blocked

    if experiment is None:
        run = resolve_run(run_path)
        settings = run_experiment(run)
    else:
        run = Run(run_path or RUNS / experiment.stem)
        settings = read_experiment(experiment)
    report = plan_run(run, settings, device=device, workers=workers)
    then = None if report.blockers else f"ens run {experiment or run.experiment} --run {run.path}"
    print_result(format_plan(report), report.to_dict(), as_json=as_json, then=then)
    raise_if_blocked(report)
