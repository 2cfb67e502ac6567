"""Fit the steps of a chain that learn, one after the other, on held-out maps and target.

Pixels to learn from, taken evenly from held-out maps: as many of each class as fit.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.types import Array
from members.maps import MapReader
from postproc.chain import Chain
from postproc.images import check_images
from postproc.step import FitBlock, LearnedStep


def fit_chain(chain: Chain, maps: MapReader, target: Array, images: Array | None = None) -> Chain:
    """Return the chain with every step that learns replaced by what it has become.

    A step learns from what the steps before it give, these fitted already. The result is a chain
    like any other: its text holds what was learned.

    Args:
        chain: what to fit.
        maps: held-out ones, of images that the member was not trained on.
        target: class index per pixel, (image, row, col); 255 where nothing is to be learned.
        images: uint8 (image, channel, row, col); may be None unless a step before one that
            learns needs them.

    Raises:
        BadMaps: maps that do not fit the chain.
        BadLabels: target of another shape or type, or with a label outside the classes.
        BadData: no scored pixel, or images that are missing or do not fit.
    """
    _check_target(target, maps)
    needed_by = chain.before_learning.first_in_need
    check_images(images, len(target), target.shape[1:], needed_by=needed_by, option="--fit-images")
    for place, step in enumerate(chain.steps):
        if isinstance(step, LearnedStep):
            learned_from = _Blocks(chain.head(place), maps, target, images if needed_by else None)
            chain = chain.put(place, step.fit(learned_from))
    return chain


@dataclass(frozen=True)
class _Blocks:
    """What the head of a chain gives, with target, block of images by block."""

    head: Chain
    maps: MapReader
    target: Array
    images: Array | None

    def __iter__(self) -> Iterator[FitBlock]:
        def block(at: slice) -> FitBlock:
            seen = None if self.images is None else np.asarray(self.images[at])
            return FitBlock(
                self.head.through(self.maps.read(at), seen), np.asarray(self.target[at])
            )

        return map_blocks(block, len(self.target))


def _check_target(target: Array, maps: MapReader) -> None:
    images, classes, *pixels = maps.size
    if target.shape != (images, *pixels) or target.dtype.kind not in "iu":
        raise BadLabels(
            f"target is {target.dtype} of shape {target.shape}; expected integers of shape"
            f" {(images, *pixels)} as in {maps.name}"
        )
    for block in blocks(images):
        found = np.unique(target[block])
        strange = found[((found < 0) | (found >= classes)) & (found != UNLABELLED)]
        if len(strange):
            raise BadLabels(
                f"target holds {strange.tolist()}; expected 0 to {classes - 1} and {UNLABELLED}"
            )


MAX_VALUES = 1 << 23
"""Logarithms that are kept: 32 MB, half a million pixels of each of four classes."""

THINNING = 3
"""Odd, so that of a plain image not the same columns of every row stay."""

LogMaps = Float[np.ndarray, "scored pixel"]
Places = Int[np.ndarray, "pixel"]
PerPixel = Float[np.ndarray, "pixel"]


@dataclass(frozen=True)
class FitPixels:
    """What a member says about some pixels, and what is true there.

    Args:
        log_maps: logarithms of the probabilities of the scored classes.
        target: place of the true class among the scored ones.
        weight: for how many pixels of its class each one stands.
    """

    log_maps: LogMaps
    target: Places
    weight: PerPixel


def fit_pixels(
    blocks: Iterable[FitBlock], scored: Sequence[int], floor: float, *, values: int = MAX_VALUES
) -> FitPixels:
    """Take every pixel, or every third, ninth, ... of a class that has more than its share.

    Rare classes are taken whole, since it is their pixels that decide. What is taken depends
    neither on how the images were cut into blocks nor on chance.

    Args:
        blocks: maps and target.
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
        raise BadData("the target to learn from has no scored pixel; give images that have some")
    maps = [thinned.joined() for thinned in found]
    kept = np.array([part.shape[1] for part in maps])
    weight = np.array([thinned.met for thinned in found]) / np.maximum(kept, 1)
    log_maps = np.log(np.maximum(np.concatenate(maps, axis=1), np.float32(floor)))
    return FitPixels(log_maps, np.repeat(np.arange(len(scored)), kept), np.repeat(weight, kept))


class _Thinned:
    """Every k-th pixel of a class; k grows when there are too many."""

    def __init__(self, label: int, scored: Sequence[int], most: int) -> None:
        self.label, self.scored, self.most = label, list(scored), most
        self.every, self.met = 1, 0
        self.parts: list[LogMaps] = [np.empty((len(scored), 0), np.float32)]

    def add(self, block: FitBlock) -> None:
        """Take the class's pixels of a block."""
        image, row, col = np.nonzero(block.target == self.label)
        taken = slice(-self.met % self.every, None, self.every)
        found = block.maps[image[taken], :, row[taken], col[taken]]
        self.parts.append(found[:, self.scored].T)
        self.met += len(image)
        while -(-self.met // self.every) > self.most:
            self.every *= THINNING
            self.parts = [self.joined()[:, ::THINNING]]

    def joined(self) -> LogMaps:
        """Return the probabilities of what was taken so far."""
        return np.concatenate(self.parts, axis=1)
