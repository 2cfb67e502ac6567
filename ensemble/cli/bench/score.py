"""`ens bench score`: confusion counts beside reading the labels once and beside other scorers."""

import click

from ensemble.cli.options import json_option, show, tell


@click.command("score")
@click.option("--pictures", type=click.IntRange(1), default=1024, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@json_option
def score(pictures: int, rounds: int, as_json: bool) -> None:
    """Time counting on drawn label maps of 64 x 128, 5 classes, in one thread."""
    from ensemble.pipeline.bench.score import as_text, bench_score

    document = bench_score(pictures, rounds, tell)
    show(as_text(document), document, as_json=as_json)
