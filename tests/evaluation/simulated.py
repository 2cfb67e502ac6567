"""Counts drawn from a model of real images, on which intervals and tests are tried.

Modelled on 1,002 Mars tiles of 92 rover positions (docs/results.md): five classes, the first of
them ignored; a position has most often 3 to 16 tiles, at most some 50, which show the same ground;
the last class has 1 % of the pixels, occurs at one position in five, and half of it lies at three
of 92. Recall varies from position to position, and candidates find the same positions hard.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from evaluation.core.types import Groups

IGNORE = 0
PIXELS = 64 * 128
MIDDLE_IMAGES, MOST_IMAGES = 7, 50

PRESENT = np.array([1.0, 0.65, 0.60, 0.40, 0.22])
"""The share of groups that hold a class."""
EXTENT = np.array([1.0, 2.0, 2.0, 0.6, 0.12])
"""How much of a group that holds it is a class's, next to the other classes."""
RECALL = np.array([-9.0, 1.8, 2.4, 0.8, -1.2])
"""Log-odds of a class's pixels to be found, in the middle group."""
TAKEN_FOR = np.array(
    [
        [0.00, 0.25, 0.50, 0.15, 0.10],
        [0.00, 0.00, 0.58, 0.38, 0.04],
        [0.00, 0.57, 0.00, 0.31, 0.12],
        [0.00, 0.40, 0.57, 0.00, 0.03],
        [0.00, 0.10, 0.85, 0.05, 0.00],
    ]
)
"""What a class's missed pixels are taken for."""
PATCHY = 0.8
"""Shape of the gamma distribution of extents over groups: below 1 for many small and few large."""

HARD_GROUP, HARD_IMAGE, OWN = 1.5, 0.7, 0.4
"""Standard deviations of log-odds: of a group and an image, for all candidates; of one's own."""

ImageCounts = Int64[np.ndarray, "candidate image true prediction"]
Odds = Float[np.ndarray, "image class"]


@dataclass(frozen=True)
class Simulated:
    """Candidates on the same images.

    Args:
        counts: of each candidate, per image.
        groups: which group each image belongs to.
    """

    counts: ImageCounts
    groups: Groups


def simulate(
    groups: int, skills: Float[np.ndarray, "candidate class"], rng: np.random.Generator
) -> Simulated:
    """Draw the counts of candidates on the images of some groups.

    Args:
        groups: how many.
        skills: what is added to the log-odds of a candidate's finding a class: equal rows are
            candidates that differ by chance alone.
        rng: where the images come from.
    """
    images = 1 + rng.lognormal(np.log(MIDDLE_IMAGES), 1, groups).astype(np.int64)
    index = np.repeat(np.arange(groups), images.clip(max=MOST_IMAGES))
    classes = len(PRESENT)
    extent = rng.gamma(PATCHY, EXTENT, (groups, classes))
    extent *= rng.random((groups, classes)) < PRESENT
    area = rng.gamma(2 * extent[index] + [0.1, 0, 0, 0, 0])
    area *= PIXELS / area.sum(axis=1, keepdims=True)
    hard = rng.normal(0, HARD_GROUP, (groups, classes))[index]
    hard += RECALL + rng.normal(0, HARD_IMAGE, hard.shape)
    spread = rng.gamma(1.0, 1.0, (groups, classes, classes)) * TAKEN_FOR
    spread /= spread.sum(axis=-1, keepdims=True)
    own = rng.normal(0, OWN, (len(skills), groups, classes))[:, index]
    counts = [_counts(area, hard + mine, spread[index]) for mine in own + skills[:, None]]
    return Simulated(np.stack(counts), index)


def _counts(
    area: Odds, odds: Odds, spread: Float[np.ndarray, "image class class"]
) -> Int64[np.ndarray, "image class class"]:
    recall = 1 / (1 + np.exp(-odds))
    counts = (area * (1 - recall))[..., None] * spread
    each = np.arange(area.shape[1])
    counts[:, each, each] = area * recall
    whole: Int64[np.ndarray, "image class class"] = np.rint(counts).astype(np.int64)
    return whole
