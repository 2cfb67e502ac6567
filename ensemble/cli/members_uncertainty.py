"""`ens members uncertainty`: the pictures on which the ensemble is least sure."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, chosen_run, json_option, run_option, show, tell


@click.command("uncertainty", short_help="Rank pictures by how unsure the members are.")
@run_option
@click.option(
    "--split", default="oof", show_default=True, help="Of which pictures; needs no truth."
)
@click.option("--out", required=True, type=FILE, metavar="DIR", help="The new folder.")
@click.option(
    "--by",
    type=click.Choice(["entropy", "mutual_information"]),
    default="entropy",
    show_default=True,
    help="Rank by all uncertainty, or by the members' disagreement alone.",
)
@click.option(
    "--count", type=click.IntRange(1, 100), default=20, show_default=True, help="How many to draw."
)
@json_option
def uncertainty(
    run_path: Path | None, split: str, out: Path, by: str, count: int, as_json: bool
) -> None:
    """Rank pictures by how unsure the mean of the members is, and draw the first."""
    from ensemble.pipeline.uncertainty import as_text, rank_pictures

    run = chosen_run(run_path)
    document = rank_pictures(run, split=split, out=out, by=by, count=count, tell=tell)
    show(as_text(document), document, as_json=as_json)
