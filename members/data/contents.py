"""What masks hold: pixels of each class, picture by picture."""

import numpy as np
from jaxtyping import Integer

from evaluation.ground.arrays import Labels
from evaluation.ground.blocks import blocks
from evaluation.ground.classes import UNLABELLED

LABELS = UNLABELLED + 1


def class_pixels(masks: Labels, classes: int) -> Integer[np.ndarray, "picture class"]:
    """Count the pixels of each class in each picture.

    Masks may be a memory map: they are read block by block.

    Args:
        masks: labels 0 to 255, (picture, row, col).
        classes: how many classes there are; pixels with other labels (255) are not counted.
    """
    counts = np.zeros((len(masks), classes), np.int64)
    for block in blocks(len(masks)):
        part = np.asarray(masks[block], np.int64)
        offsets = LABELS * np.arange(len(part))[:, None, None]
        found = np.bincount((part + offsets).ravel(), minlength=LABELS * len(part))
        counts[block] = found.reshape(len(part), LABELS)[:, :classes]
    return counts


def highest_label(masks: Labels) -> int:
    """Return the highest label but 255 that occurs; 0 where nothing is labelled."""
    highest = 0
    for block in blocks(len(masks)):
        part = np.asarray(masks[block])
        labelled = part[part != UNLABELLED]
        highest = max(highest, int(labelled.max(initial=0)))
    return highest
