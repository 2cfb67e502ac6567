"""Every picture scored by itself, and the mean over pictures."""

from evaluation.by_picture import ByPicture
from evaluation.iou import Absent
from evaluation.protocols.masked import masked


def per_picture(*, absent: Absent = "skip") -> ByPicture:
    """Score each picture as `masked` does and average over the pictures.

    A picture of one class weighs as much as one of four, and a class weighs by the number of
    pictures it is in; one wrong pixel of a class that a picture lacks costs it a class of IoU 0.
    Pictures without a pixel to score are left out. A class' own number is its mean over the
    pictures where it occurs.

    Args:
        absent: what a class counts that is in neither truth nor guess of a picture.

    Source: torchmetrics' `MulticlassJaccardIndex(ignore_index=..., average="macro")` for each
    picture, then their mean; `masked` says where they differ.
    """
    return ByPicture(masked(absent=absent), first="classes", absent=absent)
