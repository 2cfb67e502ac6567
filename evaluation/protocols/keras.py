"""Keras' definition, under which guessing the ignored class costs a whole class."""

from evaluation.iou import Absent, Protocol, Score, Tables, any_pixel, class_mean, overlap


def keras(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the classes that occur, the ignored class among them once it is guessed.

    Pixels whose truth is the ignored class are dropped, as in `masked`; but one kept pixel guessed
    as the ignored class adds a class of IoU 0 to the mean. So replacing those guesses raises this
    score even where every replacement is wrong. Sets with nothing to count are NaN here, 0 in
    Keras.

    Args:
        absent: what a class counts that is in neither truth nor guess, the ignored class too.

    Source: `MeanIoU(ignore_class=...)` in `keras/src/metrics/iou_metrics.py`, Keras 3.15.
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        scored = any_pixel(counts, ignore)
        return class_mean(overlap(counts, ignore), absent, left_out=None, scored=scored)

    return score
