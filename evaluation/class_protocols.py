"""Protocols that measure given classes, or Dice, precision or recall instead of IoU.

They need options or the class names, so that no list of all protocols has them; `--protocol`, the
metric of a run and the Python API take them like any other.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from evaluation.core.classes import Classes
from evaluation.core.errors import BadSpec, unknown
from evaluation.iou import (
    Absent,
    PerClass,
    Protocol,
    Score,
    Tables,
    any_pixel,
    class_mean,
    dice_of,
    iou_per_class,
    overlaps,
    precision_of,
    recall_of,
)
from evaluation.protocols import PerImageProtocol, masked

Per = Literal["set", "image"]
ClassRef = Annotated[int, Field(strict=True, ge=0, le=254)] | Annotated[str, Field(strict=True)]
"""A class's name, or its index."""


def dice(*, per: Per = "set", absent: Absent = "skip") -> Protocol:
    """Average the Dice coefficients of the scored classes.

    A class's is 2 intersection / (target + prediction), in pixels. Pixels whose target is the
    ignored class are dropped; the ignored class predicted on a scored pixel is a miss of the target
    class.

    Args:
        per: `set` sums the pixels of all images first; `image` scores each image, then averages
            the images, of which those without a scored pixel are left out.
        absent: value of a class in neither target nor prediction of the set or image.

    References:
        Torchmetrics' `DiceScore(average="macro", aggregation_level="global")`, or `samplewise`.

    Examples:
        >>> counts = np.array([[8, 2], [0, 2]])
        >>> dice()(counts, None).iou.round(3), float(dice()(counts, None).miou.round(3))
        (array([0.889, 0.667]), 0.778)
    """
    return _class_mean_of(dice_of, per, absent)


def precision(*, per: Per = "set", absent: Absent = "skip") -> Protocol:
    """Average the precision of the scored classes: the share of their predictions that is right.

    A class of the target that is never predicted has precision 0, so that leaving a class out does
    not pay. Pixels whose target is the ignored class are dropped, and its predictions elsewhere are
    no class's.

    Args:
        per: `set` sums the pixels of all images first; `image` scores each image, then averages
            the images, of which those without a scored pixel are left out.
        absent: value of a class in neither target nor prediction of the set or image.

    References:
        `sklearn.metrics.precision_score(average="macro", zero_division=0)` over the scored classes
        that occur, scikit-learn 1.9; `MulticlassPrecision(average="macro")`, torchmetrics 1.9.

    Examples:
        >>> counts = np.array([[8, 2], [0, 2]])
        >>> precision()(counts, None).iou, float(precision()(counts, None).miou)
        (array([1. , 0.5]), 0.75)
    """
    return _class_mean_of(precision_of, per, absent)


def recall(*, per: Per = "set", absent: Absent = "skip") -> Protocol:
    """Average the recall of the scored classes: the share of their target pixels that is predicted.

    A class that is predicted but not in the target has recall 0. Pixels whose target is the ignored
    class are dropped; the ignored class predicted on a scored pixel is a miss of the target class.

    Args:
        per: `set` sums the pixels of all images first; `image` scores each image, then averages
            the images, of which those without a scored pixel are left out.
        absent: value of a class in neither target nor prediction of the set or image.

    References:
        `sklearn.metrics.recall_score(average="macro", zero_division=0)` over the scored classes
        that occur, scikit-learn 1.9; `MulticlassRecall(average="macro")`, torchmetrics 1.9.

    Examples:
        >>> counts = np.array([[8, 2], [0, 2]])
        >>> recall()(counts, None).iou, float(recall()(counts, None).miou)
        (array([0.8, 1. ]), 0.9)
    """
    return _class_mean_of(recall_of, per, absent)


def iou(classes: Classes, *, of: ClassRef) -> Protocol:
    """Take the IoU of one class over the whole set.

    The IoU of every scored class is listed. The number is NaN where the class is in neither target
    nor prediction.

    Args:
        of: name or index of the class, such as the foreground of binary masks.

    Examples:
        An all-foreground prediction scores the share of the foreground.

        >>> nuclei = Classes(("background", "nucleus"))
        >>> float(iou(nuclei, of="nucleus")(np.array([[0, 8], [0, 2]]), None).miou)
        0.2
    """
    index, mean = scored_class(of, classes), masked()

    def score(counts: Tables, ignore: int | None) -> Score:
        values = mean(counts, ignore).iou
        return Score(values, np.asarray(values[..., index]), absent=None)

    return score


def foreground(classes: Classes, *, but: ClassRef, absent: Absent = "skip") -> Protocol:
    """Average IoU over the scored classes but one, the background, whose pixels are scored.

    A class predicted on a background pixel is a false positive; the pixels of an ignored class are
    dropped instead.

    Args:
        but: name or index of the class that is not averaged.
        absent: value of a class in neither target nor prediction.

    Examples:
        >>> classes = Classes(("sky", "sand", "rock"))
        >>> counts = np.array([[6, 2, 0], [0, 2, 0], [0, 0, 2]])
        >>> float(foreground(classes, but="sky")(counts, None).miou)
        0.75
    """
    index = scored_class(but, classes)

    def score(counts: Tables, ignore: int | None) -> Score:
        values, scored = iou_per_class(counts, ignore), any_pixel(counts, ignore)
        return class_mean(values, absent, left_out=(index, ignore), scored=scored)

    return score


def scored_class(ref: ClassRef, classes: Classes) -> int:
    """Return the index of a class that is named, or given by index.

    Raises:
        BadSpec: no such class, or the ignored one.
    """
    if isinstance(ref, str):
        if ref not in classes.names:
            raise BadSpec(unknown("class", ref, classes.names))
        index = classes.names.index(ref)
    elif 0 <= ref < len(classes):
        index = ref
    else:
        raise BadSpec(f"class {ref}; expected 0 to {len(classes) - 1}, or a name")
    if index == classes.ignore:
        raise BadSpec(f"class {classes.names[index]!r} is ignored; expected one that is scored")
    return index


def _class_mean_of(
    formula: Callable[[PerClass, PerClass, PerClass], PerClass], per: Per, absent: Absent
) -> Protocol:
    """Average a value per class of hits, target pixels and predicted pixels, per set or image."""

    def score(counts: Tables, ignore: int | None) -> Score:
        values, scored = formula(*overlaps(counts, ignore)), any_pixel(counts, ignore)
        return class_mean(values, absent, left_out=(ignore,), scored=scored)

    return score if per == "set" else PerImageProtocol(score, first="classes", absent=absent)
