"""`ens run`: everything an experiment file describes."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    jobs_options,
    json_option,
    log,
    memory_option,
    print_leaderboard,
)
from evaluation.core.run_folder import RUNS, Run


@click.command("run")
@click.argument("experiment", type=FILE, metavar="EXPERIMENT.yaml")
@click.option(
    "--run", "run_path", type=FILE, metavar="RUN", help="Run folder; by default runs/EXPERIMENT."
)
@jobs_options
@memory_option
@json_option
def command(
    experiment: Path, run_path: Path | None, device: str, workers: int | None, as_json: bool
) -> None:
    """Run a whole experiment, from training to scores; only what is missing or stale is redone.

    EXPERIMENT.yaml names data, members, fusions and chains. The file RUN/experiment.yaml of any run
    is an example.
    """
    from ensemble.pipeline.run.experiment import read_experiment
    from ensemble.pipeline.workflow.run_all import run_experiment

    run = Run(run_path or RUNS / experiment.stem)
    board = run_experiment(
        run, read_experiment(experiment), device=device, workers=workers, log=log
    )
    print_leaderboard(board, as_json=as_json, then=f"ens report --run {run.path}")
