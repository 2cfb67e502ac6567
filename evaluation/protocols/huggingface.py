"""The definition of Hugging Face's `evaluate`: the mean over all labels that occur."""

from evaluation.iou import Absent, Protocol
from evaluation.protocols.keras import keras


def huggingface(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the labels with a union, the ignored class among them once it is guessed.

    Intersection and union are added up over all pictures without the pixels whose truth is
    `ignore_index`; `nanmean` skips the labels that are in neither. Guesses of the ignored class on
    kept pixels are in the union of that label, so the number is that of `keras`.

    Args:
        absent: what a class counts that is in neither truth nor guess; `nan_to_num` of the source
            is applied after its mean and changes no mean.

    Source: `intersect_and_union` and `mean_iou` in `metrics/mean_iou/mean_iou.py` of
    huggingface/evaluate, commit 210d2141.
    """
    return keras(absent=absent)
