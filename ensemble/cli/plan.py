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
@click.option(
    "--detect",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="GAP",
    help="Instead, how many groups of images would show a true gap of GAP in score.",
)
@device_options
@json_option
def command(
    experiment: Path | None,
    run_path: Path | None,
    detect: float | None,
    device: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Forecast what `ens run EXPERIMENT` would take, with all warnings.

    Time, disk and memory of what is missing; without EXPERIMENT, of the run's own experiment.
    Nothing is written. Exits 2 if the run would fail, with every reason. With --detect, the number
    of groups follows from the paired variance of the run's candidates on oof (out-of-fold).
    """
    if detect is not None:
        print_detection(experiment, run_path, detect, as_json=as_json)
        return
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


def print_detection(
    experiment: Path | None, run_path: Path | None, gap: float, *, as_json: bool
) -> None:
    """Print how many groups would show a gap."""
    from ensemble.pipeline.analysis.detection import format_detection, plan_detection

    if experiment is not None:
        raise click.UsageError("--detect takes a scored run, not an experiment; pass --run RUN")
    plan = plan_detection(resolve_run(run_path), gap)
    print_result(format_detection(plan), plan.to_dict(), as_json=as_json)
