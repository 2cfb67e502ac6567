"""Any strategy with calibrated probabilities: after pooling, or per member before it.

And their calibration error on images that nothing in the fusion was fitted on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.block_fusion import FusionPerImage, TrainingBlocks, read_members
from ensemble.calibration.scored_classes import Calibrator
from ensemble.decision import Decided, probabilities_of
from ensemble.fusion import (
    Blocks,
    Fusion,
    LearnedFusion,
    TrainingBlock,
    fuse_block,
    needs_images,
    some_members,
)
from ensemble.sampling import PixelSample, draw_pixels
from evaluation.core.blocks import blocks, sum_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData
from evaluation.core.ragged import Extent, Stack, extent_of, stack_images
from evaluation.core.types import Array, Groups, Images, Kept, Map, Maps
from evaluation.reliability import BINS, Reliability, expected_calibration_error, reliability

SAMPLE_PIXELS = 100_000

CALIBRATION_PART = 5
"""One image in so many is held out from a learned strategy, for its calibrator."""

MIN_GROUPS = 2


def calibrated(
    strategy: Fusion | LearnedFusion,
    calibrator: Calibrator,
    *,
    classes: int,
    ignore: int | None,
    seed: int,
    stage: Literal["pool", "members"],
) -> LearnedFusion:
    """Return a strategy whose probabilities are calibrated.

    The mean of calibrated members is underconfident, so by default the pooled map is calibrated. A
    learned strategy is more confident on what it was fitted on than elsewhere: the calibrator is
    fitted on a fifth of the images, fused by what was fitted on the others; then the strategy is
    fitted on all. Where groups of related images are known, none is split between the two.

    Args:
        strategy: pools the members.
        calibrator: fits on a sample of pixels.
        seed: random seed of the sample.
        stage: `pool` calibrates the output of the strategy, `members` its inputs.

    References:
        Rahaman and Thiery, "Uncertainty Quantification and Deep Ensembles", NeurIPS 2021.
    """

    def draw(blocks: Blocks) -> PixelSample:
        return draw_pixels(blocks, classes=classes, ignore=ignore, pixels=SAMPLE_PIXELS, seed=seed)

    def fit_pool(blocks: Blocks) -> Fusion:
        if not isinstance(strategy, LearnedFusion):
            return Calibrated(strategy, calibrator(draw(_FusedBlocks(blocks, strategy))))
        held_out = calibration_split(blocks, seed)
        partial = probabilities_of(strategy.fit(CalibrationSplit(blocks, ~held_out)))
        fused = _FusedBlocks(CalibrationSplit(blocks, held_out), partial)
        fitted_calibrator = calibrator(draw(fused))
        return _calibrate(strategy.fit(blocks), fitted_calibrator)

    def fit_members(blocks: Blocks) -> Fusion:
        sample = draw(blocks)
        members = range(sample.maps.shape[1])
        calibrators = tuple(
            calibrator(replace(sample, maps=sample.maps[:, m : m + 1])) for m in members
        )
        if not isinstance(strategy, LearnedFusion):
            return CalibratedMembers(strategy, calibrators)
        fused = strategy.fit(_CalibratedBlocks(blocks, _PerMember(calibrators)))
        if isinstance(fused, Decided):
            return replace(
                fused,
                decision=CalibratedMembers(fused.decision, calibrators),
                probabilities=CalibratedMembers(fused.probabilities, calibrators),
            )
        return CalibratedMembers(fused, calibrators)

    return LearnedFusion(fit_pool if stage == "pool" else fit_members, needs_images(strategy))


@dataclass(frozen=True)
class Calibrated:
    """A fusion whose output is calibrated.

    Args:
        inner: pools the members.
        calibrator: takes the pooled map as its only member.
    """

    inner: Fusion
    calibrator: Fusion

    @property
    def needs_images(self) -> bool:
        """Whether the inner fusion reads the images."""
        return needs_images(self.inner)

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Fuse, then calibrate."""
        return self.calibrator(fuse_block(self.inner, maps, images)[None])

    def of_members(self, members: Sequence[int]) -> Fusion:
        """Return the fusion of some of the members, calibrated in the same way."""
        return Calibrated(some_members(self.inner, members), self.calibrator)


@dataclass(frozen=True)
class CalibratedMembers:
    """A fusion of members that are calibrated one by one.

    Args:
        inner: pools the members.
        calibrators: one per member.
    """

    inner: Fusion
    calibrators: tuple[Fusion, ...]

    @property
    def needs_images(self) -> bool:
        """Whether the inner fusion reads the images."""
        return needs_images(self.inner)

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Calibrate, then fuse."""
        return fuse_block(self.inner, _PerMember(self.calibrators)(maps), images)

    def of_members(self, members: Sequence[int]) -> Fusion:
        """Return the fusion of some of the members, each calibrated as before."""
        calibrators = tuple(self.calibrators[member] for member in members)
        return CalibratedMembers(some_members(self.inner, members), calibrators)


def error_before_after(
    blocks: TrainingBlocks, per_fold: Sequence[Fusion], fold_of: Groups, *, ignore: int | None
) -> dict[str, Any]:
    """Return the calibration error of cross-fitted fusions, without their calibrator and with it.

    There is none without it where the pooling was fitted on calibrated maps: on uncalibrated maps
    it would do worse than necessary, and flatter the calibrator.

    Args:
        blocks: maps and target of all images.
        per_fold: one fusion per fold, fitted on the other folds.
    """
    per_fold = [probabilities_of(fusion) for fusion in per_fold]
    pools = [
        FusionPerImage(each, fold_of) for each in (per_fold, _without_calibrator(per_fold)) if each
    ]

    def work(block: slice) -> Reliability:
        maps, target = read_members(blocks.members, block), np.asarray(blocks.target[block])
        images = None if blocks.images is None else np.asarray(blocks.images[block])
        fused = [fuse_block(pool.for_block(block), maps, images) for pool in pools]
        return np.stack([reliability(one, target, ignore=ignore) for one in fused])

    with one_blas_thread():
        after, *before = sum_blocks(work, blocks.extent, size=blocks.size, threads=1)
    return {
        "measure": f"expected calibration error, top label, {BINS} bins, scored pixels",
        "pixels": int(after[0].sum()),
        "before": expected_calibration_error(before[0]) if before else None,
        "after": expected_calibration_error(after),
    }


def describe_calibration(errors: dict[str, Any]) -> str:
    """Format the result of `error_before_after` as one line."""
    if "not_measured" in errors:
        return f"calibration error not measured: {errors['not_measured']}"
    before = "unknown" if errors["before"] is None else f"{errors['before']:.4f}"
    return f"calibration error {before} before, {errors['after']:.4f} after"


def _calibrate(fusion: Fusion, calibrator: Fusion) -> Fusion:
    """Calibrate a fusion's probabilities; its decisions stay."""
    if isinstance(fusion, Decided):
        return replace(fusion, probabilities=Calibrated(fusion.probabilities, calibrator))
    return Calibrated(fusion, calibrator)


def _without_calibrator(per_fold: Sequence[Fusion]) -> list[Fusion]:
    """Return the inner fusions; none where they were fitted on calibrated maps."""
    pools = [f.inner if isinstance(f, Calibrated | CalibratedMembers) else f for f in per_fold]
    learned = any(pool is not pools[0] for pool in pools)  # otherwise all folds share one
    return [] if learned and isinstance(per_fold[0], CalibratedMembers) else pools


def calibration_split(blocks: Blocks, seed: int) -> Kept:
    """Choose a fifth of the labelled images; where groups are known, whole groups.

    Args:
        blocks: all blocks to fit on.
        seed: random seed that decides between equal groups.

    Raises:
        BadData: fewer than five images, or a single group.
    """
    if isinstance(blocks, TrainingBlocks) and blocks.groups is not None:
        return _hold_out_groups(blocks.target, blocks.groups, seed)
    labelled = np.concatenate([_labelled_images(block.target) for block in blocks])
    if labelled.sum() < CALIBRATION_PART:
        raise BadData(
            f"{labelled.sum()} images with target to fit on; calibrating a strategy that learns"
            f" needs {CALIBRATION_PART} or more: add images, or leave calibrate= out"
        )
    chosen: Kept = labelled & (np.cumsum(labelled) % CALIBRATION_PART == 0)
    return chosen


@dataclass(frozen=True)
class _SameImages:
    """Blocks that are made of others, image by image; what is known of the images stays known."""

    blocks: Blocks

    @property
    def extent(self) -> Extent | None:
        """Number and sizes of the images, where known."""
        return getattr(self.blocks, "extent", None)

    @property
    def groups(self) -> Groups | None:
        """The group of each image, where known."""
        return getattr(self.blocks, "groups", None)

    @property
    def folds(self) -> Groups | None:
        """The fold of each image, where known."""
        return getattr(self.blocks, "folds", None)


@dataclass(frozen=True)
class CalibrationSplit(_SameImages):
    """All blocks with the target of the selected images only."""

    selected: Kept

    def __iter__(self) -> Iterator[TrainingBlock]:
        start = 0
        for block in self.blocks:
            selected = self.selected[start : start + len(block.target)]
            target = np.where(selected[:, None, None], block.target, UNLABELLED)
            yield block._replace(target=target)
            start += len(selected)


def _hold_out_groups(target: Stack, groups: Groups, seed: int) -> Kept:
    from members.data.folds import hold_out

    labelled = np.concatenate(
        [_labelled_images(target[block]) for block in blocks(extent_of(target))]
    )
    count = len(np.unique(groups[labelled]))
    if count < MIN_GROUPS:
        raise BadData(
            f"{count} group of images with target to fit on; calibrating a strategy that learns"
            f" needs {MIN_GROUPS} or more: add images, or leave calibrate= out"
        )
    chosen = np.zeros(len(labelled), bool)
    indices = np.flatnonzero(labelled)
    chosen[labelled] = hold_out(
        _taken(target, indices), groups[labelled], 1 / CALIBRATION_PART, seed
    )
    return chosen


def _taken(target: Stack, indices: Array) -> Stack:
    return stack_images([np.asarray(target[index : index + 1])[0] for index in indices])


def _labelled_images(target: Array) -> Kept:
    labelled: Kept = (target != UNLABELLED).any(axis=(1, 2))
    return labelled


@dataclass(frozen=True)
class _PerMember:
    calibrators: tuple[Fusion, ...]

    def __call__(self, maps: Maps) -> Maps:
        pairs = zip(self.calibrators, maps, strict=True)
        return np.stack([calibrator(one[None]) for calibrator, one in pairs])


@dataclass(frozen=True)
class _CalibratedBlocks(_SameImages):
    """Blocks of calibrated members."""

    calibrate: _PerMember

    def __iter__(self) -> Iterator[TrainingBlock]:
        for block in self.blocks:
            yield block._replace(maps=self.calibrate(block.maps))


@dataclass(frozen=True)
class _FusedBlocks:
    """The fused maps of the labelled images, as the only member."""

    blocks: Blocks
    fusion: Fusion

    def __iter__(self) -> Iterator[TrainingBlock]:
        for block in self.blocks:
            labelled = _labelled_images(block.target)
            images = None if block.images is None else block.images[labelled]
            if labelled.any():
                fused = fuse_block(self.fusion, block.maps[:, labelled], images)
                yield TrainingBlock(fused[None], block.target[labelled])
