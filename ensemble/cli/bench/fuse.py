"""`ens bench fuse`: fusing beside reading the same bytes and beside other ways."""

import click

from ensemble.cli.options import json_option, show, tell


@click.command("fuse")
@click.option("--members", type=click.IntRange(2), default=10, show_default=True)
@click.option("--pictures", type=click.IntRange(64), default=2000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@json_option
def fuse(members: int, pictures: int, rounds: int, as_json: bool) -> None:
    """Time fusing on drawn maps of 5 x 64 x 128; needs 3 GB of disk for each 1,000 pictures."""
    from ensemble.pipeline.bench.fusion import Size, as_text, bench_fuse

    document = bench_fuse(Size(members, pictures, rounds), tell)
    show(as_text(document), document, as_json=as_json)
