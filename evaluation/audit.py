"""Split a gain in score into better pixels and a mean over other classes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from evaluation.core.types import Counts
from evaluation.iou import Protocol, mean_over_present, safe_divide
from evaluation.protocols import PerImageProtocol, score_images

Cells = Float[np.ndarray, "set class"]
Entered = Bool[np.ndarray, "set class"]
Mean = Callable[[Cells, Entered], float]


@dataclass(frozen=True)
class GainDecomposition:
    """The gain from one candidate to another under one protocol, split into two parts.

    Args:
        before: score of the first.
        after: score of the second.
        pixels: gain in IoU, over the classes that were averaged before and after.
        denominator: gain by averaging over other classes; the two add up to the gain.
        averaged: number of averaged classes, before and after: of the set or, under a
            `PerImageProtocol`, per image on average.
    """

    before: float
    after: float
    pixels: float
    denominator: float
    averaged: tuple[float, float]


def audit(
    protocol: Protocol, before: Counts, after: Counts, ignore: int | None
) -> GainDecomposition:
    """Split the gain from one candidate to another into pixels and denominator.

    A score is a mean m(V, E) of IoUs V over the entries E that are averaged: classes of the set or,
    for a `PerImageProtocol`, classes of each image. A class that is not averaged has no pixel in
    the target and, if it is averaged for the other candidate, only wrong predictions: its IoU is 0
    in both. So either part can be changed alone. Changing V before E and E before V gives two
    splits of

        m(V', E') - m(V, E)

    and the parts are their averages, the Shapley values of the two changes:

        pixels      = (m(V', E) - m(V, E) + m(V', E') - m(V, E')) / 2
        denominator = (m(V, E') - m(V, E) + m(V', E') - m(V', E)) / 2

    A protocol that averages no classes (`micro`) gains by pixels alone. Both counts are of the same
    images, one table each.

    Returns:
        The parts; NaN if one of the scores is.

    References:
        For two changes, Shapley, "A Value for n-Person Games", 1953.
    """
    scores = [score_images(protocol, counts, ignore) for counts in (before, after)]
    first, second = (float(score.miou) for score in scores)
    if scores[0].absent is None:
        return GainDecomposition(first, second, second - first, 0.0, (np.nan, np.nan))
    mean = _mean(protocol, ignore)
    cells = [_cells(protocol, counts, ignore) for counts in (before, after)]
    entered = [~np.isnan(iou) for iou in cells]
    (v, w), (e, f) = [np.nan_to_num(iou) for iou in cells], entered
    pixels = (mean(w, e) - mean(v, e) + mean(w, f) - mean(v, f)) / 2
    denominator = (mean(v, f) - mean(v, e) + mean(w, f) - mean(w, e)) / 2
    if np.isnan(first + second):
        pixels = denominator = np.nan
    return GainDecomposition(first, second, pixels, denominator, (_averaged(e), _averaged(f)))


def _cells(protocol: Protocol, counts: Counts, ignore: int | None) -> Cells:
    if isinstance(protocol, PerImageProtocol):
        return protocol.image(counts, ignore).iou
    return protocol(counts.sum(axis=0), ignore).iou[np.newaxis]


def _mean(protocol: Protocol, ignore: int | None) -> Mean:
    """Return the function from IoUs and which of them are averaged to the score."""
    if isinstance(protocol, PerImageProtocol) and protocol.first == "images":
        of_classes = protocol.mean_of_classes

        def over_classes(values: Cells, entered: Entered) -> float:
            iou = safe_divide(np.where(entered, values, 0).sum(axis=0), entered.sum(axis=0))
            scored = np.asarray(entered.any())
            return float(of_classes(iou, ignore, scored).miou)

        return over_classes

    def over_images(values: Cells, entered: Entered) -> float:
        each = mean_over_present(np.where(entered, values, np.nan))
        return float(mean_over_present(each))

    return over_images


def _averaged(entered: Entered) -> float:
    """Return the number of classes per image, on average over the images that have any."""
    numbers = entered.sum(axis=1)
    return float(numbers[numbers > 0].mean()) if numbers.any() else 0.0
