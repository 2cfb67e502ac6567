"""The truth as a specialist sees it."""

import numpy as np

from evaluation.ground.arrays import Labels
from evaluation.ground.classes import UNLABELLED


def binary_truth(truth: Labels, label: int, *, ignore: int | None) -> Labels:
    """Tell one class from all others.

    Pixels without a label (255, or of the ignored class) are positives for the specialist of the
    ignored class, and unlabelled for the others.

    Args:
        truth: class index per pixel.
        label: the specialist's class.
        ignore: the ignored class, or None.

    Returns:
        uint8: 1 where the class is, 0 where another one is, 255 where nobody says.
    """
    unlabelled = truth == UNLABELLED if ignore is None else np.isin(truth, (ignore, UNLABELLED))
    if label == ignore:
        return unlabelled.astype(np.uint8)
    return np.where(unlabelled, UNLABELLED, truth == label).astype(np.uint8)
