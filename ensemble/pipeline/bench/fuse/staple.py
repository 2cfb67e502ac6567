"""STAPLE beside SimpleITK's, on the same label maps."""

from pathlib import Path
from typing import Any

import numpy as np

from ensemble.fusion import Block, Learned
from ensemble.pipeline.bench.fuse.drawn import CLASSES, COLS, ROWS, Size
from ensemble.pipeline.bench.timing import compared, in_turns
from ensemble.strategies import STRATEGIES
from evaluation.ground.arrays import Array, Labels
from evaluation.ground.highest import highest

PICTURES = 24
COARSE_PX = 4
RIGHT = (0.6, 0.95)
"""How often the first and the last member are right; the others lie between."""


def staple(size: Size, folder: Path) -> dict[str, Any]:
    """Compare time and label maps with `MultiLabelSTAPLE`, on 24 pictures at most.

    Args:
        size: how much.
        folder: nothing is written.
    """
    import SimpleITK  # of the extra `bench`

    rated = _rated(size.members, min(size.pictures, PICTURES))
    images = [SimpleITK.GetImageFromArray(np.concatenate(labels)) for labels in rated]
    maps = np.moveaxis(np.eye(CLASSES, dtype=np.float32)[rated], -1, 2).copy()
    strategy = STRATEGIES.build("staple", classes=CLASSES, ignore=None)
    assert isinstance(strategy, Learned)

    def ours() -> Array:
        return highest(strategy.fit([Block(maps, rated[0])])(maps))

    def theirs() -> Array:
        found = SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(images))  # type: ignore[no-untyped-call]
        return np.reshape(found, rated[0].shape)

    seconds = in_turns({"ours": ours, "SimpleITK": theirs}, size.rounds)
    return {
        "sides": compared(seconds, "SimpleITK"),
        "pictures": len(rated[0]),
        "members": size.members,
        "equal_share": float((ours() == theirs()).mean()),
    }


def _rated(members: int, pictures: int) -> Array:
    """Draw label maps by members each right with a chance of its own, else wrong at random."""
    rng = np.random.default_rng(0)
    shape = (members, pictures, ROWS, COLS)
    coarse = rng.integers(0, CLASSES, (pictures, ROWS // COARSE_PX, COLS // COARSE_PX))
    truth: Labels = coarse.repeat(COARSE_PX, axis=1).repeat(COARSE_PX, axis=2)
    right = rng.random(shape) < np.linspace(*RIGHT, members)[:, None, None, None]
    return np.where(right, truth, rng.integers(0, CLASSES, shape)).astype(np.uint8)
