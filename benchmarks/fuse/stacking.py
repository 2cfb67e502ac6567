"""Stacking on millions of pixels, compared with scikit-learn's logistic regression."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from benchmarks.fuse import ComparisonResult, Workload
from benchmarks.synthetic import CLASSES
from ensemble.fusion import Fusion, TrainingBlock
from ensemble.pipeline.bench.timing import compared, interleaved
from ensemble.sampling import PerPixelFeatures, PixelTarget, draw_pixels
from ensemble.strategies import STRATEGIES
from evaluation.core.blocks import blocks
from evaluation.core.types import Map, Maps

SIDE, BLOCK_IMAGES = 128, 32
CLASS_SHARES = (0.0, 0.5, 0.2, 0.27, 0.03)
"""As on Mars, where the last class is rare."""

OUR_FRACTION, SKLEARN_FRACTION, HOLDOUT_FRACTION = 20, 8, 8
"""Ours samples a twentieth of the pixels, scikit-learn is fitted on an eighth of them; both are
evaluated on others, an eighth as many."""

MAX_ROUNDS = 2
FLOOR = 2.0**-25
OURS, SKLEARN = "ours", "scikit-learn"

Rows = tuple[PerPixelFeatures, PixelTarget]


def stacking(workload: Workload, folder: Path) -> ComparisonResult:
    """Compare held-out log-loss and time of the fits, each timed at most twice.

    Ours goes through all pixels and fits on the sample that it draws. scikit-learn's time on all of
    them is extrapolated from its time on some, in proportion to the pixels.
    """
    images = max(1, workload.pixels // SIDE**2)
    training = [
        _draw_block(1 + block.start, block.stop - block.start, workload.members)
        for block in blocks(images, BLOCK_IMAGES)
    ]
    holdout = _draw_block(0, max(1, images // HOLDOUT_FRACTION), workload.members)
    pixels = images * SIDE**2
    sides = _fit_both(training, holdout, pixels, min(workload.rounds, MAX_ROUNDS))
    on_all = sides[SKLEARN]["median_s"] * pixels / sides[SKLEARN]["pixels"]
    facts = {
        "pixels": pixels,
        "features": workload.members * CLASSES,
        "held_out_pixels": holdout.target.size,
        "log_loss_above_scikit_learn": sides[OURS]["log_loss"] - sides[SKLEARN]["log_loss"],
        "scikit_learn_on_all_extrapolated_s": on_all,
        "times_faster_extrapolated": on_all / sides[OURS]["median_s"],
        "sample": _sample_shares(training, pixels // OUR_FRACTION),
    }
    return ComparisonResult(sides, facts)


def _fit_both(
    training: list[TrainingBlock], holdout: TrainingBlock, pixels: int, rounds: int
) -> dict[str, dict[str, float]]:
    strategy = STRATEGIES.build(
        f"stacking(sample_pixels={pixels // OUR_FRACTION})",
        classes=CLASSES,
        ignore=0,
        floor=FLOOR,
        seed=0,
    )
    # Pixels are drawn independently, so the first are as good a sample as any.
    enough = -(-len(training) // SKLEARN_FRACTION)
    logs, target = _rows(training[:enough], pixels // SKLEARN_FRACTION)
    models: dict[str, Any] = {}

    def ours() -> None:
        models[OURS] = strategy.fit(training)

    def sklearn() -> None:
        models[SKLEARN] = LogisticRegression(max_iter=1000).fit(logs, target)

    sides = compared(interleaved({OURS: ours, SKLEARN: sklearn}, rounds), OURS)
    sides[OURS] |= {
        "pixels": pixels // OUR_FRACTION,
        "log_loss": _log_loss(_our_probs(models[OURS], holdout), holdout),
    }
    features = _rows([holdout], holdout.target.size)[0]
    sides[SKLEARN] |= {
        "pixels": len(target),
        "log_loss": _log_loss(models[SKLEARN].predict_proba(features), holdout),
    }
    return sides


def _draw_block(seed: int, images: int, members: int) -> TrainingBlock:
    """Draw target and maps; members differ in skill, share errors, and confuse classes."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    biases = fixed.normal(scale=0.5, size=(members, CLASSES, CLASSES)) + 2 * np.eye(CLASSES)
    target = rng.choice(CLASSES, p=CLASS_SHARES, size=(images, SIDE, SIDE)).astype(np.uint8)
    shared = rng.standard_normal((*target.shape, CLASSES), dtype=np.float32)
    maps: Maps = np.empty((members, images, CLASSES, SIDE, SIDE), np.float32)
    for member_maps, bias in zip(maps, biases.astype(np.float32), strict=True):
        noise = rng.standard_normal(shared.shape, dtype=np.float32)
        probs: Map = softmax(bias[target] + shared + np.float32(1.5) * noise, axis=-1)
        member_maps[...] = np.moveaxis(probs, -1, 1)
    return TrainingBlock(maps, target)


def _rows(parts: list[TrainingBlock], pixels: int) -> Rows:
    """Return log-probabilities, one row per pixel, and the target."""
    rows = [
        np.moveaxis(maps, (0, 2), (-2, -1)).reshape(target.size, -1) for maps, target, _ in parts
    ]
    logs = np.log(np.maximum(np.concatenate(rows)[:pixels], np.float32(FLOOR)))
    return logs, np.concatenate([target.ravel() for _, target, _ in parts])[:pixels]


def _our_probs(fusion: Fusion, holdout: TrainingBlock) -> Float[np.ndarray, "pixel scored"]:
    probs: Map = np.moveaxis(fusion(holdout.maps), 1, -1).reshape(-1, CLASSES)[:, 1:]
    return probs


def _log_loss(probs: Float[np.ndarray, "pixel scored"], holdout: TrainingBlock) -> float:
    target = holdout.target.ravel().astype(int) - 1
    return -float(np.log(probs[np.arange(len(target)), target]).mean())


def _sample_shares(training: list[TrainingBlock], pixels: int) -> dict[str, list[float]]:
    """Return each scored class's share of all pixels, of our sample, and of the sample's weight."""
    sampled = draw_pixels(training, classes=CLASSES, ignore=0, pixels=pixels, seed=0)
    counts = np.bincount(sampled.target, minlength=CLASSES)[1:]
    weights = np.bincount(sampled.target, sampled.weight, CLASSES)[1:]
    return {
        "shares_of_all": (sampled.counts[1:] / sampled.counts.sum()).tolist(),
        "shares_drawn": (counts / counts.sum()).tolist(),
        "shares_by_weight": weights.tolist(),
    }
