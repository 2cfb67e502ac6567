"""Maps to label maps through a chain, block of pictures by block, with flat memory."""

from collections.abc import Callable, Iterator

import numpy as np

from evaluation.ground.arrays import Array, Labels, Map
from evaluation.ground.blocks import map_blocks
from postproc.chain import Chain, check_pictures

Reader = Callable[[slice], Map]


def postprocess(
    read: Reader,
    count: int,
    chain: Chain,
    *,
    pictures: Array | None = None,
    threads: int | None = None,
) -> Iterator[tuple[slice, Labels]]:
    """Yield (block, labels) for each block of pictures, in order.

    Only a few blocks are in memory at once, however many pictures there are.

    Args:
        read: gives the maps of a slice of pictures: the `read` of a store or of `ArrayMaps`; called
            from several threads at once.
        count: how many pictures there are.
        chain: what to do with the maps.
        pictures: uint8 (picture, channel, row, col), a memory map for choice; None unless the
            chain needs them.
        threads: how many at a time; the number of cores by default.

    Returns:
        Pairs of a slice and uint8 labels (picture, row, col).

    Raises:
        BadMaps: maps that do not fit the chain.
        BadData: pictures that are missing or do not fit; before any work where that can be told.
    """
    check_pictures(pictures, count, needed_by=chain.first_in_need)
    if not chain.needs_pictures:
        pictures = None

    def label(block: slice) -> tuple[slice, Labels]:
        seen = None if pictures is None else np.asarray(pictures[block])
        return block, chain(read(block), seen)

    return map_blocks(label, count, threads=threads)
