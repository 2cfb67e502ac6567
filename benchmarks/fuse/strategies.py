"""STAPLE beside SimpleITK's, on the same label maps.

What every strategy adds to reading, beside `mean`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuse.synthetic import (
    CLASSES,
    COLS,
    ROWS,
    Size,
    drawn_members,
)
from ensemble.fusion import Fusion, LearnedFusion, TrainingBlock
from ensemble.pipeline.bench.timing import compared, in_turns
from ensemble.strategies import STRATEGIES
from ensemble.strategy import build_strategy
from evaluation.core.arrays import argmax
from evaluation.core.types import Array, Labels

IMAGES = 24
COARSE_PX = 4
RIGHT = (0.6, 0.95)
"""How often the first and the last member are right; the others lie between."""


def staple(size: Size, folder: Path) -> dict[str, Any]:
    """Compare time and label maps with `MultiLabelSTAPLE`, on 24 images at most.

    Args:
        size: how much.
        folder: nothing is written.
    """
    import SimpleITK  # of the extra `bench`

    rated = _rated(size.members, min(size.images, IMAGES))
    images = [SimpleITK.GetImageFromArray(np.concatenate(labels)) for labels in rated]
    maps = np.moveaxis(np.eye(CLASSES, dtype=np.float32)[rated], -1, 2).copy()
    strategy = STRATEGIES.build("staple", classes=CLASSES, ignore=None)
    assert isinstance(strategy, LearnedFusion)

    def ours() -> Array:
        return argmax(strategy.fit([TrainingBlock(maps, rated[0])])(maps))

    def theirs() -> Array:
        found = SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(images))
        return np.reshape(found, rated[0].shape)

    seconds = in_turns({"ours": ours, "SimpleITK": theirs}, size.rounds)
    return {
        "sides": compared(seconds, "SimpleITK"),
        "images": len(rated[0]),
        "members": size.members,
        "equal_share": float((ours() == theirs()).mean()),
    }


def _rated(members: int, images: int) -> Array:
    """Draw label maps by members each right with a chance of its own, else wrong at random."""
    rng = np.random.default_rng(0)
    shape = (members, images, ROWS, COLS)
    coarse = rng.integers(0, CLASSES, (images, ROWS // COARSE_PX, COLS // COARSE_PX))
    target: Labels = coarse.repeat(COARSE_PX, axis=1).repeat(COARSE_PX, axis=2)
    right = rng.random(shape) < np.linspace(*RIGHT, members)[:, None, None, None]
    return np.where(right, target, rng.integers(0, CLASSES, shape)).astype(np.uint8)


STEPS_IMAGES, FIT_IMAGES = 64, 4
VARIANTS = (
    "majority_vote(ties=first_member)",
    "majority_vote(ties=lowest)",
    "mean(calibrate=isotonic)",
    "mean(calibrate=temperature)",
    "mean(calibrate=vector)",
    "per_class_vote(votes=hard)",
    "power_mean(exponent=7)",
    "stacking(neighbours=2)",
    "weighted_mean(per_class=True)",
)


def steps(size: Size, folder: Path) -> dict[str, Any]:
    """Compare the fuse steps: one block, in memory, of what was fitted on a few images.

    Args:
        size: how much; 64 images at most.
        folder: nothing is written.
    """
    maps = drawn_members(size.members, min(size.images, STEPS_IMAGES))
    # All members are of some use, or what selects them would have little to do.
    target = maps.mean(axis=0).argmax(axis=1)
    block = TrainingBlock(maps[:, :FIT_IMAGES], target[:FIT_IMAGES])
    fusions = {spec: _fitted(spec, block, size.members) for spec in (*STRATEGIES, *VARIANTS)}
    sides = {spec: lambda fusion=fusion: fusion(maps) for spec, fusion in fusions.items()}
    return {"sides": compared(in_turns(sides, size.rounds), "mean"), "images": maps.shape[1]}


def _fitted(spec: str, block: TrainingBlock, members: int) -> Fusion:
    built = build_strategy(
        spec,
        classes=CLASSES,
        ignore=0,
        kinds=("probabilities",) * members,
        floor=2.0**-25,
        seed=0,
    )
    return built.fit([block]) if isinstance(built, LearnedFusion) else built
