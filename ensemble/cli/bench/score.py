"""`ens bench score`: confusion counts beside reading the labels once and beside other scorers."""

import click

from ensemble.cli.options import json_option, rounds_option, show, tell


@click.command("score", short_help="Confusion counts against other scorers.")
@click.option(
    "--pictures", type=click.IntRange(1), default=1024, show_default=True, help="How many pictures."
)
@rounds_option(7)
@json_option
def score(pictures: int, rounds: int, as_json: bool) -> None:
    """Time confusion counts of drawn label maps, 64 x 128, 5 classes, on one thread."""
    from ensemble.pipeline.bench.score import as_text, bench_score

    document = bench_score(pictures, rounds, tell)
    show(as_text(document), document, as_json=as_json)
