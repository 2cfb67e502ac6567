"""No pixel is left to the ignored class."""

import numpy as np

from evaluation.core.errors import BadSpec
from evaluation.core.types import Images, Map
from postproc.renormalise import CLASS_AXIS, renormalise
from postproc.step import Step


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
    others = (np.arange(classes) != ignore).astype(np.float32)[:, None, None]

    def apply(maps: Map, _: Images | None) -> Map:
        left = maps.copy()
        left[:, ignore] = 0
        total = left.sum(axis=CLASS_AXIS, keepdims=True)
        np.copyto(left, others, where=total == 0)
        return renormalise(left)

    return Step("maps", "maps", apply, again="nothing")
