"""`ens compare`: rank what is scored, with gaps to the first and costs."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    json_option,
    log,
    next_command,
    print_result,
    resolve_run,
    run_option,
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

    run = resolve_run(run_path)
    board = compare_run(run, split=split, protocol=protocol, csv=csv, log=log)
    then = next_command(run, board)
    print_result(ranking_text(board), leaderboard_document(board), as_json=as_json, then=then)
