"""Stacking on millions of pixels, beside scikit-learn's logistic regression."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from benchmarks.fuse.synthetic import CLASSES, Size
from ensemble.fusion import Fusion, TrainingBlock
from ensemble.pipeline.bench.timing import compared, in_turns
from ensemble.sampling import PerPixelFeatures, PixelTarget, sample
from ensemble.strategies import STRATEGIES
from evaluation.core.blocks import blocks
from evaluation.core.types import Map, Maps

SIDE, BLOCK_IMAGES = 128, 32
SHARES = (0.0, 0.5, 0.2, 0.27, 0.03)
"""How often each class occurs; as rare as on Mars."""

OURS_OF, THEIRS_OF, HELD_OUT_OF = 20, 8, 8
"""Ours draws a twentieth of the pixels, scikit-learn is fitted on an eighth of them, and both are
examined on an eighth as many others."""

MOST_ROUNDS = 2
FLOOR = 2.0**-25
OURS, THEIRS = "ours", "scikit-learn"

Rows = tuple[PerPixelFeatures, PixelTarget]


def stacking(size: Size, folder: Path) -> dict[str, Any]:
    """Compare held-out log-loss and time of the fits, each timed twice at most.

    Ours goes through all pixels and fits on the sample that it draws. scikit-learn's time on all of
    them is extrapolated from its time on some, in proportion to the pixels.

    Args:
        size: how much.
        folder: nothing is written.
    """
    images = max(1, size.pixels // SIDE**2)
    cuts = blocks(images, BLOCK_IMAGES)
    parts = [_drawn(1 + cut.start, cut.stop - cut.start, size.members) for cut in cuts]
    held_out = _drawn(0, max(1, images // HELD_OUT_OF), size.members)
    pixels = images * SIDE**2
    sides = _sides(parts, held_out, pixels, min(size.rounds, MOST_ROUNDS))
    on_all = sides[THEIRS]["median_s"] * pixels / sides[THEIRS]["pixels"]
    return {
        "sides": sides,
        "pixels": pixels,
        "features": size.members * CLASSES,
        "held_out_pixels": held_out.target.size,
        "log_loss_above_scikit_learn": sides[OURS]["log_loss"] - sides[THEIRS]["log_loss"],
        "scikit_learn_on_all_extrapolated_s": on_all,
        "times_faster_extrapolated": on_all / sides[OURS]["median_s"],
        "sample": _sampled(parts, pixels // OURS_OF),
    }


def _sides(
    parts: list[TrainingBlock], held_out: TrainingBlock, pixels: int, rounds: int
) -> dict[str, dict[str, float]]:
    strategy = STRATEGIES.build(
        f"stacking(sample_pixels={pixels // OURS_OF})",
        classes=CLASSES,
        ignore=0,
        floor=FLOOR,
        seed=0,
    )
    # Pixels are drawn independently, so the first are as good a sample as any.
    enough = -(-len(parts) // THEIRS_OF)
    logs, target = _rows(parts[:enough], pixels // THEIRS_OF)
    fitted: dict[str, Any] = {}

    def ours() -> None:
        fitted[OURS] = strategy.fit(parts)

    def theirs() -> None:
        fitted[THEIRS] = LogisticRegression(max_iter=1000).fit(logs, target)

    sides = compared(in_turns({OURS: ours, THEIRS: theirs}, rounds), OURS)
    sides[OURS] |= {"pixels": pixels // OURS_OF, "log_loss": _ours(fitted[OURS], held_out)}
    sides[THEIRS] |= {"pixels": len(target), "log_loss": _theirs(fitted[THEIRS], held_out)}
    return sides


def _drawn(seed: int, images: int, members: int) -> TrainingBlock:
    """Draw target and maps; members differ in skill, share errors, and confuse classes."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    habits = fixed.normal(scale=0.5, size=(members, CLASSES, CLASSES)) + 2 * np.eye(CLASSES)
    target = rng.choice(CLASSES, p=SHARES, size=(images, SIDE, SIDE)).astype(np.uint8)
    shared = rng.standard_normal((*target.shape, CLASSES), dtype=np.float32)
    maps: Maps = np.empty((members, images, CLASSES, SIDE, SIDE), np.float32)
    for one, habit in zip(maps, habits.astype(np.float32), strict=True):
        own = rng.standard_normal(shared.shape, dtype=np.float32)
        said: Map = softmax(habit[target] + shared + np.float32(1.5) * own, axis=-1)
        one[...] = np.moveaxis(said, -1, 1)
    return TrainingBlock(maps, target)


def _rows(parts: list[TrainingBlock], pixels: int) -> Rows:
    """Return log-probabilities, a row a pixel, and the target."""
    rows = [
        np.moveaxis(maps, (0, 2), (-2, -1)).reshape(target.size, -1) for maps, target, _ in parts
    ]
    logs = np.log(np.maximum(np.concatenate(rows)[:pixels], np.float32(FLOOR)))
    return logs, np.concatenate([target.ravel() for _, target, _ in parts])[:pixels]


def _ours(fusion: Fusion, held_out: TrainingBlock) -> float:
    said = np.moveaxis(fusion(held_out.maps), 1, -1).reshape(-1, CLASSES)
    return _log_loss(said[:, 1:], held_out)


def _theirs(model: LogisticRegression, held_out: TrainingBlock) -> float:
    return _log_loss(model.predict_proba(_rows([held_out], held_out.target.size)[0]), held_out)


def _log_loss(said: Float[np.ndarray, "pixel scored"], held_out: TrainingBlock) -> float:
    target = held_out.target.ravel().astype(int) - 1
    return -float(np.log(said[np.arange(len(target)), target]).mean())


def _sampled(parts: list[TrainingBlock], pixels: int) -> dict[str, list[float]]:
    """Return each scored class's share of the pixels, of our sample, and of the sample's weight."""
    found = sample(parts, classes=CLASSES, ignore=0, pixels=pixels, seed=0)
    drawn = np.bincount(found.target, minlength=CLASSES)[1:]
    weighed = np.bincount(found.target, found.weight, CLASSES)[1:]
    return {
        "shares_of_all": (found.counts[1:] / found.counts.sum()).tolist(),
        "shares_drawn": (drawn / drawn.sum()).tolist(),
        "shares_by_weight": weighed.tolist(),
    }
