"""`ens bench fuse`: fusing beside reading the same bytes and beside other ways."""

import click

from benchmarks.fuse import PARTS
from ensemble.cli.options import (
    json_option,
    log,
    print_result,
    rounds_option,
)

PART = "Only this part; repeatable."


@click.command("fuse", short_help="Fusing against reading and other ways.")
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help=PART)
@click.option(
    "--members", type=click.IntRange(2), default=10, show_default=True, help="How many to fuse."
)
@click.option(
    "--images",
    type=click.IntRange(4),
    default=2000,
    show_default=True,
    help="Images per member.",
)
@click.option(
    "--pixels",
    type=click.IntRange(1 << 16),
    default=4_000_000,
    show_default=True,
    help="Pixels to stack.",
)
@rounds_option(7)
@json_option
def fuse(
    parts: tuple[str, ...], members: int, images: int, pixels: int, rounds: int, as_json: bool
) -> None:
    """Measure fusing on drawn maps of 5 x 64 x 128; needs 5 GB of disk per 1,000 images.

    Stacking is measured on --pixels, memory also on ten times the images.
    """
    from benchmarks.fuse.suite import as_text, bench_fuse
    from benchmarks.fuse.synthetic import Size

    size = Size(members, images, pixels, rounds)
    document = bench_fuse(size, list(dict.fromkeys(parts)) or list(PARTS), log)
    print_result(as_text(document), document, as_json=as_json)
