"""MONAI's definition: pixels of the background are kept, its class is not averaged."""

import numpy as np

from evaluation.by_picture import ByPicture
from evaluation.iou import Absent, PerClass, Score, Tables, any_pixel, class_mean, overlap


def monai(*, absent: Absent = "skip") -> ByPicture:
    """Average each picture over the classes of its truth, then average the pictures.

    The ignored class takes the place of MONAI's background, channel 0: it is not averaged, but its
    pixels stay, so whatever is guessed there is a false positive of its class, which no other
    protocol counts. Pixels without a label are dropped. Pictures where nothing is averaged are
    left out; where that is all of them, MONAI gives 0 and we give NaN.

    Args:
        absent: `skip` leaves out a class that a picture's truth lacks, also where it is guessed
            (`ignore_empty=True`, MONAI's default); the others leave a class that was guessed at 0
            and say what one counts that is in neither (`one` is `ignore_empty=False`).

    Source: `MeanIoU(include_background=False)`, `compute_iou` and `do_metric_reduction` in
    `monai/metrics`, MONAI 1.6.
    """

    def picture(counts: Tables, ignore: int | None) -> Score:
        iou: PerClass = overlap(counts, None)
        if absent == "skip":
            iou[counts.sum(axis=-1) == 0] = np.nan
        return class_mean(iou, absent, left_out=ignore, scored=any_pixel(counts, None))

    return ByPicture(picture, first="classes", absent=absent)
