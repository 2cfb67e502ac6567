"""Stores of drawn maps on disk."""

from pathlib import Path

import numpy as np

from ensemble.pipeline.bench.fuse.drawn import CLASSES, COLS, ROWS, drawn
from evaluation.ground.blocks import BLOCK_PICTURES, blocks
from evaluation.ground.classes import numbered
from members.store import ProbabilityStore, StoreDtype


def write_stores(folder: Path, members: int, pictures: int, dtype: StoreDtype) -> None:
    """Write the stores of all members, each block the same.

    Args:
        folder: gets a folder a member, by its number.
        members: how many.
        pictures: of each.
        dtype: on disk; a map of float16 takes 82 KB, one of uint8 41 KB.
    """
    rng = np.random.default_rng(0)
    for member in range(members):
        maps = drawn(rng, BLOCK_PICTURES)
        store = ProbabilityStore.create(
            folder / str(member),
            ids=[str(number) for number in range(pictures)],
            classes=numbered(CLASSES, ignore=0),
            shape=(ROWS, COLS),
            seen=None,
            dtype=dtype,
        )
        for block in blocks(pictures):
            store.write(block, maps[: block.stop - block.start])


def open_stores(folder: Path, members: int) -> list[ProbabilityStore]:
    """Open what `write_stores` wrote."""
    return [ProbabilityStore(folder / str(member)) for member in range(members)]
