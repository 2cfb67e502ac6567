"""`ens bench fuse`: fusing beside reading the same bytes and beside other ways."""

import click

from ensemble.cli.options import json_option, show, tell
from ensemble.pipeline.bench.fuse import PARTS

PART = "Only this part; can be repeated."


@click.command("fuse")
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help=PART)
@click.option("--members", type=click.IntRange(2), default=10, show_default=True)
@click.option("--pictures", type=click.IntRange(4), default=2000, show_default=True)
@click.option("--pixels", type=click.IntRange(1 << 16), default=4_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@json_option
def fuse(
    parts: tuple[str, ...], members: int, pictures: int, pixels: int, rounds: int, as_json: bool
) -> None:
    """Measure fusing on drawn maps of 5 x 64 x 128; needs 5 GB of disk for each 1,000 pictures.

    Stacking is measured on `--pixels`, memory on ten times the pictures too.
    """
    from ensemble.pipeline.bench.fuse.drawn import Size
    from ensemble.pipeline.bench.fuse.measured import as_text, bench_fuse

    size = Size(members, pictures, pixels, rounds)
    document = bench_fuse(size, list(dict.fromkeys(parts)) or list(PARTS), tell)
    show(as_text(document), document, as_json=as_json)
