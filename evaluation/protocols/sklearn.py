"""Scikit-learn's definition over the kept pixels: a class is whatever occurs in them."""

from evaluation.iou import Absent, Protocol
from evaluation.protocols.keras import keras


def sklearn(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the labels that occur in truth or guess, the ignored class among them.

    Pixels whose truth is the ignored class are taken out before scikit-learn sees any; a kept
    pixel guessed as the ignored class brings its label back in, so the number is that of `keras`.

    Args:
        absent: what a class counts that is in neither truth nor guess; `zero` is what
            `jaccard_score` gives with `labels=range(classes)`.

    Source: `sklearn.metrics.jaccard_score(truth, guess, average="macro")`, scikit-learn 1.9.
    """
    return keras(absent=absent)
