"""Suppress the ignored class, so that no pixel is predicted as it."""

import numpy as np

from evaluation.core.errors import BadSpec
from evaluation.core.types import Images, Map
from postproc.renormalise import CLASS_AXIS, renormalise
from postproc.step import Label, Step


def suppress_background(classes: int, *, ignore: Label | None) -> Step:
    """Set the ignored class to 0 and renormalise: its pixels take their second choice.

    Pixels of other labels keep them. Where only the ignored class has a probability above 0, the
    other classes share evenly. A `crf` that follows raises the zeros to its floor, so the ignored
    class may in principle return; put this step after it where that must not happen.

    Args:
        ignore: the class to suppress; by default the one that is not scored.

    Examples:
        >>> maps = np.array([0.6, 0.1, 0.3], np.float32)[None, :, None, None]
        >>> suppress_background(3, ignore=0).apply(maps, None).ravel()
        array([0.  , 0.25, 0.75], dtype=float32)
    """
    if ignore is None:
        raise BadSpec("no class is ignored; give --ignore INDEX or write ignore=INDEX")
    if not 0 <= ignore < classes:
        raise BadSpec(f"ignore={ignore}; expected a class from 0 to {classes - 1}")
    others = (np.arange(classes) != ignore).astype(np.float32)[:, None, None]

    def apply(maps: Map, _: Images | None) -> Map:
        scores = maps.copy()
        scores[:, ignore] = 0
        total = scores.sum(axis=CLASS_AXIS, keepdims=True)
        np.copyto(scores, others, where=total == 0)
        return renormalise(scores)

    return Step("maps", "maps", apply, when_repeated="redundant")
