"""Run lengths as CSV, as competitions on Kaggle take them: `id,class,runs`.

`runs` is `start length start length ...`. Pixels are numbered from 1 on, down the first column,
then down the second. Each picture has a row for each class that occurs in it.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from evaluation.ground.arrays import Array, Labels
from evaluation.ground.classes import UNLABELLED, Classes

Runs = Int[np.ndarray, "run 3"]


def write(path: Path, ids: Sequence[str], labels: Labels, classes: Classes) -> None:
    """Write one row a picture and class.

    Args:
        path: of the CSV.
        ids: the pictures' names.
        labels: uint8 (picture, row, col), a memory map for choice.
        classes: their names stand in the column `class`.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "class", "runs"])
        for name, picture in zip(ids, labels, strict=True):
            runs = _runs(np.asarray(picture))
            for label in np.unique(runs[:, 0]):
                own = runs[runs[:, 0] == label, 1:]
                writer.writerow([name, classes.names[label], " ".join(map(str, own.ravel()))])


def read(path: Path, shape: tuple[int, int], classes: Classes) -> Iterator[tuple[str, Array]]:
    """Yield (id, labels) of each picture; 255 where no run lies."""
    rows, cols = shape
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        next(reader)
        for name, lines in groupby(reader, key=lambda line: line[0]):
            flat: Array = np.full(rows * cols, UNLABELLED, np.uint8)
            for _, known, text in lines:
                values = np.array(text.split(), np.int64)
                starts, lengths = values[::2] - 1, values[1::2]
                # One up where a run starts, one down after its end.
                inside = np.zeros(rows * cols + 1, np.int64)
                np.add.at(inside, starts, 1)
                np.add.at(inside, starts + lengths, -1)
                flat[inside.cumsum()[:-1] > 0] = classes.names.index(known)
            yield name, flat.reshape(cols, rows).T


def _runs(picture: UInt8[np.ndarray, "row col"]) -> Runs:
    """Return label, start from 1 and length of each run."""
    flat = picture.T.ravel()
    starts = np.flatnonzero(np.diff(flat.astype(np.int64), prepend=-1))
    lengths = np.diff(starts, append=flat.size)
    return np.stack([flat[starts].astype(np.int64), starts + 1, lengths], axis=1)
