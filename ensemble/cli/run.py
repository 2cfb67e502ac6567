"""`ens run`: everything an experiment file asks for."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    jobs_options,
    json_option,
    log,
    print_result,
)
from evaluation.core.run_folder import RUNS, Run


@click.command("run")
@click.argument("experiment", type=FILE)
@click.option("--run", "run_path", type=FILE, metavar="RUN", help="Folder; by default runs/NAME.")
@jobs_options
@json_option
def command(
    experiment: Path, run_path: Path | None, device: str, workers: int | None, as_json: bool
) -> None:
    """Do all that EXPERIMENT names, from training to scores; only what is missing or stale."""
    from ensemble.pipeline.run.experiment import read_experiment
    from ensemble.pipeline.workflow.run_all import run_experiment
    from evaluation.leaderboard_text import leaderboard_document, leaderboard_text

    run = Run(run_path or RUNS / experiment.stem)
    board = run_experiment(
        run, read_experiment(experiment), device=device, workers=workers, log=log
    )
    then = f"ens status --run {run.path}"
    print_result(leaderboard_text(board), leaderboard_document(board), as_json=as_json, then=then)
