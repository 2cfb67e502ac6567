"""Tables of run lengths, as Kaggle's competitions give masks: one row per image and class.

A run is a first pixel, counted from 1 and column by column, and a length. A table cannot tell
whether its runs go by rows; Kaggle's go by columns.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadLabels, format_count, shorten
from evaluation.core.ragged import Size
from evaluation.core.text_files import read_heading, read_table
from evaluation.core.types import Array
from members.data.file_tree import FileTree
from members.data.folder_pairs import split_of
from members.data.image_files import id_of
from members.data.layouts import MAX_SHOWN, TEST, TRAINING, Item, Layout, LayoutOptions

RUNS_COLUMNS = ("encodedpixels", "rle_mask", "rle", "annotation", "segmentation")
COMBINED_COLUMNS = ("imageid_classid", "image_label")
ID_COLUMNS = ("imageid", "image_id", "img", "image", "id", "filename", *COMBINED_COLUMNS)
CLASS_COLUMNS = ("classid", "class_id", "class", "label")
NAMES = ("background", "foreground")
EMPTY = ("", "-1", "nan")

Rows = dict[str, dict[str, list[str]]]
"""Runs by class, by image."""


def recognise(tree: FileTree, options: LayoutOptions) -> Layout | None:
    """Recognise a CSV with a column of runs (`EncodedPixels`, `rle`) beside the images.

    Raises:
        BadData: tables that are malformed, or images without a row.
    """
    del options
    tables = [file for file in tree.files if file.suffix.lower() == ".csv"]
    found = {file: rows for file in tables if (rows := _read(tree.root / file)) is not None}
    found = {file: rows for file, rows in found.items() if "submission" not in file.name.lower()}
    if not found or not tree.images:
        return None
    if len(found) > 1:
        shown = " and ".join(map(str, found))
        raise BadData(f"{tree.root} holds tables of runs {shown}; keep the one with the masks")
    ((table, rows),) = found.items()
    classes = sorted({name for runs in rows.values() for name in runs}, key=_by_number)
    splits: dict[str, list[Item]] = {}
    for file in tree.images:
        name = id_of(file)
        if name in rows:
            drawn = partial(draw, rows[name], classes, f"{table}: {name}")
            splits.setdefault(TRAINING, []).append(Item(name, tree.root / file, drawn))
        elif split_of(file) == TEST:
            splits.setdefault(TEST, []).append(Item(name, tree.root / file))
        else:
            raise BadData(
                f"{tree.root / file} has no row in {table}; add an empty one where it shows no"
                " object, or move images without labels to test/"
            )
    missing = sorted(rows.keys() - {id_of(file) for file in tree.images})
    if missing:
        raise BadData(
            f"{table} lists {format_count(len(missing), 'image')} that {tree.root} lacks (first:"
            f" {', '.join(missing[:MAX_SHOWN])}); add them or remove the rows"
        )
    if not classes:
        raise BadData(f"{table} holds no runs; expected one object in one image at least")
    if "" in classes and len(classes) > 1:
        raise BadData(f"{table} holds runs without a class; expected one in each row, or in none")
    names = NAMES if classes == [""] else (NAMES[0], *classes)
    known = Classes(names, foreground=1 if len(names) == len(NAMES) else None)
    why = f"runs in {table}, column by column from 1; pixels without a run are background"
    return Layout("rle", why, {split: tuple(items) for split, items in splits.items()}, known)


def _read(path: Path) -> Rows | None:
    """Return the runs of a table; None of any other, which need not even be text."""
    columns = {name.strip().lower(): name for name in read_heading(path)}
    runs, ids, by_class = (
        next((columns[key] for key in keys if key in columns), None)
        for keys in (RUNS_COLUMNS, ID_COLUMNS, CLASS_COLUMNS)
    )
    if runs is None or ids is None:
        return None
    combined = ids.strip().lower() in COMBINED_COLUMNS
    rows: Rows = {}
    for row in read_table(path):
        name, label = row[ids], row[by_class] if by_class else ""
        if combined:
            name, _, label = name.rpartition("_")
        by_label = rows.setdefault(id_of(Path(name)), {})
        if row[runs].strip().lower() not in EMPTY:
            by_label.setdefault(label, []).append(row[runs])
    return rows


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)


def draw(runs: dict[str, list[str]], classes: Sequence[str], where: str, size: Size) -> Array:
    """Draw runs into a mask: 0 where there are none, else 1 + the position of their class.

    Raises:
        BadLabels: runs that leave the image, or of two classes on one pixel.

    Examples:
        >>> draw({"": ["1 2 5 1"]}, [""], "a", (2, 3))
        array([[1, 0, 1],
               [1, 0, 0]], dtype=uint8)
    """
    mask = np.zeros(size[0] * size[1], np.uint8)
    for value, name in enumerate(classes, 1):
        for text in runs.get(name, []):
            try:
                numbers = np.array(text.split(), np.int64).reshape(-1, 2)
            except (ValueError, OverflowError):
                raise BadLabels(
                    f"{where}: runs {shorten(text)}; expected pairs of first pixel and length"
                ) from None
            for start, length in numbers.tolist():
                stop = start - 1 + length
                if start < 1 or length < 1 or stop > len(mask):
                    raise BadLabels(
                        f"{where}: run {start} {length} leaves the image of {len(mask)} pixels;"
                        " expected first pixels from 1"
                    )
                part = mask[start - 1 : stop]
                if not np.isin(part, (0, value)).all():
                    raise BadLabels(f"{where}: runs of two classes overlap; expected one per pixel")
                part[:] = value
    return mask.reshape(size, order="F")
