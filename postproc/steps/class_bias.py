"""A bias for each class instead of the plain argmax: argmax of log p + b."""

from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from evaluation.ground.arrays import Map, Pictures
from evaluation.ground.errors import BadSpec
from evaluation.ground.specs import Spec
from postproc.bias import best_bias
from postproc.held_out import held_out_pixels
from postproc.renormalise import renormalise
from postproc.step import FitBlock, Learned, Step

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
) -> Step | Learned:
    """Multiply each class by exp(its bias) and renormalise: argmax becomes argmax of log p + b.

    Networks learn to be right about most pixels, while mean IoU weighs a rare class as much as a
    frequent one. Without `bias` the biases are learned: those of the highest `masked` mean IoU on
    held-out maps, found one class after the other. The ignored class gets -inf, since to guess it
    on a scored pixel is always a miss and never a hit; with nothing but that this step gives the
    labels of `suppress_background`. Only differences of biases matter.

    Args:
        classes: how many there are.
        ignore: the class that is not scored, or None.
        bias: one number a class, or '-inf' in quotes for a class that is never to be guessed; by
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

    def apply(maps: Map, _: Pictures | None) -> Map:
        scores: Map = np.maximum(maps, np.float32(floor))
        scores *= factors
        return renormalise(scores)

    return Step("maps", "maps", apply, again="merges")


def _learned(classes: int, ignore: int | None, floor: float) -> Learned:
    scored = [label for label in range(classes) if label != ignore]

    def fit(blocks: Iterable[FitBlock]) -> Spec:
        bias = best_bias(held_out_pixels(blocks, scored, floor))
        found: list[float | str] = [NEVER] * classes
        for label, value in zip(scored, bias.tolist(), strict=True):
            found[label] = value
        return Spec("class_bias", options={"bias": found})

    return Learned("maps", fit, again="merges")
