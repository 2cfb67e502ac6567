"""How strongly predictions contradict the masks, image by image."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from evaluation.confusion import confusion
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.types import (
    Array,
    Counts,
    Labels,
    Map,
)

Measure = Float[np.ndarray, "image"]
Pixels = Integer[np.ndarray, "image"]


@dataclass(frozen=True)
class Disagreement:
    """What predictions say of masks; NaN where an image has no scored pixel.

    Args:
        score: mean probability that the other scored classes got, 0 to 1.
        log_loss: mean negative log-likelihood of the mask, in nats.
        share: of the scored pixels, those where the likeliest scored class is another one.
        pixels: how many are scored.
        counts: scored pixels by the mask's class and the likeliest one.
    """

    score: Measure
    log_loss: Measure
    share: Measure
    pixels: Pixels
    counts: Counts

    def main_confusion(self, place: int) -> tuple[int, int] | None:
        """Return the most frequent (mask, prediction) that differ in an image; None if all agree."""
        wrong = self.counts[place] * ~np.eye(self.counts.shape[1], dtype=bool)
        if not wrong.any():
            return None
        true, pred = np.unravel_index(wrong.argmax(), wrong.shape)
        return int(true), int(pred)


def disagreement(maps: Map, masks: Labels, *, classes: Classes, floor: float) -> Disagreement:
    """Compare masks with probability maps on the scored pixels.

    The ignored class is taken out of the maps first: "nobody would label this" is no objection to
    the label that somebody gave.

    Args:
        maps: probabilities (image, class, row, col), of models that did not see the images.
        masks: class index per pixel, (image, row, col), 255 where there is none.
        classes: how many there are, and which is ignored.
        floor: smaller probabilities are raised to it before their logarithm.
    """
    maps = among_scored(maps, classes)
    scored = masks != UNLABELLED
    if classes.ignore is not None:
        scored &= masks != classes.ignore
    labels = np.where(scored, masks, classes.scored[0]).astype(np.int64)
    given = np.take_along_axis(maps, labels[:, None], axis=1)[:, 0]
    pred = maps.argmax(axis=1).astype(np.uint8)
    target = np.where(scored, masks, UNLABELLED).astype(np.uint8)
    return Disagreement(
        score=_mean(1 - given, scored),
        log_loss=_mean(-np.log(np.maximum(given, floor)), scored),
        share=_mean(pred != target, scored),
        pixels=scored.sum(axis=(1, 2)),
        counts=confusion(target, pred, classes=len(classes)),
    )


def among_scored(maps: Map, classes: Classes) -> Map:
    """Return the probabilities given that a pixel is scored; uniform where nothing is left."""
    if classes.ignore is None:
        return maps
    kept = np.ones(len(classes), maps.dtype)
    kept[classes.ignore] = 0
    left = maps * kept[:, None, None]
    sums = left.sum(axis=1, keepdims=True)
    even = (kept / kept.sum())[:, None, None]
    result: Map = np.where(sums > 0, left / np.where(sums > 0, sums, 1), even)
    return result


def joined(parts: list[Disagreement]) -> Disagreement:
    """Put the blocks of a data set together."""
    return Disagreement(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in Disagreement.__dataclass_fields__
        )
    )


def _mean(values: Array, scored: Array) -> Measure:
    pixels = scored.sum(axis=(1, 2))
    sums = np.where(scored, values, 0).sum(axis=(1, 2), dtype=np.float64)
    return np.where(pixels > 0, sums / np.maximum(pixels, 1), np.nan)
