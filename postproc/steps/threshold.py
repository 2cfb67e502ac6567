"""Thresholds on probabilities in place of the argmax, fixed or fitted on held-out pixels."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import numpy as np
from jaxtyping import Bool
from pydantic import Field

from evaluation.bias_search import fit_bias
from evaluation.core.errors import BadSpec
from evaluation.core.specs import Spec
from evaluation.core.types import Images, Map
from evaluation.run_metric import SetMetric
from postproc.renormalise import renormalise
from postproc.step import FitBlock, LearnedStep, Step
from postproc.steps.class_bias import SMALLEST_NORMAL, fit_pixels

DECIMALS = 6
BINARY = 2

At = Annotated[float, Field(gt=0, lt=1)]


def threshold(
    classes: int,
    ignore: int | None,
    metric: SetMetric | None = None,
    *,
    at: At | list[At] | None = None,
    floor: Annotated[float, Field(ge=SMALLEST_NORMAL, lt=1)] = 2.0**-25,
) -> Step | LearnedStep:
    """Decide a class where its probability reaches its threshold: argmax becomes argmax of p / t.

    Of two classes, the second (the foreground) is decided where its probability is `at` or more.
    Without `at` the thresholds of the highest score on held-out maps are taken, over every value;
    the score is the run's metric, as in `class_bias`, which gives the same labels. With more
    classes each has a threshold, and that which is exceeded by the largest factor wins. The ignored
    class stays as it is: its threshold is that of the lowest other class.

    Args:
        at: of two classes the threshold of the second, else one per class; fitted by default.
        floor: lower bound of probabilities, so that a zero that may be due to rounding can still
            win.

    Examples:
        >>> maps = np.array([0.6, 0.4], np.float32)[None, :, None, None]
        >>> threshold(2, None, at=0.3).apply(maps, None).argmax(axis=1).ravel()
        array([1])
    """
    if at is None:
        return _fitted(metric or SetMetric.masked(classes, ignore), classes, ignore, floor)
    if isinstance(at, float):
        if classes != BINARY:
            raise BadSpec(f"at={at} is one number; expected {classes}, one per class")
        at = [1 - at, at]
    if len(at) != classes:
        raise BadSpec(f"at has {len(at)} numbers; expected {classes}, one per class")
    factors = (min(at) / np.array(at)).astype(np.float32)[:, None, None]

    def apply(maps: Map, _: Images | None) -> Map:
        scores: Map = np.maximum(maps, np.float32(floor))
        scores *= factors
        if classes == BINARY:
            _keep_decision(scores, maps[:, 1] >= np.float32(at[1]))
        return renormalise(scores)

    return Step("maps", "maps", apply, when_repeated="mergeable")


def _keep_decision(scores: Map, decided: Bool[np.ndarray, "image row col"]) -> None:
    """Undo what rounding changed of the comparison of the second class with its threshold."""
    lost = decided & (scores[:, 1] <= scores[:, 0])
    np.copyto(scores[:, 1], np.nextafter(scores[:, 0], np.float32(np.inf)), where=lost)
    np.copyto(scores[:, 1], scores[:, 0], where=~decided & (scores[:, 1] > scores[:, 0]))


def _fitted(metric: SetMetric, classes: int, ignore: int | None, floor: float) -> LearnedStep:
    scored = [label for label in range(classes) if label != ignore]
    over = tuple(scored.index(label) for label in metric.over)

    def fit(blocks: Iterable[FitBlock]) -> Spec:
        pixels = replace(fit_pixels(blocks, scored, floor), metric=replace(metric, over=over))
        odds = np.exp(-fit_bias(pixels))
        values = np.full(classes, odds.min())
        values[scored] = odds
        values = np.round(values / values.sum(), DECIMALS).clip(10**-DECIMALS, 1 - 10**-DECIMALS)
        if classes == BINARY and ignore is None:
            return Spec("threshold", options={"at": float(values[1])})
        return Spec("threshold", options={"at": values.tolist()})

    return LearnedStep("maps", fit, when_repeated="mergeable")
