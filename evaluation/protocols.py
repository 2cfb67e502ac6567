"""Protocols by name: public definitions of the score.

The definition of Hugging Face's `evaluate`: the mean over all labels that occur.

Keras' definition, under which predicting the ignored class costs a whole class.

The project's own definition: the ignored class is neither looked at nor averaged.

One IoU of all pixels: intersections over unions, added up over the classes.

The definition of MMSegmentation's `IoUMetric`.

MONAI's definition: pixels of the background are kept, its class is not averaged.

nnU-Net's definition: each class averaged over its images, then the foreground.

Every image scored by itself, and the mean over images.

Scikit-learn's definition over the kept pixels: a class is whatever occurs in them.

The definition of segmentation_models_pytorch: an absent class counts as found.

Protocols that score each image by itself, by sums that add up over images as counts do.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Num

from evaluation.core.specs import Table
from evaluation.core.types import Counts
from evaluation.iou import (
    Absent,
    PerClass,
    Protocol,
    Score,
    Tables,
    any_pixel,
    class_mean,
    intersection_and_union,
    iou_per_class,
    safe_divide,
)

PROTOCOLS = Table(
    "protocol",
    {
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
    },
)


def keras(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the classes that occur, the ignored class among them once it is predicted.

    Pixels whose target is the ignored class are dropped, as in `masked`; but one kept pixel predicted
    as the ignored class adds a class of IoU 0 to the mean. So replacing those predictions raises this
    score even where every replacement is wrong. Sets with nothing to count are NaN here, 0 in
    Keras.

    Args:
        absent: what a class counts that is in neither target nor prediction, the ignored class too.

    Source: `MeanIoU(ignore_class=...)` in `keras/src/metrics/iou_metrics.py`, Keras 3.15.
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        scored = any_pixel(counts, ignore)
        return class_mean(iou_per_class(counts, ignore), absent, left_out=None, scored=scored)

    return score


def huggingface(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the labels with a union, the ignored class among them once it is predicted.

    Intersection and union are added up over all images without the pixels whose target is
    `ignore_index`; `nanmean` skips the labels that are in neither. Predictions of the ignored class on
    kept pixels are in the union of that label, so the number is that of `keras`.

    Args:
        absent: what a class counts that is in neither target nor prediction; `nan_to_num` of the source
            is applied after its mean and changes no mean.

    Source: `intersect_and_union` and `mean_iou` in `metrics/mean_iou/mean_iou.py` of
    huggingface/evaluate, commit 210d2141.
    """
    return keras(absent=absent)


def masked(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the classes that occur, the ignored class left out.

    Pixels whose target is the ignored class are dropped. The ignored class predicted on a kept pixel
    is a miss of the true class and nothing else. The same as torchmetrics'
    `MulticlassJaccardIndex(ignore_index=..., average="macro")`, but for sets with nothing to
    count, which are NaN here.

    Args:
        absent: what a class counts that is in neither target nor prediction.
    """

    def score(counts: Tables, ignore: int | None) -> Score:
        scored = any_pixel(counts, ignore)
        return class_mean(iou_per_class(counts, ignore), absent, left_out=ignore, scored=scored)

    return score


def micro() -> Protocol:
    """Divide the sum of the classes' intersections by the sum of their unions.

    The ignored class is left out of both sums; predicting it on a kept pixel is a miss of the true
    class. A wrong pixel is in two unions, and classes weigh by their pixels, so a rare class
    hardly counts. No class is averaged, so none can be absent.

    Source: `MulticlassJaccardIndex(average="micro", ignore_index=...)`, torchmetrics 1.9; also
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
        absent: what a class counts that is in neither target nor prediction; `zero` and `one` are the
            metric's `nan_to_num=0` and `nan_to_num=1`, which it applies before its mean.

    Source: `IoUMetric` in `mmseg/evaluation/metrics/iou_metric.py`, MMSegmentation 1.x, commit
    01c96235.
    """
    return keras(absent=absent)


def sklearn(*, absent: Absent = "skip") -> Protocol:
    """Average IoU over the labels that occur in target or prediction, the ignored class among them.

    Pixels whose target is the ignored class are taken out before scikit-learn sees any; a kept
    pixel predicted as the ignored class brings its label back in, so the number is that of `keras`.

    Args:
        absent: what a class counts that is in neither target nor prediction; `zero` is what
            `jaccard_score` gives with `labels=range(classes)`.

    Source: `sklearn.metrics.jaccard_score(target, pred, average="macro")`, scikit-learn 1.9.
    """
    return keras(absent=absent)


def smp(*, absent: Absent = "one") -> Protocol:
    """Average IoU over all classes but the ignored one; a class that is absent counts 1.

    `get_stats(mode="multiclass", ignore_index=-1)` takes the ignored label only outside the
    classes, so labels are shifted until it is -1; predictions of it on kept pixels are then misses of
    the true class, as in `masked`. This is `reduction="macro"`; its `"micro"` is `micro`.

    Args:
        absent: what a class counts that is in neither target nor prediction; the source's
            `zero_division`, 1 by default.

    Source: `get_stats` and `iou_score` in `segmentation_models_pytorch/metrics/functional.py` of
    qubvel-org/segmentation_models.pytorch, commit 13d5653d.
    """
    return masked(absent=absent)


Terms = Num[np.ndarray, "*sets row col"]
"""What adds up over images: counts, or sums of scores above the numbers of their images."""

Sums = Float[np.ndarray, "*sets sum_number class_mean"]


@dataclass(frozen=True)
class PerImageProtocol:
    """A definition of the score that averages over images.

    Called like any protocol it takes every table for one image; what counts of several images
    score is the business of `terms` and `total`. A weighted sum of terms is the score of images
    that were drawn so often, which is all that a bootstrap needs.

    Args:
        image: scores images, a table each.
        first: what is averaged first: each image's classes, or each class over its images.
        absent: what an absent class counts where classes are averaged: in an image, or, where
            images are averaged first, in all of them.
    """

    image: Protocol
    first: Literal["classes", "images"]
    absent: Absent = "skip"

    def __call__(self, counts: Tables, ignore: int | None) -> Score:
        """Score every table as one image."""
        return self.total(self.terms(counts, ignore), ignore)

    def terms(self, counts: Tables, ignore: int | None) -> Sums:
        """Return each image's IoU by class and, last, its mean; below, 1 for what it has."""
        found = self.image(counts, ignore)
        values = np.concatenate([found.iou, found.miou[..., np.newaxis]], axis=-1)
        known = ~np.isnan(values)
        return np.stack([np.where(known, values, 0), known.astype(np.float64)], axis=-2)

    def total(self, terms: Sums, ignore: int | None) -> Score:
        """Score sets of images by their summed terms."""
        means = safe_divide(terms[..., 0, :], terms[..., 1, :])
        if self.first == "classes":
            return Score(means[..., :-1], np.asarray(means[..., -1]), self.absent)
        scored = np.asarray(terms[..., 1, -1] > 0)
        return class_mean(means[..., :-1], self.absent, left_out=ignore, scored=scored)


def terms(protocol: Protocol, counts: Tables, ignore: int | None) -> Terms:
    """Return what adds up over images: the counts, or a `PerImageProtocol` protocol's own terms."""
    return protocol.terms(counts, ignore) if isinstance(protocol, PerImageProtocol) else counts


def total(protocol: Protocol, summed: Terms, ignore: int | None) -> Score:
    """Score sets of images by the sum of `terms` over each set."""
    if isinstance(protocol, PerImageProtocol):
        return protocol.total(summed, ignore)
    return protocol(summed, ignore)


def score_images(protocol: Protocol, counts: Counts, ignore: int | None) -> Score:
    """Score a set of images.

    Args:
        protocol: any.
        counts: one table an image.
        ignore: the ignored class, or None.
    """
    return total(protocol, terms(protocol, counts, ignore).sum(axis=0), ignore)


def monai(*, absent: Absent = "skip") -> PerImageProtocol:
    """Average each image over the classes of its target, then average the images.

    The ignored class takes the place of MONAI's background, channel 0: it is not averaged, but its
    pixels stay, so whatever is predicted there is a false positive of its class, which no other
    protocol counts. Pixels without a label are dropped. Images where nothing is averaged are
    left out; where that is all of them, MONAI gives 0 and we give NaN.

    Args:
        absent: `skip` leaves out a class that an image's target lacks, also where it is predicted
            (`ignore_empty=True`, MONAI's default); the others leave a class that was predicted at 0
            and say what one counts that is in neither (`one` is `ignore_empty=False`).

    Source: `MeanIoU(include_background=False)`, `compute_iou` and `do_metric_reduction` in
    `monai/metrics`, MONAI 1.6.
    """

    def image(counts: Tables, ignore: int | None) -> Score:
        iou: PerClass = iou_per_class(counts, None)
        if absent == "skip":
            iou[counts.sum(axis=-1) == 0] = np.nan
        return class_mean(iou, absent, left_out=ignore, scored=any_pixel(counts, None))

    return PerImageProtocol(image, first="classes", absent=absent)


def nnunet(*, absent: Absent = "nan") -> PerImageProtocol:
    """Average each class over the images where it occurs, then average the classes.

    nnU-Net calls it `foreground_mean` of IoU: the class left out is the background, here the
    ignored class, whose pixels are dropped as nnU-Net drops those of its ignore label. A class in
    neither target nor prediction of an image is left out there.

    Args:
        absent: what a class counts that no image has; the source's plain mean gives NaN.

    Source: `compute_metrics` and `compute_metrics_on_folder` in
    `nnunetv2/evaluation/evaluate_predictions.py` of MIC-DKFZ/nnUNet, commit 0a50fa01.
    """
    return PerImageProtocol(masked(), first="images", absent=absent)


def per_image(*, absent: Absent = "skip") -> PerImageProtocol:
    """Score each image as `masked` does and average over the images.

    An image of one class weighs as much as one of four, and a class weighs by the number of
    images it is in; one wrong pixel of a class that an image lacks costs it a class of IoU 0.
    Images without a pixel to score are left out. A class' own number is its mean over the
    images where it occurs.

    Args:
        absent: what a class counts that is in neither target nor prediction of an image.

    Source: torchmetrics' `MulticlassJaccardIndex(ignore_index=..., average="macro")` for each
    image, then their mean; `masked` says where they differ.
    """
    return PerImageProtocol(masked(absent=absent), first="classes", absent=absent)
