"""Read and write label maps as CSV with a column per pixel, as run-length CSV, and as PNGs.

CSV and PNG files hold the values that the data set's own masks store for the classes.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageColor

from evaluation.core.blocks import blocks
from evaluation.core.classes import NUM_VALUES, UNLABELLED, Classes
from evaluation.core.files import check_file_names
from evaluation.core.progress import progress
from evaluation.core.ragged import Size, Stack
from evaluation.core.types import Array, Labels
from members.data.image_files import read_mask

DIGITS = tuple(map(str, range(256)))

Runs = Int[np.ndarray, "run 3"]


def write_pngs(
    folder: Path, ids: Sequence[str], labelled: Iterable[tuple[slice, Labels]], classes: Classes
) -> None:
    """Write `ID.png` per image: the classes' stored values, with their colours as palette.

    Args:
        folder: must exist.
        ids: of the images.
        labelled: blocks of images with their labels, uint8 (image, row, col).
        classes: their stored values and colours.

    Raises:
        BadData: an id that cannot be a file name.
    """
    check_file_names(ids)
    palette = np.zeros((NUM_VALUES, 3), np.uint8)
    palette[list(classes.values)] = [ImageColor.getrgb(colour)[:3] for colour in classes.colours]
    for block, labels in progress(labelled, "write", len(blocks(len(ids)))):
        for name, image in zip(ids[block], labels, strict=True):
            png = Image.fromarray(classes.stored(np.asarray(image))).convert("P")
            png.putpalette(palette.ravel().tolist())
            png.save(folder / f"{name}.png", optimize=False)


def read_label_pngs(
    folder: Path, ids: Sequence[str], classes: Classes
) -> Iterator[tuple[str, Array]]:
    """Yield (id, labels) per image."""
    for name in ids:
        yield name, classes.indices(read_mask(folder / f"{name}.png"))


def write_pixels_csv(path: Path, ids: Sequence[str], labels: Labels, classes: Classes) -> None:
    """Write one row per image: `id`, then one column per pixel, row by row.

    Args:
        path: of the CSV.
        ids: of the images.
        labels: uint8 (image, row, col); may be a memory map.
        classes: their stored values.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *map(str, range(labels[0].size))])
        for block in blocks(len(labels)):
            rows = classes.stored(np.asarray(labels[block])).reshape(block.stop - block.start, -1)
            for name, row in zip(ids[block], rows, strict=True):
                writer.writerow([name, *map(DIGITS.__getitem__, row.tolist())])


def read_pixels_csv(
    path: Path, shape: tuple[int, int], classes: Classes
) -> Iterator[tuple[str, Array]]:
    """Yield (id, labels) per image."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        next(reader)
        for name, *values in reader:
            yield name, classes.indices(np.array(values, dtype=np.uint8).reshape(shape))


def write_rle_csv(path: Path, ids: Sequence[str], labels: Stack, classes: Classes) -> None:
    """Write one row per image and class that occurs in it: `id,class,runs`.

    `runs` is `start length start length ...`, as competitions on Kaggle take them: pixels are
    numbered from 1, down the first column, then down the second.

    Args:
        path: of the CSV.
        ids: of the images.
        labels: uint8 (image, row, col); may be a memory map.
        classes: their names go to the column `class`.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "class", "runs"])
        for name, image in zip(ids, labels, strict=True):
            runs = _runs(np.asarray(image))
            for label in np.unique(runs[:, 0]):
                of_class = runs[runs[:, 0] == label, 1:]
                writer.writerow([name, classes.names[label], " ".join(map(str, of_class.ravel()))])


def read_rle_csv(
    path: Path, sizes: Sequence[Size], classes: Classes
) -> Iterator[tuple[str, Array]]:
    """Yield (id, labels) per image, of these sizes; pixels outside all runs are 255."""
    with path.open(newline="", encoding="utf-8") as file:
        records = _rle_records(file)
        next(records)
        by_image = groupby(records, key=lambda record: record[0])
        for (name, lines), (rows, cols) in zip(by_image, sizes, strict=False):
            flat: Array = np.full(rows * cols, UNLABELLED, np.uint8)
            for _, class_name, text in lines:
                values = np.array(text.split(), np.int64)
                starts, lengths = values[::2] - 1, values[1::2]
                # +1 where a run starts, -1 after its end.
                inside = np.zeros(rows * cols + 1, np.int64)
                np.add.at(inside, starts, 1)
                np.add.at(inside, starts + lengths, -1)
                flat[inside.cumsum()[:-1] > 0] = classes.names.index(class_name)
            yield name, flat.reshape(cols, rows).T


def _rle_records(file: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the three fields of each record.

    The last one has no quotes and is split off here: csv reads no field of more than 131,072
    characters unless a limit is raised that all readers of the process share.
    """
    record = ""
    for line in file:
        record += line
        if record.count('"') % 2:  # a line break inside quotes
            continue
        head, _, runs = record.rstrip("\r\n").rpartition(",")
        ((name, class_name),) = csv.reader(io.StringIO(head, newline=""))
        yield name, class_name, runs
        record = ""


def _runs(image: UInt8[np.ndarray, "row col"]) -> Runs:
    """Return label, start (from 1) and length of each run."""
    flat = image.T.ravel()
    starts = np.flatnonzero(np.diff(flat.astype(np.int64), prepend=-1))
    lengths = np.diff(starts, append=flat.size)
    return np.stack([flat[starts].astype(np.int64), starts + 1, lengths], axis=1)
