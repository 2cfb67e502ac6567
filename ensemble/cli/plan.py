"""`ens plan`: what a run would take, and what would stop it."""

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
    """Tell what `ens run EXPERIMENT` would take, and all that is odd about it.

    Time, disk and memory of what is missing; without EXPERIMENT, of what the run was begun with.
    Nothing is written. Exits 2 when the run would fail, with every reason.
    """
    from ensemble.pipeline.run.experiment import read_experiment
    from ensemble.pipeline.run.open_run import run_experiment
    from ensemble.pipeline.workflow.plan import as_text, plan_run, raise_if_blocked

    if experiment is None:
        run = resolve_run(run_path)
        asked = run_experiment(run)
    else:
        run = Run(run_path or RUNS / experiment.stem)
        asked = read_experiment(experiment)
    found = plan_run(run, asked, device=device, workers=workers)
    then = None if found.fails else f"ens run {experiment or run.experiment} --run {run.path}"
    print_result(as_text(found), found.document(), as_json=as_json, then=then)
    raise_if_blocked(found)
