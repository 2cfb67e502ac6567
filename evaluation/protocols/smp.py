"""The definition of segmentation_models_pytorch: an absent class counts as found."""

from evaluation.iou import Absent, Protocol
from evaluation.protocols.masked import masked


def smp(*, absent: Absent = "one") -> Protocol:
    """Average IoU over all classes but the ignored one; a class that is absent counts 1.

    `get_stats(mode="multiclass", ignore_index=-1)` takes the ignored label only outside the
    classes, so labels are shifted until it is -1; guesses of it on kept pixels are then misses of
    the true class, as in `masked`. This is `reduction="macro"`; its `"micro"` is `micro`.

    Args:
        absent: what a class counts that is in neither truth nor guess; the source's
            `zero_division`, 1 by default.

    Source: `get_stats` and `iou_score` in `segmentation_models_pytorch/metrics/functional.py` of
    qubvel-org/segmentation_models.pytorch, commit 13d5653d.
    """
    return masked(absent=absent)
