"""Calibration error before and after, on images that nothing in the fusion learned from."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.block_fusion import OutOfFoldFusion, TrainingBlocks, stacked
from ensemble.calibration.calibrated import Calibrated, CalibratedMembers
from ensemble.fusion import Fusion, LearnedFusion, fuse_block
from evaluation.core.blocks import sum_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Groups
from evaluation.reliability import (
    BINS,
    Reliability,
    ece,
    reliability,
)


def error_before_after(
    blocks: TrainingBlocks, per_fold: Sequence[Fusion], fold_of: Groups, *, ignore: int | None
) -> dict[str, Any]:
    """Return the calibration error of cross-fitted fusions, without their calibrator and with it.

    Without it there is none where what pools has learned from calibrated maps: on maps as they are
    it would do worse than it need, and flatter the calibrator.

    Args:
        blocks: maps and target of all images.
        per_fold: one a fold, fitted on the others.
        fold_of: the fold of each image.
        ignore: the class that is not scored.
    """
    pools = [
        OutOfFoldFusion(each, fold_of) for each in (per_fold, without_calibrator(per_fold)) if each
    ]

    def work(block: slice) -> Reliability:
        maps, target = stacked(blocks.members, block), np.asarray(blocks.target[block])
        images = None if blocks.images is None else np.asarray(blocks.images[block])
        fused = [fuse_block(each.at(block), maps, images) for each in pools]
        return np.stack([reliability(one, target, ignore=ignore) for one in fused])

    with one_blas_thread():
        after, *before = sum_blocks(work, len(blocks.target), size=blocks.size, threads=1)
    return {
        "measure": f"expected calibration error, top label, {BINS} bins, scored pixels",
        "pixels": int(after[0].sum()),
        "before": ece(before[0]) if before else None,
        "after": ece(after),
    }


def describe_calibration(found: dict[str, Any]) -> str:
    """Say what `error_before_after` found in a line."""
    if "not_measured" in found:
        return f"calibration error not measured: {found['not_measured']}"
    before = "unknown" if found["before"] is None else f"{found['before']:.4f}"
    return f"calibration error {before} before, {found['after']:.4f} after"


def without_calibrator(per_fold: Sequence[Fusion]) -> list[Fusion]:
    """Return what pools inside calibrated fusions; nothing where it learned from calibrated maps.

    Args:
        per_fold: one a fold.
    """
    pools = [f.inner if isinstance(f, Calibrated | CalibratedMembers) else f for f in per_fold]
    learned = any(pool is not pools[0] for pool in pools)  # else every fold has the very same
    return [] if learned and isinstance(per_fold[0], CalibratedMembers) else pools


def cross_fit(built: LearnedFusion, blocks: TrainingBlocks, fold_of: Groups) -> list[Fusion]:
    """Fit once for each fold, on the target of the others."""
    fitted = []
    for fold in range(int(fold_of.max()) + 1):
        others = np.where((fold_of == fold)[:, None, None], UNLABELLED, blocks.target)
        fitted.append(built.fit(replace(blocks, target=others.astype(np.uint8))))
    return fitted
