"""`ens bench scale`: an image takes the same time and memory, however many there are."""

import click

from ensemble.cli.options import (
    json_option,
    log,
    print_result,
    rounds_option,
)

DRAWN = "Images a walk over maps drawn in memory; repeatable. [default: 1000, 10000, 100000]"
WORKERS = "Images that 1, 2 and 4 worker processes label; 0 for none."
STORED = "Images a walk over stores on disk, uint8 and float16; repeatable. [default: 1000, 4000]"


@click.command("scale", short_help="Time and memory up to 100,000 images.")
@click.option(
    "--members", type=click.IntRange(1), default=10, show_default=True, help="How many to fuse."
)
@click.option("--images", "drawn", type=click.IntRange(1), multiple=True, help=DRAWN)
@click.option("--stored", type=click.IntRange(0), multiple=True, help=f"{STORED} 0 for none.")
@rounds_option(3)
@click.option("--on-workers", type=click.IntRange(0), default=8192, show_default=True, help=WORKERS)
@json_option
def scale(
    members: int,
    drawn: tuple[int, ...],
    stored: tuple[int, ...],
    rounds: int,
    on_workers: int,
    as_json: bool,
) -> None:
    """Measure fuse, suppress_background and score on maps of 5 x 64 x 128, and extrapolate.

    Each walk is a fresh process. Stores of 10 members take 1.2 GB of disk per 1,000 images. At
    the end, postprocess with a dense CRF by worker processes: speed, and labels against threads'.
    """
    from benchmarks.scale.suite import Sizes, as_text, bench_scale

    on_disk = tuple(size for size in stored or (1000, 4000) if size)
    sizes = Sizes(members, drawn or (1000, 10_000, 100_000), on_disk, rounds, on_workers)
    document = bench_scale(sizes, log)
    print_result(as_text(document), document, as_json=as_json)
