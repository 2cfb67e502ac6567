"""No pixel is left to the ignored class."""

import numpy as np
from jaxtyping import Int

from evaluation.ground.arrays import Map, Pictures
from evaluation.ground.errors import BadSpec
from postproc.step import Step

CLASS_AXIS = 1


def suppress_background(classes: int, *, ignore: int | None) -> Step:
    """Zero the ignored class and renormalise, so that its pixels go to their second choice.

    Pixels of other labels keep them. Where nothing but the ignored class had a chance, the other
    classes share evenly. A `crf` that follows floors the zeros, so the ignored class may in
    principle come back; put this step after it where that must not happen.

    Args:
        classes: how many there are.
        ignore: the class to suppress; by default the one that is not scored.
    """
    if ignore is None:
        raise BadSpec("no class is ignored here; give --ignore INDEX or write ignore=INDEX")
    if not 0 <= ignore < classes:
        raise BadSpec(f"ignore={ignore}; expected a class from 0 to {classes - 1}")
    others = np.arange(classes) != ignore
    even = (others / others.sum()).astype(np.float32)[:, None, None]

    def apply(maps: Map, _: Pictures | None) -> Map:
        left = maps.copy()
        left[:, ignore] = 0
        total = left.sum(axis=CLASS_AXIS, keepdims=True)
        np.copyto(left, even, where=total == 0)
        winner = left.argmax(axis=CLASS_AXIS)[:, None]
        left /= np.where(total == 0, np.float32(1), total)
        return _won_by(winner, left)

    return Step("maps", "maps", apply)


def _won_by(winner: Int[np.ndarray, "picture 1 row col"], maps: Map) -> Map:
    """Undo ties that rounding has made, in place: a division may merge two neighbouring floats."""
    tied = maps.argmax(axis=CLASS_AXIS)[:, None] != winner
    if tied.any():
        value = np.take_along_axis(maps, winner, CLASS_AXIS)
        raised = np.where(tied, np.nextafter(value, np.float32(np.inf)), value)
        np.put_along_axis(maps, winner, raised, CLASS_AXIS)
    return maps
