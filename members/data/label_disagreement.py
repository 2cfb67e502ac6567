"""How strongly predictions contradict the masks, per image, and at which pixels."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Integer

from evaluation.confusion import confusion, scored_pixels
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.types import Array, Counts, Labels, Map
from evaluation.iou import safe_divide

PerImage = Float[np.ndarray, "image"]
PerClass = Float[np.ndarray, "class"]
Pixels = Integer[np.ndarray, "image"]
PixelMask = Bool[np.ndarray, "image row col"]

SOFTMIN_TEMPERATURE = 0.1
"""Cleanlab's default: a certain contradiction weighs as much as 22,026 pixels that agree."""

SHRINKING_PX = 5

ROUNDING = 1e-6
"""Probabilities so far below a threshold still reach it, as in cleanlab."""


@dataclass(frozen=True)
class Disagreement:
    """Disagreement of predictions with masks, per image; NaN where no pixel is scored.

    Args:
        score: mean probability of the other scored classes, 0 to 1.
        log_loss: mean negative log-likelihood of the mask, in nats.
        softmin: 1 minus the probability of the mask's class, averaged with weights that make the
            strongest contradictions count almost alone, 0 to 1.
        calibrated: how far the probability of the mask's class lies below the highest, both
            calibrated, averaged over the connected contradicted region where that is most, 0 to 1;
            a region counts as `SHRINKING_PX` larger, so that a few pixels do not lead.
        doubtful: of the scored pixels, the share of `doubtful_pixels`.
        share: of the scored pixels, those where the likeliest scored class is another one.
        pixels: how many are scored.
        counts: scored pixels by the mask's class and the likeliest one.

    References:
        Softmin: Lad and Mueller, "Estimating Label Quality and Errors in Semantic Segmentation Data
        via Any Model", 2023, and `get_label_quality_scores` of `cleanlab.segmentation.rank` 2.9,
        which is 1 minus ours.
    """

    score: PerImage
    log_loss: PerImage
    softmin: PerImage
    calibrated: PerImage
    doubtful: PerImage
    share: PerImage
    pixels: Pixels
    counts: Counts

    def main_confusion(self, index: int) -> tuple[int, int] | None:
        """Return an image's most frequent (mask, prediction) that differ; None if all agree."""
        wrong = self.counts[index] * ~np.eye(self.counts.shape[1], dtype=bool)
        if not wrong.any():
            return None
        true, pred = np.unravel_index(wrong.argmax(), wrong.shape)
        return int(true), int(pred)


def disagreement(
    maps: Map,
    masks: Labels,
    *,
    classes: Classes,
    floor: float,
    calibrated: Map,
    thresholds: PerClass,
) -> Disagreement:
    """Compare masks with probability maps on the scored pixels.

    The ignored class is taken out of the maps first: predicting it does not contradict a label.

    Args:
        maps: probabilities (image, class, row, col), of models that were not trained on the images.
        masks: class index per pixel, (image, row, col), 255 where unlabelled.
        classes: how many there are, and which is ignored.
        floor: smaller probabilities are raised to it before their logarithm.
        calibrated: the maps, calibrated.
        thresholds: see `class_thresholds`.
    """
    maps, calibrated = (scored_probabilities(each, classes) for each in (maps, calibrated))
    scored = scored_pixels(masks, classes.ignore)
    labels = np.where(scored, masks, classes.scored[0])
    mask_probs = _of_label(maps, labels)
    margin = calibrated.max(axis=1) - _of_label(calibrated, labels)
    pred = maps.argmax(axis=1).astype(np.uint8)
    target = np.where(scored, masks, UNLABELLED).astype(np.uint8)
    return Disagreement(
        score=_mean(1 - mask_probs, scored),
        log_loss=_mean(-np.log(np.maximum(mask_probs, floor)), scored),
        softmin=_softmax_mean(1 - mask_probs, scored),
        calibrated=_most_contradicted_region(margin, scored),
        doubtful=_mean(doubtful_pixels(maps, masks, classes, thresholds), scored),
        share=_mean(pred != target, scored),
        pixels=scored.sum(axis=(1, 2)),
        counts=confusion(target, pred, classes=len(classes)),
    )


def class_confidence(
    maps: Map, masks: Labels, classes: Classes
) -> Float[np.ndarray, "sum_pixels class"]:
    """Return the sum of the probabilities of the masks' classes, and their scored pixels.

    Sums of blocks of images add up; see `class_thresholds`.
    """
    scored = scored_pixels(masks, classes.ignore)
    labels = np.where(scored, masks, classes.scored[0])
    probs = _of_label(scored_probabilities(maps, classes), labels)[scored]
    sums = [np.bincount(labels[scored], weights, len(classes)) for weights in (probs, None)]
    return np.array(sums, dtype=np.float64)


def class_thresholds(sums: Float[np.ndarray, "sum_pixels class"]) -> PerClass:
    """Return the mean probability of each class where the mask has it; NaN if it is nowhere."""
    return safe_divide(sums[0], sums[1])


def doubtful_pixels(maps: Map, masks: Labels, classes: Classes, thresholds: PerClass) -> PixelMask:
    """Mark scored pixels that are confidently predicted as another class than the mask's.

    A class is confident where its probability reaches its threshold, so that a class of which the
    model is rarely sure needs less. Marked are the pixels whose most probable confident class is
    another one, if the most probable class is another one too.

    Args:
        maps: probabilities (image, class, row, col), of models that were not trained on the images.
        masks: class index per pixel, (image, row, col), 255 where unlabelled.
        classes: how many there are, and which is ignored.
        thresholds: see `class_thresholds`.

    References:
        Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021;
        `find_label_issues(filter_by="confident_learning")` of `cleanlab.filter` 2.9.

    Examples:
        >>> maps = np.array([[0.9, 0.4, 0.2], [0.1, 0.6, 0.8]], np.float32)[None, :, None]
        >>> thresholds = np.array([0.8, 0.7])
        >>> masks = np.array([[[1, 0, 0]]], np.uint8)
        >>> doubtful_pixels(maps, masks, Classes(("sand", "rock")), thresholds)
        array([[[ True, False,  True]]])
    """
    maps = scored_probabilities(maps, classes)
    confident = maps >= (thresholds - ROUNDING).astype(maps.dtype)[:, None, None]
    likely = np.where(confident, maps, -1).argmax(axis=1)
    another = (likely != masks) & (maps.argmax(axis=1) != masks)
    doubtful: PixelMask = confident.any(axis=1) & another & scored_pixels(masks, classes.ignore)
    return doubtful


def scored_probabilities(maps: Map, classes: Classes) -> Map:
    """Return the probabilities given that a pixel is scored; uniform where nothing is left."""
    if classes.ignore is None:
        return maps
    kept = np.ones(len(classes), maps.dtype)
    kept[classes.ignore] = 0
    rest = maps * kept[:, None, None]
    sums = rest.sum(axis=1, keepdims=True)
    uniform = (kept / kept.sum())[:, None, None]
    result: Map = np.where(sums > 0, rest / np.where(sums > 0, sums, 1), uniform)
    return result


def concat_blocks(blocks: list[Disagreement]) -> Disagreement:
    """Join the blocks of a data set."""
    return Disagreement(
        *(np.concatenate([getattr(b, f.name) for b in blocks]) for f in fields(Disagreement))
    )


def _of_label(maps: Map, labels: Labels) -> Float[np.ndarray, "image row col"]:
    probs: Float[np.ndarray, "image row col"]
    probs = np.take_along_axis(maps, labels[:, None].astype(np.int64), axis=1)[:, 0]
    return probs


def _softmax_mean(values: Array, scored: Array) -> PerImage:
    """Average values from 0 to 1, each weighted by its exponential."""
    weights = np.where(scored, np.exp(values.astype(np.float64) / SOFTMIN_TEMPERATURE), 0)
    return safe_divide((weights * values).sum(axis=(1, 2)), weights.sum(axis=(1, 2)))


def _most_contradicted_region(margin: Array, scored: PixelMask) -> PerImage:
    """Return the largest mean over a region of positive margins; 0 where there is none."""
    from scipy import ndimage  # slow to import

    result = np.where(scored.any(axis=(1, 2)), 0.0, np.nan)
    contradicted = scored & (margin > 0)
    for index in np.flatnonzero(contradicted.any(axis=(1, 2))):
        regions, _ = ndimage.label(contradicted[index])
        areas = np.bincount(regions.ravel())
        sums = np.bincount(regions.ravel(), margin[index].ravel())
        result[index] = (sums[1:] / (areas[1:] + SHRINKING_PX)).max()
    return result


def _mean(values: Array, scored: Array) -> PerImage:
    pixels = scored.sum(axis=(1, 2))
    sums = np.where(scored, values, 0).sum(axis=(1, 2), dtype=np.float64)
    return np.where(pixels > 0, sums / np.maximum(pixels, 1), np.nan)
