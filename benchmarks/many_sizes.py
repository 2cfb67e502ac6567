"""Time of `ens fuse`, `postprocess` and `score` on images of hundreds of sizes and of one size.

.venv/bin/python -m benchmarks.many_sizes
"""

import contextlib
import io
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from benchmarks.command import run_command
from benchmarks.synthetic import CLASSES, cell_shape, cells, draw_maps_of
from ensemble.cli import run_command as ens
from ensemble.cli.options import json_option, log, print_result, rounds_option
from ensemble.pipeline.bench.timing import compared, interleaved, machine
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import IMPORTED
from evaluation.core.blocks import blocks
from evaluation.core.classes import numbered
from evaluation.core.errors import BadRun
from evaluation.core.files import write_json
from evaluation.core.progress import Log
from evaluation.core.ragged import Extent, Size, empty_stack
from evaluation.core.run_folder import OOF, Run
from members.data.dataset import DataSet, write_classes
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds

COMMANDS = {
    "fuse, mean": "fuse --strategy mean",
    "fuse, stacking": "fuse --strategy stacking",
    "postprocess": "postprocess --fusion mean --chain mode_filter|remove_small --name cleaned",
    "score": f"score --split {OOF}",
}
MADE = {"fuse": "fused", "postprocess": "labels", "score": "scores"}
MEMBERS = ("one", "two")
ONE, MANY = "one size", "many sizes"
SEED, TOLERANCE = 0, 0.01


@click.command("many_sizes")
@click.option("--images", type=click.IntRange(2), default=2000, show_default=True, help="Images.")
@click.option("--sizes", type=click.IntRange(2), default=500, show_default=True, help="Sizes.")
@click.option("--rows", type=click.IntRange(16), default=64, show_default=True, help="Mean rows.")
@click.option("--cols", type=click.IntRange(16), default=128, show_default=True, help="Mean cols.")
@rounds_option(5)
@json_option
def many_sizes(images: int, sizes: int, rows: int, cols: int, rounds: int, as_json: bool) -> None:
    """Time commands on images of many sizes, against images of one size of as many pixels."""
    document = bench_many_sizes(images, sizes, (rows, cols), rounds, log)
    print_result(format_many_sizes(document), document, as_json=as_json)


def bench_many_sizes(
    images: int, sizes: int, mean_size: Size, rounds: int, log: Log
) -> dict[str, Any]:
    """Time whole commands in this process, on two runs in turns.

    Args:
        images: of each run; 5 classes, two members with stores of float16, 2 folds.
        sizes: different sizes of the images of one of the runs; the other one has one.
        mean_size: rows and columns of the one size; the mean area of the others is within a percent
            of its area.
        rounds: measurements per command and run.
        log: receives a line per command.

    Returns:
        A JSON document: the machine, the numbers of images, sizes and pixels, and for each command
        seconds and ratios of both runs; see `compared`.

    Raises:
        BadRun: a command failed.
    """
    extents = {
        ONE: Extent.uniform(images, mean_size),
        MANY: _draw_extent(images, sizes, mean_size),
    }
    commands = {}
    with TemporaryDirectory() as name:
        runs = {kind: Run(Path(name) / kind.replace(" ", "-")) for kind in extents}
        for kind, run in runs.items():
            write_run(run, extents[kind])
        for what, line in COMMANDS.items():
            log(f"{what}: {rounds} rounds")
            contenders = {kind: _command(line, run) for kind, run in runs.items()}
            commands[what] = compared(interleaved(contenders, rounds, clock=time.process_time), ONE)
    return {
        "machine": machine(),
        "images": images,
        "sizes": sizes,
        "classes": CLASSES,
        "pixels": {kind: extent.pixels for kind, extent in extents.items()},
        "rounds": rounds,
        "commands": commands,
    }


def format_many_sizes(document: dict[str, Any]) -> str:
    """Return what `bench_many_sizes` returns as a table."""
    lines = [f"{document['images']} images; {document['sizes']} sizes against one"]
    lines.append(f"{'':18}{'one size, ms':>14}{'many sizes, ms':>16}{'ratio':>8}{'of minima':>11}")
    for name, sides in document["commands"].items():
        one, many = sides[ONE], sides[MANY]
        lines.append(
            f"{name:18}{1000 * one['median_s']:14.0f}{1000 * many['median_s']:16.0f}"
            f"{many['ratio']:8.2f}{many['ratio_of_minima']:11.2f}"
        )
    return "\n".join(lines)


def _command(line: str, run: Run) -> Callable[[], None]:
    words = [*line.split(), "--run", str(run.path)]
    made = run.path / MADE[words[0]]
    made = made / words[2] if words[0] == "fuse" else made
    removed = (run.path.with_name(f"removed-{run.path.name}-{made.name}-{k}") for k in count())

    def call() -> None:
        if made.exists():
            made.rename(next(removed))  # to remove hundreds of folders takes time too
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            status = ens(words)
        if status:
            raise BadRun(f"`ens {' '.join(words)}` failed: {output.getvalue()}")

    return call


def _draw_extent(images: int, sizes: int, mean_size: Size) -> Extent:
    """Draw distinct sizes whose mean area is close to that of one, with as many images each."""
    rng = np.random.default_rng(SEED)
    counts = [len(part) for part in np.array_split(np.arange(images), sizes)]
    while True:
        drawn = np.rint(rng.uniform(0.6, 1.4, (2 * sizes, 2)) * mean_size).astype(int)
        distinct = list(dict.fromkeys((int(rows), int(cols)) for rows, cols in drawn))
        extent = Extent(tuple(zip(counts, distinct, strict=False)))
        pixels = images * mean_size[0] * mean_size[1]
        if len(extent) == images and abs(extent.pixels / pixels - 1) < TOLERANCE:
            return extent


def write_run(run: Run, extent: Extent) -> None:
    """Write a run of one split, its images and the maps of two members, as if imported."""
    rng = np.random.default_rng(SEED)
    classes = numbered(CLASSES, ignore=0)
    ids = tuple(f"{index:05}" for index in range(len(extent)))
    images, masks = empty_stack(extent, np.uint8, (1,)), empty_stack(extent, np.uint8)
    for block in blocks(extent):
        shape = (block.stop - block.start, *extent.size_of(block.start))
        labels = cells(rng.integers(0, CLASSES, (shape[0], *cell_shape(shape))), shape)
        masks[block] = labels
        images[block] = (50 * labels)[:, None]
    write_classes(run.classes, classes)
    DataSet(images, masks, ids, None, classes).save(run.data(OOF))
    write_json(run.folds, {"folds": 2, "fold": [index % 2 for index in range(len(extent))]})
    Experiment(folds=2).write(run.experiment)
    for name in MEMBERS:
        with ProbabilityStore.writing(
            run.probabilities(name, OOF),
            config={IMPORTED: True, "member": name},
            input_digests={},
            ids=ids,
            classes=classes,
            extent=extent,
            seen=TrainingIds((frozenset(),)),
        ) as store:
            for block in blocks(extent):
                store.write(block, draw_maps_of(rng, masks[block], CLASSES))


if __name__ == "__main__":
    run_command(many_sizes, "benchmarks.many_sizes")
