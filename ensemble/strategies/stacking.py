"""A network of one layer over all members: multinomial logistic regression on log-probabilities."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field
from scipy.linalg.blas import sgemm

from ensemble.fusion import (
    SMALLEST,
    Blocks,
    Fusion,
    LearnedFusion,
    by_pieces,
)
from ensemble.pixel_context import ContextFeatures
from ensemble.regression import regression
from ensemble.sampling import PerLabel, PixelSample, sample
from evaluation.core.errors import BadData
from evaluation.core.types import (
    Array,
    Images,
    Map,
    Maps,
)

Bias = Float[np.ndarray, "scored"]
Labelled = Integer[np.ndarray, "scored"]


def stacking(
    classes: int,
    ignore: int | None,
    *,
    l2: Annotated[float, Field(gt=0)] = 1e-3,
    neighbours: Annotated[int, Field(ge=0)] = 0,
    intensity: bool = False,
    sample_pixels: Annotated[int, Field(ge=1)] = 200_000,
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0,
    floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> LearnedFusion:
    """Learn from held-out pixels how much each member's word on each class says about each class.

    The probability of a class is a softmax over weighted log-probabilities of all members and
    classes. That can undo a member's habits (too sure, blind to a class, taking sand for soil),
    which no mean can. The regression starts from the geometric mean and is held to it by `l2`: a
    large `l2` gives the geometric mean with a bias for each class, not a prediction at random.

    Pixels of the ignored class are not learned from, and the result is conditional on a pixel being
    scored: the ignored class gets probability 0 everywhere.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from.
        l2: half of this, times the squared distance of the weights from those of the geometric
            mean, is added to the mean log-loss of a pixel (in nats).
        neighbours: radius in px of the square around a pixel whose mean probabilities (of all
            members, as logarithms) are features too; 0 looks at the pixel alone.
        intensity: whether the image's grey value and its square are features too.
        sample_pixels: how many pixels to learn from, about the same number of each class, weighed
            back to the true shares. With 50 features, 100,000 lose .0006 nats to what millions
            would give, and 200,000 half of that.
        balance: 0 counts classes as often as they occur, 1 all alike; between, rare classes are
            named more often than the log-loss asks for, which a mean of IoU over classes rewards.
        floor: probabilities below this are raised to it before the logarithm.
        seed: of the draw of pixels.
    """
    around = ContextFeatures(neighbours, intensity, floor)

    def fit(blocks: Blocks) -> Fusion:
        drawn = sample(
            blocks,
            classes=classes,
            ignore=ignore,
            pixels=sample_pixels,
            balance=balance,
            seed=seed,
            beside=around.of if around.count(classes) else None,
        )
        scored = scored_classes(drawn.counts, ignore, "stacking")
        return _learned(drawn, scored, l2=l2, around=around)

    return LearnedFusion(fit, needs_images=intensity)


def scored_classes(counts: PerLabel, ignore: int | None, strategy: str) -> Labelled:
    """Return the labels of the scored classes.

    Raises:
        BadData: one of them has no pixel to learn from.
    """
    scored = [label for label in range(len(counts)) if label != ignore]
    lacking = [label for label in scored if not counts[label]]
    if lacking:
        raise BadData(
            f"the target to fit on has no pixel of class {lacking[0]}; {strategy} needs some of"
            " every scored class: add images, or take another strategy"
        )
    return np.array(scored)


@dataclass(frozen=True)
class Stacking:
    """A softmax over weighted log-probabilities.

    Args:
        weights: what each member's log-probability of each class adds for each scored class.
        beside: what each further feature adds.
        bias: what is added for each scored class.
        scored: the labels of the scored classes; others get probability 0.
        floor: probabilities below this are raised to it.
        neighbours: see `stacking`.
        intensity: 1 where the image is looked at, else 0.
    """

    weights: Float[np.ndarray, "scored member class"]
    beside: Float[np.ndarray, "scored feature"]
    bias: Bias
    scored: Labelled
    floor: float
    neighbours: int
    intensity: int

    @property
    def needs_images(self) -> bool:
        """Whether the grey value is a feature."""
        return bool(self.intensity)

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Fuse."""
        if not self.beside.size:
            return by_pieces(maps, self._scores)
        around = ContextFeatures(self.neighbours, self.needs_images, self.floor)
        return by_pieces(maps, self._scores, around(maps, images))

    def _scores(self, maps: Maps, *beside: Array) -> Map:
        images, classes, rows, cols = maps.shape[1:]
        found = np.empty((images, len(self.bias), rows * cols), np.float32)
        found[:] = self.bias[:, None]
        for features in beside:
            found += self.beside @ features.reshape(images, -1, rows * cols)
        # One member's logarithms at a time stay in the cache until they are added up.
        logs = np.empty((classes, rows, cols), np.float32)
        columns = logs.reshape(classes, -1).T
        # A floor a value: numpy takes the maximum with an array thrice as fast as with a number.
        floor = np.full_like(logs, self.floor)
        for member, weights in enumerate(np.moveaxis(self.weights, 1, 0)):
            for one, total in zip(maps[member], found, strict=True):
                np.log(np.maximum(one, floor, out=logs), out=logs)
                sgemm(1.0, columns, weights.T, 1.0, total.T, overwrite_c=True)
        found -= found.max(axis=1, keepdims=True)
        scores: Map = np.zeros((images, classes, rows, cols), np.float32)
        scores[:, self.scored] = np.exp(found, out=found).reshape(images, -1, rows, cols)
        return scores


def _learned(
    drawn: PixelSample, scored: Labelled, *, l2: float, around: ContextFeatures
) -> Stacking:
    pixels, members, classes = drawn.maps.shape
    logs = np.log(np.maximum(drawn.maps, around.floor), dtype=np.float64)
    pool = np.tile(np.eye(classes)[scored], members) / members
    weights, bias = regression(
        np.concatenate([logs.reshape(pixels, -1), drawn.beside], axis=1),
        np.searchsorted(scored, drawn.target),
        drawn.weight,
        around=np.pad(pool, [(0, 0), (0, drawn.beside.shape[1])]),
        l2=l2,
    )
    weights, bias = weights.astype(np.float32), bias.astype(np.float32)
    of_members, beside = np.split(weights, [members * classes], axis=1)
    shaped = of_members.reshape(len(scored), members, classes)
    kept = (around.floor, around.neighbours, int(around.intensity))
    return Stacking(shaped, beside, bias, scored, *kept)
