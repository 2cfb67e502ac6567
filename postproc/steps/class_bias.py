"""A bias per class before the argmax: argmax of log p + b instead of argmax of p.

The biases are those of the highest score on held-out pixels, found by coordinate ascent over exact
step functions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from evaluation.bias_search import FitPixels, LogMaps, fit_bias
from evaluation.core.errors import BadData, BadSpec
from evaluation.core.specs import Spec
from evaluation.core.types import Images, Map
from evaluation.run_metric import SetMetric
from postproc.renormalise import renormalise
from postproc.step import FitBlock, LearnedStep, Step

MAX_LOGS = 1 << 23
"""Logarithms that are kept: 32 MB, half a million pixels of each of four classes."""

SUBSAMPLE = 3
"""Odd, so that not the same columns of every row of an image remain."""

NEVER = "-inf"
MAX_BIAS = 50
SMALLEST_NORMAL = 2.0**-126
"""Of float32; a smaller floor may be 0 there."""

Bias = Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)] | Literal["-inf"]


def class_bias(
    classes: int,
    ignore: int | None,
    metric: SetMetric | None = None,
    *,
    bias: list[Bias] | None = None,
    floor: Annotated[float, Field(ge=SMALLEST_NORMAL, lt=1)] = 2.0**-25,
) -> Step | LearnedStep:
    """Multiply each class by exp(its bias) and renormalise: argmax becomes argmax of log p + b.

    Networks learn to be right about most pixels, while mean IoU gives a rare class the same weight
    as a frequent one. Without `bias` the biases are fitted: those of the highest score on held-out
    maps, found class by class. The score is the run's metric in its form for sums of pixels:
    `masked`, `dice`, `iou` or `foreground`; a run of any other metric takes `masked` here. The
    ignored class gets -inf, since predicting it on a scored pixel is always a miss; with all other
    biases equal this step gives the labels of `suppress_background`. Only differences of biases
    matter.

    Args:
        bias: one number per class, or '-inf' in quotes for a class that is never predicted; fitted
            by default.
        floor: lower bound of probabilities, so that a zero that may be due to rounding can still
            win.

    Examples:
        >>> maps = np.array([0.6, 0.4], np.float32)[None, :, None, None]
        >>> class_bias(2, None, bias=[0.0, 1.0]).apply(maps, None).ravel().round(2)
        array([0.36, 0.64], dtype=float32)
    """
    if bias is None:
        return _fitted_class_bias(
            metric or SetMetric.masked(classes, ignore), classes, ignore, floor
        )
    if len(bias) != classes:
        raise BadSpec(f"bias has {len(bias)} numbers; expected {classes}, one per class")
    values = np.array(bias, np.float64)
    if np.isneginf(values).all():
        raise BadSpec("bias excludes every class; expected a number for at least one")
    factors = np.exp(values - values.max()).astype(np.float32)[:, None, None]

    def apply(maps: Map, _: Images | None) -> Map:
        scores: Map = np.maximum(maps, np.float32(floor))
        scores *= factors
        return renormalise(scores)

    return Step("maps", "maps", apply, when_repeated="mergeable")


def _fitted_class_bias(
    metric: SetMetric, classes: int, ignore: int | None, floor: float
) -> LearnedStep:
    scored = [label for label in range(classes) if label != ignore]
    over = tuple(scored.index(label) for label in metric.over)

    def fit(blocks: Iterable[FitBlock]) -> Spec:
        pixels = replace(fit_pixels(blocks, scored, floor), metric=replace(metric, over=over))
        fitted = fit_bias(pixels).tolist()
        bias: list[float | str] = [NEVER] * classes
        for label, value in zip(scored, fitted, strict=True):
            bias[label] = value
        return Spec("class_bias", options={"bias": bias})

    return LearnedStep("maps", fit, when_repeated="mergeable")


def fit_pixels(
    blocks: Iterable[FitBlock], scored: Sequence[int], floor: float, *, max_logs: int = MAX_LOGS
) -> FitPixels:
    """Take every pixel, or every third, ninth, ... of a class that has more than its share.

    Rare classes are taken whole, since their pixels decide. What is taken depends neither on how
    the images were cut into blocks nor on chance.

    Args:
        scored: the classes to take, of both.
        floor: lower bound of probabilities before the logarithm.
        max_logs: number of logarithms that may be kept.

    Raises:
        BadData: no pixel of a scored class.
    """
    limit = max(1, max_logs // len(scored) ** 2)
    samples = [_ClassPixels(label, scored, limit) for label in scored]
    for block in blocks:
        for sample in samples:
            sample.add(block)
    if not any(sample.seen for sample in samples):
        raise BadData("target to fit on has no scored pixel; give images that have some")
    maps = [sample.probabilities() for sample in samples]
    kept = np.array([part.shape[1] for part in maps])
    weight = np.array([sample.seen for sample in samples]) / np.maximum(kept, 1)
    log_maps = np.log(np.maximum(np.concatenate(maps, axis=1), np.float32(floor)))
    return FitPixels(log_maps, np.repeat(np.arange(len(scored)), kept), np.repeat(weight, kept))


class _ClassPixels:
    """Every k-th pixel of a class; k grows when there are too many."""

    def __init__(self, label: int, scored: Sequence[int], limit: int) -> None:
        self.label, self.scored, self.limit = label, list(scored), limit
        self.every, self.seen = 1, 0
        self.parts: list[LogMaps] = [np.empty((len(scored), 0), np.float32)]

    def add(self, block: FitBlock) -> None:
        """Take the class's pixels of a block."""
        image, row, col = np.nonzero(block.target == self.label)
        taken = slice(-self.seen % self.every, None, self.every)
        maps = block.maps[image[taken], :, row[taken], col[taken]]
        self.parts.append(maps[:, self.scored].T)
        self.seen += len(image)
        while -(-self.seen // self.every) > self.limit:
            self.every *= SUBSAMPLE
            self.parts = [self.probabilities()[:, ::SUBSAMPLE]]

    def probabilities(self) -> LogMaps:
        """Return the probabilities of the pixels taken so far."""
        return np.concatenate(self.parts, axis=1)
