"""nnU-Net's definition: each class averaged over its pictures, then the foreground."""

from evaluation.by_picture import ByPicture
from evaluation.iou import Absent
from evaluation.protocols.masked import masked


def nnunet(*, absent: Absent = "nan") -> ByPicture:
    """Average each class over the pictures where it occurs, then average the classes.

    nnU-Net calls it `foreground_mean` of IoU: the class left out is the background, here the
    ignored class, whose pixels are dropped as nnU-Net drops those of its ignore label. A class in
    neither truth nor guess of a picture is left out there.

    Args:
        absent: what a class counts that no picture has; the source's plain mean gives NaN.

    Source: `compute_metrics` and `compute_metrics_on_folder` in
    `nnunetv2/evaluation/evaluate_predictions.py` of MIC-DKFZ/nnUNet, commit 0a50fa01.
    """
    return ByPicture(masked(), first="pictures", absent=absent)
