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
    """Train, fuse, post-process, score and report on a synthetic sample; takes a few minutes."""
    from ensemble.pipeline.report.report import report
    from ensemble.pipeline.workflow.run_all import DEMO, run_experiment

    run = Run(run_path)
    board = run_experiment(run, DEMO, device=device, workers=workers, log=log)
    page = report(run, split="validation", candidate=None, out=None, figures=None, log=log).page
    more = f"label maps, scores and probability maps: {run_path}/"
    then = f"open {page} in a browser"
    print_leaderboard(board, as_json=as_json, then=then, more=more)
