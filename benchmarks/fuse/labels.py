"""From stores to label maps, beside one compressed `.npz` an image and member."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuse.synthetic import (
    CLASSES,
    COLS,
    ROWS,
    Size,
    drawn,
)
from ensemble.block_fusion import fuse
from ensemble.pipeline.bench.timing import compared, in_turns
from ensemble.strategies import STRATEGIES
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks
from evaluation.core.classes import numbered
from evaluation.core.types import Labels, Map
from members.maps import MapReader
from members.store import ProbabilityStore
from members.store_metadata import StoreDtype

SLOW = "a .npz an image"
FEWEST, SHARE = 20, 20
DTYPES: tuple[StoreDtype, ...] = ("float16", "uint8")


def labels(size: Size, folder: Path) -> dict[str, Any]:
    """Compare seconds an image, since the slow way gets a twentieth of the images.

    Args:
        size: how much.
        folder: where stores and `.npz` are written.
    """
    few = min(size.images, max(FEWEST, size.images // SHARE))
    stores = _written(folder, size, few)
    sides: dict[str, Callable[[], object]] = {
        f"store {dtype}": partial(_argmax, of) for dtype, of in stores.items()
    }
    sides[SLOW] = partial(_one_by_one, folder, size.members, few)
    seconds = {
        name: [s / (few if name == SLOW else size.images) for s in times]
        for name, times in in_turns(sides, size.rounds).items()
    }
    return {"sides": compared(seconds, "store float16"), "seconds_are": "an image"}


def _written(folder: Path, size: Size, few: int) -> dict[StoreDtype, list[ProbabilityStore]]:
    rng = np.random.default_rng(0)
    found: dict[StoreDtype, list[ProbabilityStore]] = {dtype: [] for dtype in DTYPES}
    for member in range(size.members):
        for dtype, stores in found.items():
            stores.append(_store(folder / dtype / str(member), size.images, dtype))
        for block in blocks(size.images):
            maps = drawn(rng, block.stop - block.start)
            for stores in found.values():
                stores[member].write(block, maps)
            for number, one in zip(range(block.start, few), maps, strict=False):
                np.savez_compressed(folder / f"{member}-{number}.npz", probabilities=one)
    return found


def _store(folder: Path, images: int, dtype: StoreDtype) -> ProbabilityStore:
    return ProbabilityStore.create(
        folder,
        ids=[str(number) for number in range(images)],
        classes=numbered(CLASSES, ignore=0),
        shape=(ROWS, COLS),
        seen=None,
        dtype=dtype,
    )


def _argmax(readers: Sequence[MapReader]) -> Labels:
    count, _, rows, cols = readers[0].size
    found: Labels = np.empty((count, rows, cols), np.uint8)

    def write(block: slice, fused: Map) -> None:
        found[block] = argmax(fused)

    fuse(readers, STRATEGIES.build("mean"), count, write)
    return found


def _one_by_one(folder: Path, members: int, images: int) -> None:
    """Go the way of nnU-Net."""
    for number in range(images):
        total = np.zeros((CLASSES, ROWS, COLS), np.float32)
        for member in range(members):
            with np.load(folder / f"{member}-{number}.npz") as archive:
                total += archive["probabilities"]
        (total / members).argmax(axis=0).astype(np.uint8)
