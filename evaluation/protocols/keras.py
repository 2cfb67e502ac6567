"""Keras' definition, under which guessing the ignored class costs a whole class."""

from evaluation.iou import Protocol, Score, Tables, mean_over_present, overlap


def keras() -> Protocol:
    """Average IoU over the classes that occur, the ignored class among them once it is guessed.

    Pixels whose truth is the ignored class are dropped, as in `masked`; but one kept pixel guessed
    as the ignored class adds a class of IoU 0 to the mean. So replacing those guesses raises this
    score even where every replacement is wrong.

    Source: `MeanIoU(ignore_class=...)` in `keras/src/metrics/iou_metrics.py`, Keras 3.15.
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        iou = overlap(counts, ignore)
        return Score(iou, mean_over_present(iou))

    return score
