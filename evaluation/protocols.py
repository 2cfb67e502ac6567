"""Protocols by name: public definitions of the score, each pinned to its scorer by tests.

`masked` is the project's own definition and the default: pixels whose target is the ignored class
are dropped, and the other classes that occur are averaged. Those that average over images are
`PerImageProtocol`s; the others score the summed counts of a set. `evaluation.class_protocols` has
those that measure given classes, or Dice, precision or recall.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Num

from evaluation.core.classes import Classes
from evaluation.core.specs import Table
from evaluation.core.types import Counts
from evaluation.iou import (
    Absent,
    LeftOut,
    PerClass,
    Protocol,
    Score,
    Scored,
    Tables,
    any_pixel,
    class_mean,
    intersection_and_union,
    iou_per_class,
    safe_divide,
)

MEAN_IOU = {
    "masked": "evaluation.protocols:masked",
    "keras": "evaluation.protocols:keras",
    "sklearn": "evaluation.protocols:sklearn",
    "monai": "evaluation.protocols:monai",
    "huggingface": "evaluation.protocols:huggingface",
    "mmseg": "evaluation.protocols:mmseg",
    "smp": "evaluation.protocols:smp",
    "nnunet": "evaluation.protocols:nnunet",
    "micro": "evaluation.protocols:micro",
    "per_image": "evaluation.protocols:per_image",
}
ALIASES = {"per_picture": "per_image"}

PROTOCOLS = Table("protocol", MEAN_IOU, aliases=ALIASES)
"""Definitions of mean IoU, all of them in every score file, leaderboard and audit."""

ALL_PROTOCOLS = Table(
    "protocol",
    {
        **MEAN_IOU,
        "dice": "evaluation.class_protocols:dice",
        "precision": "evaluation.class_protocols:precision",
        "recall": "evaluation.class_protocols:recall",
        "iou": "evaluation.class_protocols:iou",
        "foreground": "evaluation.class_protocols:foreground",
    },
    aliases=ALIASES,
)
"""What a protocol or a run's metric may be named."""


def build_protocol(spec: str, classes: Classes) -> Protocol:
    """Build the protocol that a spec names.

    Args:
        spec: such as `masked`, `smp(absent=zero)` or `iou(of='big rock')`.
        classes: of the counts; specs may name one.

    Raises:
        BadSpec: an unknown protocol, option or class, or a value that its option does not take.
    """
    protocol: Protocol = ALL_PROTOCOLS.build(spec, classes=classes)
    return protocol


def keras(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the classes that occur, the ignored class among them once it is predicted.

    Pixels whose target is the ignored class are dropped, as in `masked`; but one scored pixel
    predicted as the ignored class adds a class of IoU 0 to the mean. So replacing those predictions
    raises this score even if every replacement is wrong. Sets without a scored pixel are NaN here,
    0 in Keras.

    Args:
        absent: value of a class in neither target nor prediction, the ignored class included.

    References:
        `MeanIoU(ignore_class=...)` in `keras/src/metrics/iou_metrics.py`, Keras 3.15.
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        scored = any_pixel(counts, ignore)
        return class_mean(iou_per_class(counts, ignore), absent, left_out=(), scored=scored)

    return score


def huggingface(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the labels with a union, the ignored class among them once it is predicted.

    Intersection and union are added up over all images without the pixels whose target is
    `ignore_index`; `nanmean` skips the labels that are in neither. Predictions of the ignored class
    on scored pixels are in the union of that label, so the number is that of `keras`.

    Args:
        absent: value of a class in neither target nor prediction; `nan_to_num` of the source is
            applied after its mean and changes no mean.

    References:
        `intersect_and_union` and `mean_iou` in `metrics/mean_iou/mean_iou.py` of
        huggingface/evaluate, commit 210d2141.
    """
    return keras(absent=absent)


def masked(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the classes that occur, the ignored class left out.

    Pixels whose target is the ignored class are dropped. The ignored class predicted on a scored
    pixel is a miss of the target class and nothing else. The same as torchmetrics'
    `MulticlassJaccardIndex(ignore_index=..., average="macro")`, except that sets without a scored
    pixel are NaN here.

    Args:
        absent: value of a class in neither target nor prediction.

    Examples:
        >>> counts = np.array([[9, 0, 0], [1, 4, 0], [0, 1, 4]])
        >>> float(masked()(counts, 0).miou.round(3)), float(keras()(counts, 0).miou.round(3))
        (0.733, 0.489)
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        scored = any_pixel(counts, ignore)
        return class_mean(iou_per_class(counts, ignore), absent, left_out=(ignore,), scored=scored)

    return score


def micro() -> Protocol:
    """Divide the sum of the classes' intersections by the sum of their unions.

    The ignored class is left out of both sums; predicting it on a scored pixel is a miss of the
    target class. A wrong pixel is in two unions, and classes are weighted by their pixels, so a
    rare class hardly matters. No class is averaged, so none can be absent.

    References:
        `MulticlassJaccardIndex(average="micro", ignore_index=...)`, torchmetrics 1.9; also
        `reduction="micro"` of segmentation_models_pytorch.
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        hits, union = intersection_and_union(counts, ignore)
        iou = safe_divide(hits, union)
        if ignore is not None:
            union[..., ignore] = 0
            iou[..., ignore] = np.nan
        pooled = safe_divide(np.asarray(hits.sum(axis=-1)), np.asarray(union.sum(axis=-1)))
        return Score(iou, pooled, absent=None)

    return score


def mmseg(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the labels with a union, the ignored class among them once it is predicted.

    Histograms are added up over all images without the pixels whose target is `ignore_index`, and
    `nanmean` skips the labels that are in neither; the number is that of `keras`. MMSegmentation
    prints it in percent, rounded to two decimals.

    Args:
        absent: value of a class in neither target nor prediction; `zero` and `one` are the metric's
            `nan_to_num=0` and `nan_to_num=1`, which it applies before its mean.

    References:
        `IoUMetric` in `mmseg/evaluation/metrics/iou_metric.py`, MMSegmentation 1.x, commit
        01c96235.
    """
    return keras(absent=absent)


def sklearn(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the labels that occur in target or prediction, the ignored class among them.

    Pixels whose target is the ignored class are removed first; a scored pixel predicted as the
    ignored class brings its label back in, so the number is that of `keras`.

    Args:
        absent: value of a class in neither target nor prediction; `zero` is what `jaccard_score`
            gives with `labels=range(classes)`.

    References:
        `sklearn.metrics.jaccard_score(target, pred, average="macro")`, scikit-learn 1.9.
    """
    return keras(absent=absent)


def smp(*, absent: Absent = "one") -> Protocol:
    """Average IoU over all classes but the ignored one; a class that is absent counts 1.

    `get_stats(mode="multiclass", ignore_index=-1)` accepts an ignored label only outside the
    classes, so labels are shifted until it is -1; predictions of it on scored pixels are then
    misses of the target class, as in `masked`. This is `reduction="macro"`; `"micro"` is `micro`.

    Args:
        absent: value of a class in neither target nor prediction; the source's `zero_division`, 1
            by default.

    References:
        `get_stats` and `iou_score` in `segmentation_models_pytorch/metrics/functional.py` of
        qubvel-org/segmentation_models.pytorch, commit 13d5653d.
    """
    return masked(absent=absent)


Terms = Num[np.ndarray, "*sets row col"]
"""Additive over images: counts, or sums of scores above the numbers of their images."""

Sums = Float[np.ndarray, "*sets sum_number class_mean"]


@dataclass(frozen=True)
class PerImageProtocol:
    """A protocol that averages over images.

    Called like any protocol it takes each table for one image. Several images are scored by the
    sum of their `terms`; a bootstrap weights the terms by how often each image was drawn.

    Args:
        image: scores images, one table each.
        first: what is averaged first: each image's classes, or each class over its images.
        absent: value of a class that an image lacks or, if images are averaged first, all images.
        left_out: the classes that are not averaged, by the number of classes and the ignored one.
    """

    image: Protocol
    first: Literal["classes", "images"]
    absent: Absent = "skip"
    left_out: Callable[[int, int | None], LeftOut] = lambda _, ignore: (ignore,)

    def __call__(self, counts: Tables, ignore: int | None) -> Score:
        """Score every table as one image."""
        return self.total(self.terms(counts, ignore), ignore)

    def terms(self, counts: Tables, ignore: int | None) -> Sums:
        """Return each image's IoU per class and its mean, and below each 1 if it exists, else 0."""
        score = self.image(counts, ignore)
        values = np.concatenate([score.iou, score.miou[..., np.newaxis]], axis=-1)
        known = ~np.isnan(values)
        return np.stack([np.where(known, values, 0), known.astype(np.float64)], axis=-2)

    def total(self, terms: Sums, ignore: int | None) -> Score:
        """Score sets of images by their summed terms."""
        means = safe_divide(terms[..., 0, :], terms[..., 1, :])
        if self.first == "classes":
            return Score(means[..., :-1], np.asarray(means[..., -1]), self.absent)
        return self.mean_of_classes(means[..., :-1], ignore, np.asarray(terms[..., 1, -1] > 0))

    def mean_of_classes(self, iou: PerClass, ignore: int | None, scored: Scored) -> Score:
        """Average classes that were averaged over images."""
        left_out = self.left_out(iou.shape[-1], ignore)
        return class_mean(iou, self.absent, left_out=left_out, scored=scored)


def terms(protocol: Protocol, counts: Tables, ignore: int | None) -> Terms:
    """Return what is summed over images: the counts, or the terms of a `PerImageProtocol`."""
    return protocol.terms(counts, ignore) if isinstance(protocol, PerImageProtocol) else counts


def total(protocol: Protocol, summed: Terms, ignore: int | None) -> Score:
    """Score sets of images by the sum of `terms` over each set."""
    if isinstance(protocol, PerImageProtocol):
        return protocol.total(summed, ignore)
    return protocol(summed, ignore)


def score_images(protocol: Protocol, counts: Counts, ignore: int | None) -> Score:
    """Score a set of images, one table each, under any protocol."""
    return total(protocol, terms(protocol, counts, ignore).sum(axis=0), ignore)


def monai(*, absent: Absent = "skip") -> PerImageProtocol:
    """Average each image over the classes of its target, then average the images.

    The ignored class takes the place of MONAI's background, channel 0: it is not averaged, but its
    pixels are scored, so a class predicted there is a false positive, which no other protocol
    counts. Unlabelled pixels are dropped. Images without a class to average are left out; if that
    is all of them, MONAI gives 0 and we give NaN.

    Args:
        absent: `skip` leaves out a class that an image's target lacks, also where it is predicted
            (`ignore_empty=True`, MONAI's default); otherwise a class that was predicted has IoU 0,
            and this is the value of one in neither (`one` is `ignore_empty=False`).

    References:
        `MeanIoU(include_background=False)`, `compute_iou` and `do_metric_reduction` in
        `monai/metrics`, MONAI 1.6.
    """

    def image(counts: Tables, ignore: int | None) -> Score:
        iou: PerClass = iou_per_class(counts, None)
        if absent == "skip":
            iou[counts.sum(axis=-1) == 0] = np.nan
        return class_mean(iou, absent, left_out=(ignore,), scored=any_pixel(counts, None))

    return PerImageProtocol(image, first="classes", absent=absent)


def nnunet(*, absent: Absent = "nan") -> PerImageProtocol:
    """Average each class over the images where it occurs, then average the foreground classes.

    nnU-Net calls it `foreground_mean` of IoU. Its background is class 0: left out of the mean, but
    its pixels are scored, so a class predicted there is a false positive. Its ignore label is the
    highest one: those pixels are dropped. So an ignored class that is the highest of three or more
    is the ignore label here, beside background 0; any other takes the place of the background; and
    without one, class 0 is the background. Unlabelled pixels are dropped. A class in neither target
    nor prediction of an image is left out there.

    Args:
        absent: value of a class that no image has; the source's plain mean gives NaN.

    References:
        `compute_metrics` and `compute_metrics_on_folder` in
        `nnunetv2/evaluation/evaluate_predictions.py` of MIC-DKFZ/nnUNet, commit 0a50fa01; labels in
        `nnunetv2/utilities/label_handling/label_handling.py`, commit 02153c66.
    """

    def left_out(classes: int, ignore: int | None) -> tuple[int, int | None]:
        if ignore is not None and 2 <= ignore == classes - 1:
            return 0, ignore
        return ignore or 0, None

    def image(counts: Tables, ignore: int | None) -> Score:
        background, dropped = left_out(counts.shape[-1], ignore)
        iou, scored = iou_per_class(counts, dropped), any_pixel(counts, dropped)
        return class_mean(iou, "skip", left_out=(background, dropped), scored=scored)

    return PerImageProtocol(image, first="images", absent=absent, left_out=left_out)


def per_image(*, absent: Absent = "skip") -> PerImageProtocol:
    """Score each image as `masked` does and average over the images.

    An image of one class has the same weight as one of four, and a class is weighted by the number
    of images it is in; one wrong pixel of a class that an image lacks adds a class of IoU 0.
    Images without a scored pixel are left out. A class's own number is its mean over the images
    where it occurs.

    Args:
        absent: value of a class in neither target nor prediction of an image.

    References:
        Torchmetrics' `MulticlassJaccardIndex(ignore_index=..., average="macro")` for each image,
        then their mean; `masked` says where they differ.
    """
    return PerImageProtocol(masked(absent=absent), first="classes", absent=absent)
