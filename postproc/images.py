"""The images that some steps look at beside the maps."""

import numpy as np

from evaluation.core.errors import BadData
from evaluation.core.types import Array

CHANNELS = (1, 3)


def check_images(
    images: Array | None,
    count: int,
    size: tuple[int, ...] | None = None,
    *,
    needed_by: str | None,
    option: str = "--images",
) -> None:
    """Refuse images that are missing where a step needs them, or do not fit the maps.

    Args:
        images: what was given.
        count: how many images the maps are of.
        size: rows and columns of the maps; None where they are not known yet.
        needed_by: the step that needs images; None where none does.
        option: what gives them on the command line.

    Raises:
        BadData: the first thing found.
    """
    if images is None:
        if needed_by:
            raise BadData(f"step {needed_by!r} looks at the images; give them with {option}")
        return
    shape = images.shape
    if images.ndim != 4 or shape[1] not in CHANNELS or images.dtype != np.uint8:
        expected = "uint8 (images, 1 or 3 channels, rows, cols)"
        raise BadData(f"images are {images.dtype} of shape {shape}; expected {expected}")
    if shape[0] != count:
        raise BadData(f"{shape[0]} images for maps of {count}; expected the same images")
    if size is not None and shape[2:] != size:
        met, expected = ("x".join(map(str, sides)) for sides in (shape[2:], size))
        raise BadData(f"images of {met} pixels; expected {expected}, the size of the maps")
