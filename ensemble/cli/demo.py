"""`ens demo`: the whole pipeline on the built-in sample."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    jobs_options,
    json_option,
    log,
    print_leaderboard,
)
from evaluation.core.run_folder import RUNS, Run


@click.command("demo")
@click.option(
    "--run",
    "run_path",
    type=FILE,
    metavar="RUN",
    default=RUNS / "demo",
    show_default=True,
    help="Run folder.",
)
@jobs_options
@json_option
def command(run_path: Path, device: str, workers: int | None, as_json: bool) -> None:
    """Train, fuse, post-process and score on a synthetic sample; takes a few minutes."""
    from ensemble.pipeline.workflow.run_all import DEMO, run_experiment

    board = run_experiment(Run(run_path), DEMO, device=device, workers=workers, log=log)
    more = f"label maps, scores and probability maps: {run_path}/"
    print_leaderboard(board, as_json=as_json, then=f"ens status --run {run_path}", more=more)
