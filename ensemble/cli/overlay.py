"""`ens overlay`: pictures with labels laid over them."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, chosen_run, json_option, run_option, show


@click.command("overlay")
@click.option("--candidate", "candidates", required=True, multiple=True, metavar="C")
@click.option("--split", default="validation", show_default=True, help="Of which pictures.")
@click.option("--out", required=True, type=FILE, metavar="F.png", help="Where to.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Repeatable; by default a spread.")
@click.option("--count", type=click.IntRange(1, 200), default=12, show_default=True)
@click.option("--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@run_option
@json_option
def command(
    candidates: tuple[str, ...],
    split: str,
    out: Path,
    ids: tuple[str, ...],
    count: int,
    opacity: float,
    run_path: Path | None,
    as_json: bool,
) -> None:
    """Draw pictures with the truth and candidates' labels laid over them, one row a picture."""
    from ensemble.pipeline.overlay import overlay

    run = chosen_run(run_path)
    drawn = overlay(run, candidates, split, out, ids=ids, count=count, opacity=opacity)
    document = {"out": str(out), "split": split, "pictures": drawn}
    show(f"{out}: {len(drawn)} pictures of {split}", document, as_json=as_json)
