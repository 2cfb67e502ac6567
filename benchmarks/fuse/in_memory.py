"""`mean` over arrays in memory, beside NumPy's.

`mean` over float32 files, beside one pass that only reads them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuse.synthetic import (
    CLASSES,
    COLS,
    ROWS,
    Size,
    drawn,
    drawn_members,
)
from ensemble.block_fusion import CACHE_IMAGES, fuse
from ensemble.pipeline.bench.timing import compared, in_turns
from ensemble.strategies import STRATEGIES
from evaluation.core.blocks import blocks, map_blocks
from members.maps import ArrayMaps

IMAGES = 256


def memory(size: Size, folder: Path) -> dict[str, Any]:
    """Compare with `np.stack(...).mean(0)`, on 256 images at most.

    Args:
        size: how much.
        folder: nothing is written.
    """
    count = min(size.images, IMAGES)
    arrays = list(drawn_members(size.members, count))
    readers = [ArrayMaps(str(place), array) for place, array in enumerate(arrays)]
    out = np.empty(arrays[0].shape, np.float32)

    def mean() -> None:
        fuse(readers, STRATEGIES.build("mean"), count, out.__setitem__, size=CACHE_IMAGES)

    sides = {"mean": mean, "np.stack(...).mean(0)": lambda: np.stack(arrays).mean(0)}
    seconds = in_turns(sides, size.rounds)
    return {"sides": compared(seconds, "mean"), "maps": size.members * count}


def files(size: Size, folder: Path) -> dict[str, Any]:
    """Compare fusing with reading; the files stand in the page cache.

    Args:
        size: how much.
        folder: where the files are written, 164 KB a map.
    """
    maps = _written(folder, size)
    out = np.empty(maps[0].size, np.float32)

    def only_read() -> None:
        def look(block: slice) -> None:
            for one in maps:
                np.add.reduce(one.array[block], axis=None)

        for _ in map_blocks(look, size.images, size=CACHE_IMAGES):
            pass

    def mean() -> None:
        fuse(maps, STRATEGIES.build("mean"), size.images, out.__setitem__, size=CACHE_IMAGES)

    seconds = in_turns({"read": only_read, "mean": mean}, size.rounds)
    return {"sides": compared(seconds, "read"), "maps": size.members * size.images}


def _written(folder: Path, size: Size) -> list[ArrayMaps]:
    rng = np.random.default_rng(0)
    shape = (size.images, CLASSES, ROWS, COLS)
    found = []
    for member in range(size.members):
        path = folder / f"{member}.npy"
        array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for block in blocks(size.images):
            array[block] = drawn(rng, block.stop - block.start)
        array.flush()
        found.append(ArrayMaps(str(path), np.load(path, mmap_mode="r")))
    return found
