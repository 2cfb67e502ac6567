"""Any strategy with calibrated probabilities: after pooling, or member by member before it.

Which images a strategy learns from, and which its calibrator.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ensemble.block_fusion import TrainingBlocks
from ensemble.calibration.scored_classes import Calibrator
from ensemble.fusion import (
    Blocks,
    Fusion,
    LearnedFusion,
    TrainingBlock,
    fuse_block,
    needs_images,
)
from ensemble.sampling import PixelSample, sample
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData
from evaluation.core.types import Array, Groups, Images, Kept, Map, Maps
from members.data.folds import hold_out

PART = 5
"""One image of so many is kept from a strategy that learns, for its calibrator."""

FEWEST_GROUPS = 2


def calibration_split(blocks: Blocks, seed: int) -> Kept:
    """Choose a fifth of the images with target; where groups are known, whole groups.

    Args:
        blocks: what there is to learn from.
        seed: decides between groups alike.

    Raises:
        BadData: fewer than five images, or a single group.
    """
    if isinstance(blocks, TrainingBlocks) and blocks.groups is not None:
        return _held_out_groups(blocks.target, blocks.groups, seed)
    known = np.concatenate([labelled(block) for block in blocks])
    if known.sum() < PART:
        raise BadData(
            f"{known.sum()} images with target to fit on; calibrating a strategy that learns needs"
            f" {PART} or more: add images, or leave calibrate= out"
        )
    chosen: Kept = known & (np.cumsum(known) % PART == 0)
    return chosen


@dataclass(frozen=True)
class CalibrationSplit:
    """All blocks with the target of the kept images only."""

    blocks: Blocks
    kept: Kept

    def __iter__(self) -> Iterator[TrainingBlock]:
        before = 0
        for block in self.blocks:
            kept = self.kept[before : before + len(block.target)]
            target = np.where(kept[:, None, None], block.target, UNLABELLED)
            yield block._replace(target=target)
            before += len(kept)


def labelled(block: TrainingBlock) -> Kept:
    """Tell which images of a block have target."""
    known: Kept = (block.target != UNLABELLED).any(axis=(1, 2))
    return known


def _held_out_groups(target: Array, groups: Groups, seed: int) -> Kept:
    known = (target != UNLABELLED).any(axis=(1, 2))
    count = len(np.unique(groups[known]))
    if count < FEWEST_GROUPS:
        raise BadData(
            f"{count} group of images with target to fit on; calibrating a strategy that learns"
            f" needs {FEWEST_GROUPS} or more: add images, or leave calibrate= out"
        )
    chosen = np.zeros(len(known), bool)
    chosen[known] = hold_out(target[known], groups[known], 1 / PART, seed)
    return chosen


PIXELS = 100_000

At = Literal["pool", "members"]


def calibrated(
    strategy: Fusion | LearnedFusion,
    learn: Calibrator,
    *,
    classes: int,
    ignore: int | None,
    seed: int,
    at: At,
) -> LearnedFusion:
    """Return a strategy whose probabilities are calibrated.

    Pooling calibrated members makes the pool too unsure of itself, so by default the pool is
    calibrated. A strategy that learns is surer on what it learned from than elsewhere: the
    calibrator learns from a fifth of the images, fused by what was fitted on the others; then the
    strategy is fitted on all. Where groups of neighbouring images are known, none is divided
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
        if not isinstance(strategy, LearnedFusion):
            return Calibrated(strategy, learn(drawn(_Fused(blocks, strategy))))
        kept_back = calibration_split(blocks, seed)
        partial = strategy.fit(CalibrationSplit(blocks, ~kept_back))
        calibrator = learn(drawn(_Fused(CalibrationSplit(blocks, kept_back), partial)))
        return Calibrated(strategy.fit(blocks), calibrator)

    def fit_members(blocks: Blocks) -> Fusion:
        every = drawn(blocks)
        members = range(every.maps.shape[1])
        each = tuple(learn(replace(every, maps=every.maps[:, m : m + 1])) for m in members)
        first = _Each(each)
        pool = (
            strategy.fit(_Fed(blocks, first)) if isinstance(strategy, LearnedFusion) else strategy
        )
        return CalibratedMembers(pool, each)

    return LearnedFusion(fit_pool if at == "pool" else fit_members, needs_images(strategy))


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
    def needs_images(self) -> bool:
        """Whether the pool looks at the images."""
        return needs_images(self.inner)

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Fuse, then calibrate."""
        return self.calibrator(fuse_block(self.inner, maps, images)[None])


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
    def needs_images(self) -> bool:
        """Whether the pool looks at the images."""
        return needs_images(self.inner)

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Calibrate, then fuse."""
        return fuse_block(self.inner, _Each(self.calibrators)(maps), images)


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

    def __iter__(self) -> Iterator[TrainingBlock]:
        for block in self.blocks:
            yield block._replace(maps=self.each(block.maps))


@dataclass(frozen=True)
class _Fused:
    """What a fusion makes of those images that have target, as the only member."""

    blocks: Blocks
    fusion: Fusion

    def __iter__(self) -> Iterator[TrainingBlock]:
        for block in self.blocks:
            known = labelled(block)
            images = None if block.images is None else block.images[known]
            if known.any():
                fused = fuse_block(self.fusion, block.maps[:, known], images)
                yield TrainingBlock(fused[None], block.target[known])
