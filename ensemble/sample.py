"""Pixels to learn from, drawn from a stream of blocks, about as many of each class."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from ensemble.fusion import Blocks
from evaluation.ground.errors import BadData

PerPixel = Float[np.ndarray, "pixel"]
PerLabel = Integer[np.ndarray, "label"]
PixelTruth = Integer[np.ndarray, "pixel"]


@dataclass(frozen=True)
class PixelSample:
    """What the members said about some pixels, and what is true there.

    Args:
        maps: probabilities, float32.
        truth: class index a pixel; no ignored pixel is among them.
        weight: how much each counts; they sum to 1.
        counts: how many pixels of each class there were to draw from.
    """

    maps: Float[np.ndarray, "pixel member class"]
    truth: PixelTruth
    weight: PerPixel
    counts: PerLabel


def sample(
    blocks: Blocks,
    *,
    classes: int,
    ignore: int | None,
    pixels: int,
    seed: int,
    balance: float = 0.0,
) -> PixelSample:
    """Draw pixels of each scored class in one pass, without replacement and with flat memory.

    Each pixel gets a random key and those with the lowest keys of their class stay, so the sample
    does not depend on how the pictures were cut into blocks.

    Args:
        blocks: maps and truth.
        classes: how many classes there are.
        ignore: the class whose pixels are left out, as those with truth 255 are.
        pixels: how many to draw in all; the scored classes get equal quotas, and a class with
            fewer pixels than its quota gives all it has.
        seed: of the keys.
        balance: the weight of a class is its share of the pixels, to the power 1 - balance: 0
            weighs the sample back to the true shares, 1 weighs classes alike.

    Raises:
        BadData: no pixel of a scored class.
    """
    generator = np.random.default_rng(seed)
    scored = [label for label in range(classes) if label != ignore]
    drawn = {label: _Lowest(max(1, -(-pixels // len(scored)))) for label in scored}
    for maps, truth, _ in blocks:
        keys = generator.random(truth.shape)
        for label, lowest in drawn.items():
            lowest.offer(maps, keys, truth == label)
    counts = np.array([drawn[k].offered if k in drawn else 0 for k in range(classes)])
    if not counts.any():
        raise BadData("the truth to fit on has no scored pixel; give pictures that have some")
    present = [label for label in scored if counts[label]]
    shares = (counts[present] / counts.sum()) ** (1 - balance)
    kept = np.array([len(drawn[label].keys) for label in present])
    return PixelSample(
        np.concatenate([drawn[label].maps for label in present]),
        np.repeat(present, kept),
        np.repeat(shares / shares.sum() / kept, kept),
        counts,
    )


class _Lowest:
    """The pixels with the lowest keys among those offered."""

    def __init__(self, quota: int) -> None:
        self.quota = quota
        self.offered = 0
        self.keys: PerPixel = np.empty(0)
        self.maps: Float[np.ndarray, "pixel member class"] = np.empty((0, 0, 0), np.float32)

    def offer(
        self,
        maps: Shaped[np.ndarray, "member picture class row col"],
        keys: Float[np.ndarray, "picture row col"],
        among: Bool[np.ndarray, "picture row col"],
    ) -> None:
        """Take what is lower than the highest held, and let go of as many."""
        self.offered += int(np.count_nonzero(among))
        limit = np.inf
        together = np.concatenate([self.keys, keys[among]])
        if len(together) > self.quota:
            limit = np.partition(together, self.quota - 1)[self.quota - 1]
        taken = among & (keys <= limit)
        found = np.moveaxis(maps, (0, 2), (-2, -1))[taken]
        stay = self.keys <= limit
        held = self.maps[stay] if len(self.keys) else found[:0]
        self.maps = np.concatenate([held, found])
        self.keys = np.concatenate([self.keys[stay], keys[taken]])
