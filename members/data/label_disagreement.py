"""How strongly predictions contradict the masks, per image."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Integer

from evaluation.confusion import confusion
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.types import Array, Counts, Labels, Map

PerImage = Float[np.ndarray, "image"]
Pixels = Integer[np.ndarray, "image"]


@dataclass(frozen=True)
class Disagreement:
    """Disagreement of predictions with masks, per image; NaN where no pixel is scored.

    Args:
        score: mean probability of the other scored classes, 0 to 1.
        log_loss: mean negative log-likelihood of the mask, in nats.
        share: of the scored pixels, those where the likeliest scored class is another one.
        pixels: how many are scored.
        counts: scored pixels by the mask's class and the likeliest one.
    """

    score: PerImage
    log_loss: PerImage
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


def disagreement(maps: Map, masks: Labels, *, classes: Classes, floor: float) -> Disagreement:
    """Compare masks with probability maps on the scored pixels.

    The ignored class is taken out of the maps first: predicting it does not contradict a label.

    Args:
        maps: probabilities (image, class, row, col), of models that were not trained on the images.
        masks: class index per pixel, (image, row, col), 255 where unlabelled.
        classes: how many there are, and which is ignored.
        floor: smaller probabilities are raised to it before their logarithm.
    """
    maps = scored_probabilities(maps, classes)
    scored = masks != UNLABELLED
    if classes.ignore is not None:
        scored &= masks != classes.ignore
    labels = np.where(scored, masks, classes.scored[0]).astype(np.int64)
    mask_probs = np.take_along_axis(maps, labels[:, None], axis=1)[:, 0]
    pred = maps.argmax(axis=1).astype(np.uint8)
    target = np.where(scored, masks, UNLABELLED).astype(np.uint8)
    return Disagreement(
        score=_mean(1 - mask_probs, scored),
        log_loss=_mean(-np.log(np.maximum(mask_probs, floor)), scored),
        share=_mean(pred != target, scored),
        pixels=scored.sum(axis=(1, 2)),
        counts=confusion(target, pred, classes=len(classes)),
    )


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


def _mean(values: Array, scored: Array) -> PerImage:
    pixels = scored.sum(axis=(1, 2))
    sums = np.where(scored, values, 0).sum(axis=(1, 2), dtype=np.float64)
    return np.where(pixels > 0, sums / np.maximum(pixels, 1), np.nan)
