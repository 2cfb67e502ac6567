"""The definition of MMSegmentation's `IoUMetric`."""

from evaluation.iou import Absent, Protocol
from evaluation.protocols.keras import keras


def mmseg(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the labels with a union, the ignored class among them once it is guessed.

    Histograms are added up over all pictures without the pixels whose truth is `ignore_index`, and
    `nanmean` skips the labels that are in neither; the number is that of `keras`. MMSegmentation
    prints it in percent, rounded to two decimals.

    Args:
        absent: what a class counts that is in neither truth nor guess; `zero` and `one` are the
            metric's `nan_to_num=0` and `nan_to_num=1`, which it applies before its mean.

    Source: `IoUMetric` in `mmseg/evaluation/metrics/iou_metric.py`, MMSegmentation 1.x, commit
    01c96235.
    """
    return keras(absent=absent)
