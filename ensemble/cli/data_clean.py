"""`ens data clean`: find pictures to drop, show them, and write the rest."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, json_option, show


@click.command("clean", short_help="Find pictures to drop, and write the rest.")
@click.argument("data", type=FILE)
@click.option("--drop", type=FILE, metavar="IDS.txt", help="Ids to drop, one per line; # comments.")
@click.option("--keep", type=FILE, metavar="IDS.txt", help="Ids that nothing else may drop.")
@click.option(
    "--distance",
    type=click.IntRange(0, 64),
    default=10,
    show_default=True,
    help="Near-duplicates: perceptual hashes differ in at most so many of 64 bits.",
)
@click.option(
    "--alike",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Near-duplicates: thumbnails correlate at least so much.",
)
@click.option(
    "--novelty",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the rest to drop as strangest (one-class SVM); 0 only shows them.",
)
@click.option(
    "--page",
    type=FILE,
    metavar="DIR",
    default="cleaning",
    show_default=True,
    help="Folder for the page and the lists of what is dropped.",
)
@click.option("--apply", "applied", is_flag=True, help="Write the remaining pictures to --out.")
@click.option("--out", type=FILE, metavar="F.npz", help="The new file, with --apply.")
@json_option
def command(
    data: Path,
    drop: Path | None,
    keep: Path | None,
    distance: int,
    alike: float,
    novelty: float,
    page: Path,
    applied: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Find pictures to drop, show each with the reason, and write the rest with --apply.

    Dropped are what --drop lists, pictures that share one non-constant mask, and all but one of
    each set of near-duplicates. DATA itself stays as it is.
    """
    if applied != (out is not None):
        raise click.UsageError("--apply and --out FILE.npz go together")
    from ensemble.pipeline.cleaning import as_text, clean_data
    from members.data.cleaning.reasons import Rules

    rules = Rules(distance=distance, alike=alike, novelty=novelty)
    document = clean_data(data, page=page, rules=rules, drop=drop, keep=keep, out=out)
    then = None if out is None else f"ens train-members --data {out}"
    show(as_text(document), document, as_json=as_json, then=then)
