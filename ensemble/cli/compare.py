"""`ens compare`: rank scored candidates, with gaps to the first and costs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli.options import (
    FILE,
    SpecCommand,
    json_option,
    log,
    memory_option,
    next_command,
    print_result,
    resolve_run,
    run_option,
    table_options,
)
from evaluation.core.run_folder import Run

if TYPE_CHECKING:
    from evaluation.leaderboard_text import TableView


@click.command(
    "compare", cls=SpecCommand, tables={"protocols": "evaluation.protocols:ALL_PROTOCOLS"}
)
@run_option
@click.option("--split", default="validation", show_default=True, help="Split to evaluate on.")
@click.option("--protocol", help="Definition of the score that ranks; by default the run's metric.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="X",
    help="Also say which candidates are not worse than one by more than X, and which equivalent.",
)
@click.option(
    "--to",
    metavar="NAME",
    help="Candidate for --margin; by default the chosen one, or the first if none is.",
)
@click.option(
    "--recipes",
    metavar="A,B",
    help="Instead, the difference between two recipes that were trained with --repeats.",
)
@click.option("--csv", type=FILE, metavar="F", help="Also write the table to this file.")
@table_options
@memory_option
@json_option
def command(
    run_path: Path | None,
    split: str,
    protocol: str | None,
    margin: float | None,
    to: str | None,
    recipes: str | None,
    csv: Path | None,
    as_json: bool,
    view: "TableView",
) -> None:
    """Rank the scored candidates: which may be best, gaps to the first, and the cost.

    Only candidates that `ens score` has scored are compared. Costs are measured once, on one core
    of this machine, and kept in the run. With --recipes, the interval of the difference holds over
    other trainings and other images.
    """
    from ensemble.pipeline.scoring.compare import compare_run
    from evaluation.leaderboard_text import format_ranking

    if to is not None and margin is None:
        raise click.UsageError("--to needs --margin")
    run = resolve_run(run_path)
    if recipes is not None:
        if margin is not None or csv is not None:
            raise click.UsageError("--recipes takes neither --margin nor --csv")
        print_recipes(run, recipes, split, protocol, as_json=as_json)
        return
    board = compare_run(run, split=split, protocol=protocol, csv=csv, margin=margin, to=to, log=log)
    then = next_command(run, board)
    print_result(format_ranking(board, view), board.to_dict(), as_json=as_json, then=then)


def print_recipes(
    run: Run, recipes: str, split: str, protocol: str | None, *, as_json: bool
) -> None:
    """Print the difference between two recipes."""
    from ensemble.pipeline.scoring.recipes import compare_recipes_of, format_recipes

    result, metric = compare_recipes_of(run, recipes, split=split, protocol=protocol, log=log)
    print_result(format_recipes(result, metric), result.to_dict(), as_json=as_json)
