"""`ens demo`: the whole job on the built-in sample."""

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


@click.command("demo")
@click.option(
    "--run",
    "run_path",
    type=FILE,
    metavar="RUN",
    default=RUNS / "demo",
    show_default=True,
    help="Experiment folder.",
)
@jobs_options
@json_option
def command(run_path: Path, device: str, workers: int | None, as_json: bool) -> None:
    """Train, fuse, post-process and score on a sample drawn by code: two minutes or so."""
    from ensemble.pipeline.workflow.run_all import DEMO, run_experiment
    from evaluation.leaderboard_text import leaderboard_document, leaderboard_text

    board = run_experiment(Run(run_path), DEMO, device=device, workers=workers, log=log)
    text = f"{leaderboard_text(board)}\nlabel maps, scores and probability maps: {run_path}/"
    then = f"ens status --run {run_path}"
    print_result(text, leaderboard_document(board), as_json=as_json, then=then)
