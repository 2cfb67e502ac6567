"""The project's own definition: the ignored class is neither looked at nor averaged."""

from evaluation.iou import Absent, Protocol, Score, Tables, any_pixel, class_mean, overlap


def masked(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the classes that occur, the ignored class left out.

    Pixels whose truth is the ignored class are dropped. The ignored class guessed on a kept pixel
    is a miss of the true class and nothing else. The same as torchmetrics'
    `MulticlassJaccardIndex(ignore_index=..., average="macro")`, but for sets with nothing to
    count, which are NaN here.

    Args:
        absent: what a class counts that is in neither truth nor guess.
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        scored = any_pixel(counts, ignore)
        return class_mean(overlap(counts, ignore), absent, left_out=ignore, scored=scored)

    return score
