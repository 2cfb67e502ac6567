"""One IoU of all pixels: intersections over unions, added up over the classes."""

import numpy as np

from evaluation.iou import Protocol, Score, Tables, intersection_and_union, shares


def micro() -> Protocol:
    """Divide the sum of the classes' intersections by the sum of their unions.

    The ignored class is left out of both sums; guessing it on a kept pixel is a miss of the true
    class. A wrong pixel is in two unions, and classes weigh by their pixels, so a rare class
    hardly counts. No class is averaged, so none can be absent.

    Source: `MulticlassJaccardIndex(average="micro", ignore_index=...)`, torchmetrics 1.9; also
    `reduction="micro"` of segmentation_models_pytorch.
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        hits, union = intersection_and_union(counts, ignore)
        iou = shares(hits, union)
        if ignore is not None:
            union[..., ignore] = 0
            iou[..., ignore] = np.nan
        pooled = shares(np.asarray(hits.sum(axis=-1)), np.asarray(union.sum(axis=-1)))
        return Score(iou, pooled, absent=None)

    return score
