"""Masks that many pictures share, the sign by which foreign pictures are found."""

from collections import defaultdict
from hashlib import blake2b

import numpy as np
from jaxtyping import Integer

from evaluation.ground.arrays import Kept, Labels

SHARED_BY = 10

Places = Integer[np.ndarray, "place"]


def shared_masks(
    masks: Labels, *, at_least: int = SHARED_BY, constant: bool = False
) -> list[Places]:
    """Find the masks that many pictures share, pixel by pixel.

    People do not draw the same outline ten times, so a mask with an outline that ten pictures
    share was pasted, and what it is pasted on are outliers. A constant mask (all soil) is shared by
    many clean pictures.

    Args:
        masks: class index per pixel, (picture, row, col).
        at_least: how many pictures make many.
        constant: look for masks of one value instead of masks with an outline.

    Returns:
        The places of the pictures for each such mask, ascending; the most shared mask first.
    """
    found = [
        np.array(places)
        for places in identical(masks)
        if len(places) >= at_least and _is_constant(masks[places[0]]) == constant
    ]
    return sorted(found, key=len, reverse=True)


def clean(masks: Labels, *, at_least: int = SHARED_BY) -> Kept:
    """Tell which pictures are no outliers: True for those to keep."""
    kept = np.ones(len(masks), bool)
    for places in shared_masks(masks, at_least=at_least):
        kept[places] = False
    return kept


def identical(arrays: Integer[np.ndarray, "picture ..."]) -> list[list[int]]:
    """Group the places of arrays that are equal in every value; single ones are left out."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, array in enumerate(arrays):
        # A digest instead of the bytes: memory stays flat however many pictures there are.
        places[blake2b(array.tobytes()).digest()].append(place)
    return [same for same in places.values() if len(same) > 1]


def _is_constant(mask: np.ndarray) -> bool:
    return bool((mask == mask.flat[0]).all())
