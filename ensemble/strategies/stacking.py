"""A network of one layer over all members: multinomial logistic regression on log-probabilities."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field

from ensemble.fusion import SMALLEST, Blocks, Fusion, Learned, by_pieces
from ensemble.regression import regression
from ensemble.sample import PixelSample, sample
from evaluation.ground.arrays import Map, Maps
from evaluation.ground.errors import BadData

Bias = Float[np.ndarray, "scored"]
Labelled = Integer[np.ndarray, "scored"]


def stacking(
    classes: int,
    ignore: int | None,
    *,
    l2: Annotated[float, Field(gt=0)] = 1e-3,
    sample_pixels: Annotated[int, Field(ge=1)] = 100_000,
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0,
    floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Learned:
    """Learn from held-out pixels how much each member's word on each class says about each class.

    The probability of a class is a softmax over weighted log-probabilities of all members and
    classes. That can undo a member's habits (too sure, blind to a class, taking sand for soil),
    which no mean can. The regression starts from the geometric mean and is held to it by `l2`: a
    large `l2` gives the geometric mean with a bias for each class, not a guess at random.

    Pixels of the ignored class are not learned from, and the result is conditional on a pixel being
    scored: the ignored class gets probability 0 everywhere.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from.
        l2: half of this, times the squared distance of the weights from those of the geometric
            mean, is added to the mean log-loss of a pixel (in nats).
        sample_pixels: how many pixels to learn from, about the same number of each class.
        balance: 0 counts classes as often as they occur, 1 all alike; between, rare classes are
            named more often than the log-loss asks for, which a mean of IoU over classes rewards.
        floor: probabilities below this are raised to it before the logarithm.
        seed: of the draw of pixels.
    """

    def fit(blocks: Blocks) -> Fusion:
        drawn = sample(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, balance=balance, seed=seed
        )
        scored = [label for label in range(classes) if label != ignore]
        lacking = [label for label in scored if not drawn.counts[label]]
        if lacking:
            raise BadData(
                f"the truth to fit on has no pixel of class {lacking[0]}; stacking needs some of"
                " every scored class: add pictures, or take another strategy"
            )
        return _learned(drawn, scored, l2=l2, floor=floor)

    return Learned(fit)


@dataclass(frozen=True)
class Stacking:
    """A softmax over weighted log-probabilities.

    Args:
        weights: what each member's log-probability of each class adds for each scored class.
        bias: what is added for each scored class.
        scored: the labels of the scored classes; others get probability 0.
        floor: probabilities below this are raised to it.
    """

    weights: Float[np.ndarray, "scored member class"]
    bias: Bias
    scored: Labelled
    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        pictures, classes, rows, cols = maps.shape[1:]
        logs = np.maximum(maps.swapaxes(0, 1), np.float32(self.floor), order="C")
        np.log(logs, out=logs)
        features = logs.reshape(pictures, -1, rows * cols)
        found = self.weights.reshape(len(self.bias), -1) @ features
        found += self.bias[:, None]
        found -= found.max(axis=1, keepdims=True)
        scores: Map = np.zeros((pictures, classes, rows, cols), np.float32)
        scores[:, self.scored] = np.exp(found, out=found).reshape(pictures, -1, rows, cols)
        return scores


def _learned(drawn: PixelSample, scored: list[int], *, l2: float, floor: float) -> Stacking:
    pixels, members, classes = drawn.maps.shape
    logs = np.log(np.maximum(drawn.maps, floor), dtype=np.float64)
    weights, bias = regression(
        logs.reshape(pixels, -1),
        np.searchsorted(scored, drawn.truth),
        drawn.weight,
        around=np.tile(np.eye(classes)[scored], members) / members,
        l2=l2,
    )
    shaped = weights.reshape(len(scored), members, classes).astype(np.float32)
    return Stacking(shaped, bias.astype(np.float32), np.array(scored), floor)
