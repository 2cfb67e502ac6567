"""`mean` over arrays in memory, beside NumPy's."""

from pathlib import Path
from typing import Any

import numpy as np

from ensemble.fuse import CACHE_PICTURES, fuse
from ensemble.pipeline.bench.fuse.drawn import Size, drawn_members
from ensemble.pipeline.bench.timing import compared, in_turns
from ensemble.strategies import STRATEGIES
from members.maps import ArrayMaps

PICTURES = 256


def memory(size: Size, folder: Path) -> dict[str, Any]:
    """Compare with `np.stack(...).mean(0)`, on 256 pictures at most.

    Args:
        size: how much.
        folder: nothing is written.
    """
    count = min(size.pictures, PICTURES)
    arrays = list(drawn_members(size.members, count))
    readers = [ArrayMaps(str(place), array) for place, array in enumerate(arrays)]
    out = np.empty(arrays[0].shape, np.float32)

    def mean() -> None:
        fuse(readers, STRATEGIES.build("mean"), count, out.__setitem__, size=CACHE_PICTURES)

    sides = {"mean": mean, "np.stack(...).mean(0)": lambda: np.stack(arrays).mean(0)}
    seconds = in_turns(sides, size.rounds)
    return {"sides": compared(seconds, "mean"), "maps": size.members * count}
