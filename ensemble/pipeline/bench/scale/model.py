"""What 100 million pictures would take on a cluster, by what few of them take here."""

from typing import Any

import numpy as np

from ensemble.pipeline.bench.fuse.drawn import CLASSES, COLS, ROWS
from evaluation.ground.blocks import BLOCK_PICTURES

PICTURES, CORES = 100_000_000, 1_000
COUNT_BYTES = CLASSES * CLASSES * np.dtype(np.int32).itemsize
ONE_BYTE = ("uint8",)


def cost_model(sides: dict[str, dict[str, Any]], members: int) -> dict[str, int | float]:
    """Extrapolate from the largest walk over stores, or over drawn maps where there is none.

    It takes time and bytes to be proportional to pictures, which the walks show as far as they
    go, and cores of a cluster to be as fast as this machine's when all of them work. A disk's and
    a network's time is not in it: `gigabytes_a_second` says what they would have to give.

    Args:
        sides: see `bench_scale`.
        members: how many are fused.

    Returns:
        `pictures`; `map_bytes_a_picture`, over all members; `cpu_ms_a_picture`; then of all:
        `terabytes_of_maps`, `terabytes_of_truth`, `core_hours`, `hours_on_1000_cores`,
        `gigabytes_a_second` that 1,000 cores would read; `blocks`, a task each; `store_files`, a
        chunk and a marker for each block and member; `gigabytes_of_counts` a candidate.
    """
    stored = [side for side in sides.values() if side["source"] != "drawn"]
    side = max(stored or list(sides.values()), key=lambda one: one["pictures"])
    values = CLASSES * ROWS * COLS
    map_bytes = members * values * (1 if side["source"] in ONE_BYTE else 2)
    core_hours = PICTURES * side["cpu_ms_a_picture"] / 1000 / 3600
    blocks = -(-PICTURES // BLOCK_PICTURES)
    return {
        "pictures": PICTURES,
        "map_bytes_a_picture": map_bytes,
        "cpu_ms_a_picture": side["cpu_ms_a_picture"],
        "terabytes_of_maps": PICTURES * map_bytes / 1e12,
        "terabytes_of_truth": PICTURES * ROWS * COLS / 1e12,
        "core_hours": core_hours,
        "hours_on_1000_cores": core_hours / CORES,
        "gigabytes_a_second": PICTURES * map_bytes / 1e9 / (core_hours / CORES * 3600),
        "blocks": blocks,
        "store_files": 2 * members * blocks,
        "gigabytes_of_counts": PICTURES * COUNT_BYTES / 1e9,
    }
