"""What a data set holds, and what looks wrong in it, before anything is trained on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.types import Array
from members.data.cleaning.rules import SHARED_BY, identical, shared_masks
from members.data.dataset import LABELS, DataSet, Size, class_pixels
from members.data.load_dataset import load

SHOWN = 5

Document = dict[str, Any]


def inspect(
    path: Path | str, *, classes: Classes | None = None, size: Size | None = None
) -> Document:
    """Describe a data set as a JSON document.

    Args:
        path: see `members.data.load_dataset.load`, like the options.
        classes: what the labels mean.
        size: rows and columns to bring all images to.

    Returns:
        `data`, and for each set in `sets`: `images`, `channels`, `rows`, `cols`, `groups`, grey
        levels, `identical_images`, and of labelled sets `classes` (share of pixels, images that
        hold it), `unlabelled` and `shared_masks`.

    Raises:
        BadData, BadLabels: what cannot be loaded.
    """
    sets = load(path, classes=classes, size=size)
    return {"data": str(path), "sets": {name: describe(data) for name, data in sets.items()}}


def describe(data: DataSet) -> Document:
    """Describe one set; see `inspect`."""
    rows, cols = data.shape
    document: Document = {
        "images": len(data),
        "channels": data.channels,
        "rows": rows,
        "cols": cols,
        "groups": None if data.groups is None else _groups(data.groups),
        "levels": _levels(data),
        "identical_images": [
            {"images": len(places), "ids": [data.ids[place] for place in places[:SHOWN]]}
            for places in identical(data.images)
        ],
    }
    return document if data.masks is None else document | _labels(data)


def as_text(document: Document) -> str:
    """Write the document of `inspect` for people."""
    lines = [document["data"]]
    for name, one in document["sets"].items():
        lines += ["", *_set_lines(name, one)]
    return "\n".join(lines)


def _groups(groups: Array) -> Document:
    _, sizes = np.unique(groups, return_counts=True)
    return {"number": len(sizes), "smallest": int(sizes.min()), "largest": int(sizes.max())}


def _levels(data: DataSet) -> Document:
    # Image by image, so that a memory map larger than memory is no trouble.
    means = np.array([float(image.mean()) for image in data.images])
    return {"mean": means.mean(), "darkest": means.min(), "brightest": means.max()}


def _labels(data: DataSet) -> Document:
    masks = data.target()
    pixels = class_pixels(masks, LABELS)
    share, held = pixels.sum(axis=0) / pixels.sum(), (pixels > 0).sum(axis=0)
    names, ignore = data.classes.names, data.classes.ignore
    return {
        "classes": [
            {
                "name": name,
                "scored": label != ignore,
                "share": float(share[label]),
                "images": int(held[label]),
            }
            for label, name in enumerate(names)
        ],
        "background": float(share[UNLABELLED] + (0 if ignore is None else share[ignore])),
        "unlabelled": {"share": float(share[UNLABELLED]), "images": int(held[UNLABELLED])},
        "shared_masks": [
            _shared(data, places, constant)
            for constant in (False, True)
            for places in shared_masks(masks, constant=constant)
        ],
    }


def _shared(data: DataSet, places: Array, constant: bool) -> Document:
    values = [int(value) for value in np.unique(data.target()[places[0]])]
    names = data.classes.names
    return {
        "images": len(places),
        "constant": constant,
        "holds": [names[value] if value < len(names) else "unlabelled" for value in values],
        "ids": [data.ids[place] for place in places[:SHOWN]],
    }


def _set_lines(name: str, one: Document) -> Iterator[str]:
    grey = {1: "grey", 3: "colour"}[one["channels"]]
    yield f"{name}: {one['images']} {grey} images of {one['rows']}x{one['cols']}"
    levels = one["levels"]
    yield (
        f"  levels: mean {levels['mean']:.0f}, darkest image {levels['darkest']:.0f},"
        f" brightest {levels['brightest']:.0f}"
    )
    if one["groups"] is None:
        yield "  groups: none"
    else:
        groups = one["groups"]
        sizes = f"{groups['smallest']} to {groups['largest']} images each"
        yield f"  groups: {groups['number']}, {sizes}"
    same = one["identical_images"]
    yield f"  identical images: {_times(same)}"
    if "classes" not in one:
        yield "  masks: none"
        return
    yield from _label_lines(one)


def _label_lines(one: Document) -> Iterator[str]:
    yield f"  background or unlabelled: {one['background']:.1%} of the pixels"
    width = max(len(entry["name"]) for entry in one["classes"])
    for entry in one["classes"]:
        ignored = "" if entry["scored"] else ", not scored"
        yield (
            f"  {entry['name']:{width}}  {entry['share']:6.2%} of the pixels,"
            f" in {entry['images']} images{ignored}"
        )
    for entry in one["shared_masks"]:
        verdict = (
            "clean: one value" if entry["constant"] else "outliers: an outline nobody draws twice"
        )
        yield (
            f"  one mask shared by {entry['images']} images ({', '.join(entry['holds'])};"
            f" first: {entry['ids'][0]}): {verdict}"
        )
    if not one["shared_masks"]:
        yield f"  masks shared by {SHARED_BY} images or more: none"


def _times(same: list[Document]) -> str:
    if not same:
        return "none"
    first = " = ".join(same[0]["ids"][:2])
    return f"{sum(entry['images'] for entry in same)} in {len(same)} sets (first: {first})"
