"""Pixels that an operation on label maps fixes, breaks, or moves from one wrong label to another.

A gain in mean IoU hides how it came about: a step may fix as many pixels as it breaks, or fix soil
and break big rock.
"""

import numpy as np
from jaxtyping import Int64

from evaluation.ground.arrays import Array
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadLabels

CHANGES = ("fixed", "broken", "moved")
"""The columns: wrong becomes right, right becomes wrong, wrong becomes another wrong."""

FIXED, BROKEN, MOVED = range(3)

Changes = Int64[np.ndarray, "true change"]


def changes(
    truth: Array, before: Array, after: Array, *, classes: int, ignore: int | None
) -> Changes:
    """Count the scored pixels whose label changes, by true class and by what that is worth.

    Fixed minus broken is the change in right pixels. Counts add up: over blocks of pictures, and,
    for fixed minus broken, over the steps of a chain. A pixel that one step breaks and the next
    one fixes is in both.

    Args:
        truth: class index per pixel, (picture, row, col); 255 where the annotators gave none.
        before: labels before the step, same shape.
        after: labels after it, same shape.
        classes: how many classes there are.
        ignore: pixels of this true class are in none of the counts; None leaves out none.

    Returns:
        Pixels, (true class, change), the changes in the order of `CHANGES`.

    Raises:
        BadLabels: shapes that differ, or truth outside the classes.
    """
    _check(truth, before, after, classes)
    changed = before != after
    true, old, new = truth[changed].astype(np.intp), before[changed], after[changed]
    kind = np.select([new == true, old == true], [FIXED, BROKEN], MOVED)
    scored = true != UNLABELLED
    if ignore is not None:
        scored &= true != ignore
    cells = true[scored] * len(CHANGES) + kind[scored]
    counted = np.bincount(cells, minlength=classes * len(CHANGES))
    return counted.reshape(classes, len(CHANGES)).astype(np.int64)


def _check(truth: Array, before: Array, after: Array, classes: int) -> None:
    for name, labels in (("before", before), ("after", after)):
        if labels.shape != truth.shape:
            raise BadLabels(f"{name} has shape {labels.shape}; expected {truth.shape} as in truth")
    strange = np.unique(truth[(truth >= classes) & (truth != UNLABELLED)])
    if len(strange):
        raise BadLabels(
            f"truth holds {strange.tolist()}; expected 0 to {classes - 1} and {UNLABELLED}"
        )
