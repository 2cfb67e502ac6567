"""Any strategy with calibrated probabilities: after pooling, or member by member before it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ensemble.calibration.held_out import Part, held_out, labelled
from ensemble.calibration.scored import Calibrator
from ensemble.fusion import Block, Blocks, Fusion, Learned, fuse_block, needs_pictures
from ensemble.sample import PixelSample, sample
from evaluation.ground.arrays import Map, Maps, Pictures

PIXELS = 100_000

At = Literal["pool", "members"]


def calibrated(
    strategy: Fusion | Learned,
    learn: Calibrator,
    *,
    classes: int,
    ignore: int | None,
    seed: int,
    at: At,
) -> Learned:
    """Return a strategy whose probabilities are calibrated.

    Pooling calibrated members makes the pool too unsure of itself, so by default the pool is
    calibrated. A strategy that learns is surer on what it learned from than elsewhere: the
    calibrator learns from a fifth of the pictures, fused by what was fitted on the others; then the
    strategy is fitted on all. Where groups of neighbouring pictures are known, none is divided
    between the two.

    Args:
        strategy: what pools.
        learn: the calibrator.
        classes: how many classes there are.
        ignore: the class that is not scored.
        seed: of the draw of pixels.
        at: `pool` calibrates what the strategy gives, `members` what it gets.

    Source: Rahaman and Thiery, "Uncertainty Quantification and Deep Ensembles", NeurIPS 2021.
    """

    def drawn(blocks: Blocks) -> PixelSample:
        return sample(blocks, classes=classes, ignore=ignore, pixels=PIXELS, seed=seed)

    def fit_pool(blocks: Blocks) -> Fusion:
        if not isinstance(strategy, Learned):
            return Calibrated(strategy, learn(drawn(_Fused(blocks, strategy))))
        kept_back = held_out(blocks, seed)
        partial = strategy.fit(Part(blocks, ~kept_back))
        calibrator = learn(drawn(_Fused(Part(blocks, kept_back), partial)))
        return Calibrated(strategy.fit(blocks), calibrator)

    def fit_members(blocks: Blocks) -> Fusion:
        every = drawn(blocks)
        members = range(every.maps.shape[1])
        each = tuple(learn(replace(every, maps=every.maps[:, m : m + 1])) for m in members)
        first = _Each(each)
        pool = strategy.fit(_Fed(blocks, first)) if isinstance(strategy, Learned) else strategy
        return CalibratedMembers(pool, each)

    return Learned(fit_pool if at == "pool" else fit_members, needs_pictures(strategy))


@dataclass(frozen=True)
class Calibrated:
    """A fusion whose result is calibrated.

    Args:
        inner: what pools.
        calibrator: takes the result as its only member.
    """

    inner: Fusion
    calibrator: Fusion

    @property
    def needs_pictures(self) -> bool:
        """Whether the pool looks at the pictures."""
        return needs_pictures(self.inner)

    def __call__(self, maps: Maps, pictures: Pictures | None = None) -> Map:
        """Fuse, then calibrate."""
        return self.calibrator(fuse_block(self.inner, maps, pictures)[None])


@dataclass(frozen=True)
class CalibratedMembers:
    """A fusion of members that are calibrated each.

    Args:
        inner: what pools.
        calibrators: one a member.
    """

    inner: Fusion
    calibrators: tuple[Fusion, ...]

    @property
    def needs_pictures(self) -> bool:
        """Whether the pool looks at the pictures."""
        return needs_pictures(self.inner)

    def __call__(self, maps: Maps, pictures: Pictures | None = None) -> Map:
        """Calibrate, then fuse."""
        return fuse_block(self.inner, _Each(self.calibrators)(maps), pictures)


@dataclass(frozen=True)
class _Each:
    calibrators: tuple[Fusion, ...]

    def __call__(self, maps: Maps) -> Maps:
        pairs = zip(self.calibrators, maps, strict=True)
        return np.stack([calibrator(one[None]) for calibrator, one in pairs])


@dataclass(frozen=True)
class _Fed:
    """Blocks of calibrated members."""

    blocks: Blocks
    each: _Each

    def __iter__(self) -> Iterator[Block]:
        for block in self.blocks:
            yield block._replace(maps=self.each(block.maps))


@dataclass(frozen=True)
class _Fused:
    """What a fusion makes of those pictures that have truth, as the only member."""

    blocks: Blocks
    fusion: Fusion

    def __iter__(self) -> Iterator[Block]:
        for block in self.blocks:
            known = labelled(block)
            pictures = None if block.pictures is None else block.pictures[known]
            if known.any():
                fused = fuse_block(self.fusion, block.maps[:, known], pictures)
                yield Block(fused[None], block.truth[known])
