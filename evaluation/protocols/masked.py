"""The project's own definition: the ignored class is neither looked at nor averaged."""

import numpy as np

from evaluation.iou import Protocol, Score, Tables, mean_over_present, overlap


def masked() -> Protocol:
    """Average IoU over the classes that occur, the ignored class left out.

    Pixels whose truth is the ignored class are dropped. The ignored class guessed on a kept pixel
    is a miss of the true class and nothing else. The same as torchmetrics'
    `MulticlassJaccardIndex(ignore_index=..., average="macro")`, but for sets with nothing to
    count, which are NaN here.
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        iou = overlap(counts, ignore)
        if ignore is not None:
            iou[..., ignore] = np.nan
        return Score(iou, mean_over_present(iou))

    return score
