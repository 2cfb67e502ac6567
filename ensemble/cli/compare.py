"""`ens compare`: rank what is scored, with gaps to the first and costs."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    chosen_run,
    json_option,
    next_of_board,
    run_option,
    show,
    tell,
)


@click.command("compare")
@run_option
@click.option("--split", default="validation", show_default=True, help="The examined split.")
@click.option("--protocol", default="masked", show_default=True, help="Protocol that ranks.")
@click.option("--csv", type=FILE, metavar="F", help="Also write the table to this file.")
@json_option
def command(
    run_path: Path | None, split: str, protocol: str, csv: Path | None, as_json: bool
) -> None:
    """Rank the scored candidates: the gap to the first, whether it may be chance, and the cost.

    Only what `ens score` has scored is compared. Costs are measured once, on one core of this
    machine, and kept in the run.
    """
    from ensemble.pipeline.scoring.compare import compare_run
    from evaluation.leaderboard_text import leaderboard_document, ranking_text

    run = chosen_run(run_path)
    board = compare_run(run, split=split, protocol=protocol, csv=csv, tell=tell)
    then = next_of_board(run, board)
    show(ranking_text(board), leaderboard_document(board), as_json=as_json, then=then)
