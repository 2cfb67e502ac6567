"""Blocks of pictures cut into pieces that the processor's cache holds."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

from evaluation.ground.blocks import blocks

PIECE = 1 << 18


def by_pieces(
    values: Shaped[np.ndarray, "picture ..."],
    operation: Callable[[Shaped[np.ndarray, "_ ..."]], Shaped[np.ndarray, "_ ..."]],
) -> Shaped[np.ndarray, "picture ..."]:
    """Apply an operation that keeps shape and type to some pictures at a time.

    Intermediate arrays then stay in the cache and in memory that is used again, whereas the system
    maps and clears those of a whole block anew each time, at several times the work's own cost.

    Args:
        values: maps or labels.
        operation: treats each picture as if it were alone.
    """
    result = np.empty_like(values)
    for piece in blocks(len(values), max(1, PIECE // values[0].size)):
        result[piece] = operation(values[piece])
    return result
