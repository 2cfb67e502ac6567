"""The competition's CSV: `id`, then one column a pixel, row by row, integer labels."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from evaluation.ground.arrays import Array, Labels
from evaluation.ground.blocks import blocks
from evaluation.ground.classes import Classes

DIGITS = tuple(map(str, range(256)))


def write(path: Path, ids: Sequence[str], labels: Labels, classes: Classes) -> None:
    """Write one row a picture.

    Args:
        path: of the CSV.
        ids: the pictures' names.
        labels: uint8 (picture, row, col), a memory map for choice.
        classes: not needed here.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *map(str, range(labels[0].size))])
        for block in blocks(len(labels)):
            rows = np.asarray(labels[block]).reshape(block.stop - block.start, -1)
            for name, row in zip(ids[block], rows, strict=True):
                writer.writerow([name, *map(DIGITS.__getitem__, row.tolist())])


def read(path: Path, shape: tuple[int, int]) -> Iterator[tuple[str, Array]]:
    """Yield (id, labels) of each picture."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        next(reader)
        for name, *values in reader:
            labels: Array = np.array(values, dtype=np.uint8).reshape(shape)
            yield name, labels
