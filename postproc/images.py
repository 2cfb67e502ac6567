"""The pictures that some steps look at beside the maps."""

import numpy as np

from evaluation.core.errors import BadData
from evaluation.core.types import Array

CHANNELS = (1, 3)


def check_pictures(
    pictures: Array | None,
    count: int,
    size: tuple[int, ...] | None = None,
    *,
    needed_by: str | None,
    option: str = "--images",
) -> None:
    """Refuse pictures that are missing where a step needs them, or do not fit the maps.

    Args:
        pictures: what was given.
        count: how many pictures the maps are of.
        size: rows and columns of the maps; None where they are not known yet.
        needed_by: the step that needs pictures; None where none does.
        option: what gives them on the command line.

    Raises:
        BadData: the first thing found.
    """
    if pictures is None:
        if needed_by:
            raise BadData(f"step {needed_by!r} looks at the pictures; give them with {option}")
        return
    shape = pictures.shape
    if pictures.ndim != 4 or shape[1] not in CHANNELS or pictures.dtype != np.uint8:
        expected = "uint8 (pictures, 1 or 3 channels, rows, cols)"
        raise BadData(f"pictures are {pictures.dtype} of shape {shape}; expected {expected}")
    if shape[0] != count:
        raise BadData(f"{shape[0]} pictures for maps of {count}; expected the same pictures")
    if size is not None and shape[2:] != size:
        met, expected = ("x".join(map(str, sides)) for sides in (shape[2:], size))
        raise BadData(f"pictures of {met} pixels; expected {expected}, the size of the maps")
