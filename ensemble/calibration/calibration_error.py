"""Calibration error before and after, on images that nothing in the fusion was fitted on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.block_fusion import FusionPerImage, TrainingBlocks, read_members
from ensemble.calibration.calibrated import Calibrated, CalibratedMembers
from ensemble.decision import probabilities_of
from ensemble.fusion import Fusion, fuse_block
from evaluation.core.blocks import sum_blocks
from evaluation.core.types import Groups
from evaluation.reliability import BINS, Reliability, expected_calibration_error, reliability


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
        FusionPerImage(each, fold_of) for each in (per_fold, without_calibrator(per_fold)) if each
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


def without_calibrator(per_fold: Sequence[Fusion]) -> list[Fusion]:
    """Return the inner fusions; none where they were fitted on calibrated maps."""
    pools = [f.inner if isinstance(f, Calibrated | CalibratedMembers) else f for f in per_fold]
    learned = any(pool is not pools[0] for pool in pools)  # otherwise all folds share one
    return [] if learned and isinstance(per_fold[0], CalibratedMembers) else pools
