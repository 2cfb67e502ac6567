"""A bias per class before the argmax: argmax of log p + b instead of argmax of p.

The biases are those of the highest score on held-out pixels, found by coordinate ascent over exact
step functions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from evaluation.core.errors import BadData, BadSpec
from evaluation.core.specs import Spec
from evaluation.core.types import Images, Map
from evaluation.iou import mean_over_present
from evaluation.run_metric import SetMetric
from postproc.renormalise import renormalise
from postproc.step import FitBlock, LearnedStep, Step

LIMIT = 8
STEPS_PER_UNIT = 128
"""Fitted biases are multiples of 1/128, -8 to 8; between two of them almost no pixel changes."""

EDGES = np.arange(-LIMIT * STEPS_PER_UNIT, LIMIT * STEPS_PER_UNIT + 1) / STEPS_PER_UNIT

ROUNDS = 20
MIN_GAIN = 1e-6
"""Smallest gain of mean IoU that justifies a change."""

MAX_RESTARTS, RESTART_LOGS = 32, 1 << 20
"""Restarts, and logarithms that they may go through: 40,000 pixels of four classes get six. On 24
drawn sets of 60 to 400 pixels, 32 restarts end where 400 do, and none up to .010 below; with eight
classes they end up to .001 below."""

MAX_LOGS = 1 << 23
"""Logarithms that are kept: 32 MB, half a million pixels of each of four classes."""

SUBSAMPLE = 3
"""Odd, so that not the same columns of every row of an image remain."""

NEVER = "-inf"
MAX_BIAS = 50
SMALLEST_NORMAL = 2.0**-126
"""Of float32; a smaller floor may be 0 there."""

Bias = Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)] | Literal["-inf"]
Biases = Float[np.ndarray, "scored"]
Present = Bool[np.ndarray, "scored"]
PerEdge = Float[np.ndarray, "edge"]
LogMaps = Float[np.ndarray, "scored pixel"]
Indices = Int[np.ndarray, "pixel"]
PerPixel = Float[np.ndarray, "pixel"]


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


@dataclass(frozen=True)
class FitPixels:
    """A sample of held-out pixels.

    Args:
        log_maps: logarithms of the probabilities of the scored classes.
        target: index of the true class among the scored ones.
        weight: number of pixels of its class that each one represents.
        metric: of scored classes, by their indices among them; None is the mean IoU of all.
    """

    log_maps: LogMaps
    target: Indices
    weight: PerPixel
    metric: SetMetric | None = None


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


def fit_bias(pixels: FitPixels) -> Biases:
    """Return a bias per scored class; that of the lowest class that occurs in the target is 0.

    While one bias varies and the others are fixed, a pixel changes to its class as soon as the bias
    exceeds the lead of the best other class. So the score at every value of the bias follows
    from histograms of that lead. The best value is taken, class after class, until none gains. This
    may end in a local maximum, so it starts from no bias, from biases that equalise the mean
    probabilities of the classes, and, where the pixels are few and single ones count, again and
    again from random changes of the best so far; the first wins a tie. A class that does not occur
    in the target keeps its bias and is left out of the mean, since nothing is known about it.

    Raises:
        BadData: no pixel of the classes that the metric measures.
    """
    present = np.bincount(pixels.target, minlength=len(pixels.log_maps)) > 0
    if pixels.metric is not None and not present[list(pixels.metric.over)].any():
        raise BadData("target to fit on has no pixel of the classes that the metric measures")
    shares = np.exp(pixels.log_maps) @ pixels.weight
    even = np.round(np.log(shares.max() / shares) * STEPS_PER_UNIT) / STEPS_PER_UNIT
    best, best_score = _ascend(pixels, np.zeros(len(present)), present)
    start = np.where(present, np.minimum(even, LIMIT), 0)
    rng = np.random.default_rng(0)
    # None where a class is absent: all others would rise above it, of which nothing is known.
    restarts = min(MAX_RESTARTS, RESTART_LOGS // pixels.log_maps.size) if present.all() else 0
    for _ in range(1 + restarts):
        bias, score = _ascend(pixels, start, present)
        if score > best_score + MIN_GAIN:
            best, best_score = bias, score
        change = np.round(rng.normal(size=len(best)) * STEPS_PER_UNIT) / STEPS_PER_UNIT
        start = np.clip(best + change, -LIMIT, LIMIT)
    shifted: Biases = best - best[present.argmax()]
    return shifted


def _ascend(pixels: FitPixels, start: Biases, present: Present) -> tuple[Biases, float]:
    bias, best = start.copy(), -np.inf
    for _ in range(ROUNDS):
        before = best
        for label in np.flatnonzero(present):
            scores = _scores(pixels, bias, int(label), present)
            best = scores[np.searchsorted(EDGES, bias[label])]
            if scores.max() > best + MIN_GAIN:
                # Of equally good values the smallest change.
                good = EDGES[scores == scores.max()]
                bias[label] = good[np.abs(good - bias[label]).argmin()]
                best = scores.max()
        if best <= before + MIN_GAIN:
            break
    return bias, float(best)


def _scores(pixels: FitPixels, bias: Biases, label: int, present: Present) -> PerEdge:
    """Return the score for every value that the bias of one class may take."""
    rival, crossing = _crossings(pixels, bias, label)
    size = len(EDGES) + 1, len(bias)
    cells = crossing * len(bias) + rival
    correct, of_label = rival == pixels.target, pixels.target == label
    # Per edge and class: pixels predicted as the class, and the correct ones among them.
    predicted = _sum_beyond(_sum_weights(cells, pixels.weight, size))
    hits = _sum_beyond(_sum_weights(cells[correct], pixels.weight[correct], size))
    predicted[:, label] = _sum_weights(crossing, pixels.weight, size[:1])[:-1].cumsum()
    own_hits = _sum_weights(crossing[of_label], pixels.weight[of_label], size[:1])
    hits[:, label] = own_hits[:-1].cumsum()
    union = np.bincount(pixels.target, pixels.weight, len(bias)) + predicted - hits
    metric = pixels.metric or SetMetric.masked(len(bias), None)
    measured = [label for label in metric.over if present[label]]
    return mean_over_present(metric.per_class(hits, union)[:, measured])


def _crossings(pixels: FitPixels, bias: Biases, label: int) -> tuple[Indices, Indices]:
    """Return the best other class, and the first edge at which a pixel changes to `label`."""
    others = pixels.log_maps + bias.astype(np.float32)[:, None]
    others[label] = -np.inf
    rival = others.argmax(axis=0)
    lead = np.take_along_axis(others, rival[None], axis=0)[0] - pixels.log_maps[label]
    lead *= STEPS_PER_UNIT
    # A tie goes to the lower class.
    edge = np.where(rival < label, np.floor(lead) + 1, np.ceil(lead)) + LIMIT * STEPS_PER_UNIT
    return rival, np.clip(edge, 0, len(EDGES)).astype(np.intp)


def _sum_weights(
    cells: Indices, weight: PerPixel, size: tuple[int, ...]
) -> Float[np.ndarray, "*size"]:
    return np.bincount(cells, weight, int(np.prod(size))).reshape(size)


def _sum_beyond(sums: Float[np.ndarray, "crossing scored"]) -> Float[np.ndarray, "edge scored"]:
    """Sum, for each edge, what changes at a later one."""
    return sums[::-1].cumsum(axis=0)[::-1][1:]
