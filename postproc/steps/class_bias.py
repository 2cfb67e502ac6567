"""A bias for each class instead of the plain argmax: argmax of log p + b.

The biases of the highest masked mean IoU, by coordinate ascent over exact step functions.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from evaluation.core.errors import BadSpec
from evaluation.core.specs import Spec
from evaluation.core.types import Images, Map
from evaluation.iou import mean_over_present
from postproc.fit_chain import FitPixels, PerPixel, Places, fit_pixels
from postproc.renormalise import renormalise
from postproc.step import FitBlock, LearnedStep, Step

LIMIT = 8
STEPS = 128
"""A bias is a multiple of 1/128, from -8 to 8; between two of them hardly a pixel turns."""

EDGES = np.arange(-LIMIT * STEPS, LIMIT * STEPS + 1) / STEPS

ROUNDS = 20
SMALLEST_GAIN = 1e-6
"""Of mean IoU; less is not worth a change."""

Biases = Float[np.ndarray, "scored"]
Present = Bool[np.ndarray, "scored"]
PerEdge = Float[np.ndarray, "edge"]


def best_bias(pixels: FitPixels) -> Biases:
    """Return a bias for each scored class; that of the lowest class with true pixels is 0.

    While one bias moves and the others stay, a pixel turns to its class as soon as the bias passes
    what the best other class is ahead by. So the mean IoU at every value of the bias comes from
    histograms of that lead. The best value is taken, class after class, until none gains. This may
    end in a local maximum, so it is tried from no bias and from one that evens out how probable
    the classes are on the whole; the first wins a tie. A class without true pixels is left where it
    was and out of the mean, since nothing is known about it.

    Args:
        pixels: held-out pixels.
    """
    present = np.bincount(pixels.target, minlength=len(pixels.log_maps)) > 0
    shares = np.exp(pixels.log_maps) @ pixels.weight
    even = np.round(np.log(shares.max() / shares) * STEPS) / STEPS
    first, score = _ascended(pixels, np.zeros(len(present)), present)
    second, other = _ascended(pixels, np.where(present, np.minimum(even, LIMIT), 0), present)
    best = second if other > score + SMALLEST_GAIN else first
    shifted: Biases = best - best[present.argmax()]
    return shifted


def _ascended(pixels: FitPixels, start: Biases, present: Present) -> tuple[Biases, float]:
    bias, best = start.copy(), -np.inf
    for _ in range(ROUNDS):
        before = best
        for label in np.flatnonzero(present):
            scores = _scores(pixels, bias, int(label), present)
            best = scores[np.searchsorted(EDGES, bias[label])]
            if scores.max() > best + SMALLEST_GAIN:
                # Of equally good values the smallest change.
                good = EDGES[scores == scores.max()]
                bias[label] = good[np.abs(good - bias[label]).argmin()]
                best = scores.max()
        if best <= before + SMALLEST_GAIN:
            break
    return bias, float(best)


def _scores(pixels: FitPixels, bias: Biases, label: int, present: Present) -> PerEdge:
    """Return the mean IoU for every value that the bias of one class may have."""
    rival, turns = _turns(pixels, bias, label)
    size = len(EDGES) + 1, len(bias)
    cells = turns * len(bias) + rival
    right, own = rival == pixels.target, pixels.target == label
    # At each edge, of each class: pixels predicted as it, and those of them that are right.
    predicted = _from_next_on(_summed(cells, pixels.weight, size))
    hits = _from_next_on(_summed(cells[right], pixels.weight[right], size))
    predicted[:, label] = _summed(turns, pixels.weight, size[:1])[:-1].cumsum()
    hits[:, label] = _summed(turns[own], pixels.weight[own], size[:1])[:-1].cumsum()
    union = np.bincount(pixels.target, pixels.weight, len(bias)) + predicted - hits
    iou = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)
    return mean_over_present(iou[:, present])


def _turns(pixels: FitPixels, bias: Biases, label: int) -> tuple[Places, Places]:
    """Return the best other class, and the first edge at which a pixel turns to `label`."""
    others = pixels.log_maps + bias.astype(np.float32)[:, None]
    others[label] = -np.inf
    rival = others.argmax(axis=0)
    lead = np.take_along_axis(others, rival[None], axis=0)[0] - pixels.log_maps[label]
    lead *= STEPS
    # A tie goes to the lower class.
    turns = np.where(rival < label, np.floor(lead) + 1, np.ceil(lead)) + LIMIT * STEPS
    return rival, np.clip(turns, 0, len(EDGES)).astype(np.intp)


def _summed(cells: Places, weight: PerPixel, size: tuple[int, ...]) -> Float[np.ndarray, "*size"]:
    return np.bincount(cells, weight, int(np.prod(size))).reshape(size)


def _from_next_on(
    sums: Float[np.ndarray, "turn scored"],
) -> Float[np.ndarray, "edge scored"]:
    """Sum, for each edge, what turns at a later one."""
    return sums[::-1].cumsum(axis=0)[::-1][1:]


NEVER = "-inf"
MAX_BIAS = 50
SMALLEST_NORMAL = 2.0**-126
"""Of float32; a floor below it may be 0 there."""

Bias = Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)] | Literal["-inf"]


def class_bias(
    classes: int,
    ignore: int | None,
    *,
    bias: list[Bias] | None = None,
    floor: Annotated[float, Field(ge=SMALLEST_NORMAL, lt=1)] = 2.0**-25,
) -> Step | LearnedStep:
    """Multiply each class by exp(its bias) and renormalise: argmax becomes argmax of log p + b.

    Networks learn to be right about most pixels, while mean IoU weighs a rare class as much as a
    frequent one. Without `bias` the biases are learned: those of the highest `masked` mean IoU on
    held-out maps, found one class after the other. The ignored class gets -inf, since to prediction it
    on a scored pixel is always a miss and never a hit; with nothing but that this step gives the
    labels of `suppress_background`. Only differences of biases matter.

    Args:
        classes: how many there are.
        ignore: the class that is not scored, or None.
        bias: one number a class, or '-inf' in quotes for a class that is never to be predicted; by
            default learned.
        floor: probabilities below this are raised to it, so that a zero, which may be rounding, is
            none for ever.
    """
    if bias is None:
        return _learned(classes, ignore, floor)
    if len(bias) != classes:
        raise BadSpec(f"bias has {len(bias)} numbers; expected {classes}, one a class")
    values = np.array(bias, np.float64)
    if np.isneginf(values).all():
        raise BadSpec("bias forbids every class; expected a number for one at least")
    factors = np.exp(values - values.max()).astype(np.float32)[:, None, None]

    def apply(maps: Map, _: Images | None) -> Map:
        scores: Map = np.maximum(maps, np.float32(floor))
        scores *= factors
        return renormalise(scores)

    return Step("maps", "maps", apply, again="merges")


def _learned(classes: int, ignore: int | None, floor: float) -> LearnedStep:
    scored = [label for label in range(classes) if label != ignore]

    def fit(blocks: Iterable[FitBlock]) -> Spec:
        bias = best_bias(fit_pixels(blocks, scored, floor))
        found: list[float | str] = [NEVER] * classes
        for label, value in zip(scored, bias.tolist(), strict=True):
            found[label] = value
        return Spec("class_bias", options={"bias": found})

    return LearnedStep("maps", fit, again="merges")
