"""One PNG a picture: the class index of each pixel, drawn in the classes' colours by a palette."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from evaluation.ground.arrays import Array, Labels
from evaluation.ground.blocks import blocks
from evaluation.ground.classes import Classes
from evaluation.ground.errors import BadData, shown
from evaluation.ground.progress import progress

MOST_BYTES = 200
"""File systems take 255; the ending and what is written beside a file need some."""


def write_pngs(
    folder: Path,
    ids: Sequence[str],
    labelled: Iterable[tuple[slice, Labels]],
    classes: Classes,
) -> None:
    """Write `ID.png` for each picture.

    Args:
        folder: where to; there already.
        ids: the pictures' names.
        labelled: blocks of pictures with their labels, uint8 (picture, row, col).
        classes: their colours become the palette.

    Raises:
        BadData: an id that is no file name.
    """
    for name in ids:
        plain = Path(name).name == name and name.isprintable() and not name.startswith(".")
        if not plain or len(name.encode()) > MOST_BYTES:
            raise BadData(
                f"id {shown(name)} is no file name; expected one without '/' and leading '.', of"
                f" {MOST_BYTES} bytes at most"
            )
    palette = [part for colour in classes.colours for part in ImageColor.getrgb(colour)]
    for block, labels in progress(labelled, "write", len(blocks(len(ids)))):
        for name, picture in zip(ids[block], labels, strict=True):
            image = Image.fromarray(np.ascontiguousarray(picture)).convert("P")
            image.putpalette(palette)
            image.save(folder / f"{name}.png", optimize=False)


def read(folder: Path, ids: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """Yield (id, labels) of each picture."""
    for name in ids:
        with Image.open(folder / f"{name}.png") as image:
            labels: Array = np.asarray(image)
            yield name, labels
