"""Pixels to learn from, taken evenly from held-out maps: as many of each class as fit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from evaluation.ground.errors import BadData
from postproc.step import FitBlock

MAX_VALUES = 1 << 23
"""Logarithms that are kept: 32 MB, half a million pixels of each of four classes."""

THINNING = 3
"""Odd, so that of a plain picture not the same columns of every row stay."""

LogMaps = Float[np.ndarray, "scored pixel"]
Places = Int[np.ndarray, "pixel"]
PerPixel = Float[np.ndarray, "pixel"]


@dataclass(frozen=True)
class HeldOut:
    """What a member says about some pixels, and what is true there.

    Args:
        log_maps: logarithms of the probabilities of the scored classes.
        truth: place of the true class among the scored ones.
        weight: for how many pixels of its class each one stands.
    """

    log_maps: LogMaps
    truth: Places
    weight: PerPixel


def held_out_pixels(
    blocks: Iterable[FitBlock], scored: Sequence[int], floor: float, *, values: int = MAX_VALUES
) -> HeldOut:
    """Take every pixel, or every third, ninth, ... of a class that has more than its share.

    Rare classes are taken whole, since it is their pixels that decide. What is taken depends
    neither on how the pictures were cut into blocks nor on chance.

    Args:
        blocks: maps and truth.
        scored: the classes to take, of both.
        floor: probabilities below this are raised to it before the logarithm.
        values: how many logarithms may be kept.

    Raises:
        BadData: no pixel of a scored class.
    """
    most = max(1, values // len(scored) ** 2)
    found = [_Thinned(label, scored, most) for label in scored]
    for block in blocks:
        for thinned in found:
            thinned.add(block)
    if not any(thinned.met for thinned in found):
        raise BadData("the truth to learn from has no scored pixel; give pictures that have some")
    maps = [thinned.joined() for thinned in found]
    kept = np.array([part.shape[1] for part in maps])
    weight = np.array([thinned.met for thinned in found]) / np.maximum(kept, 1)
    log_maps = np.log(np.maximum(np.concatenate(maps, axis=1), np.float32(floor)))
    return HeldOut(log_maps, np.repeat(np.arange(len(scored)), kept), np.repeat(weight, kept))


class _Thinned:
    """Every k-th pixel of a class; k grows when there are too many."""

    def __init__(self, label: int, scored: Sequence[int], most: int) -> None:
        self.label, self.scored, self.most = label, list(scored), most
        self.every, self.met = 1, 0
        self.parts: list[LogMaps] = [np.empty((len(scored), 0), np.float32)]

    def add(self, block: FitBlock) -> None:
        """Take the class's pixels of a block."""
        picture, row, col = np.nonzero(block.truth == self.label)
        taken = slice(-self.met % self.every, None, self.every)
        found = block.maps[picture[taken], :, row[taken], col[taken]]
        self.parts.append(found[:, self.scored].T)
        self.met += len(picture)
        while -(-self.met // self.every) > self.most:
            self.every *= THINNING
            self.parts = [self.joined()[:, ::THINNING]]

    def joined(self) -> LogMaps:
        """Return the probabilities of what was taken so far."""
        return np.concatenate(self.parts, axis=1)
