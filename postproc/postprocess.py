"""Maps to label maps through a chain, block of pictures by block, with flat memory."""

from collections.abc import Callable, Iterator

import numpy as np

from evaluation.ground.arrays import Array, Labels, Map
from evaluation.ground.blocks import map_blocks
from evaluation.ground.errors import BadMaps
from members.store import STEPS_UINT8, check_maps
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
        read: gives the maps of a slice of pictures: `store.read`, or `map_reader(array)`; called
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


def map_reader(maps: Array, name: str = "maps") -> Reader:
    """Give a function that reads slices of an array of maps as float32 probabilities.

    Args:
        maps: (picture, class, row, col), floating point, or uint8 scaled by 255; a memory map for
            choice.
        name: what errors call it.

    Returns:
        A reader; it raises BadMaps where values are no probabilities.

    Raises:
        BadMaps: another type or shape.
    """
    if maps.ndim != 4 or 0 in maps.shape:
        expected = "(pictures, classes, rows, cols), none of them 0"
        raise BadMaps(f"{name} has shape {maps.shape}; expected {expected}")
    if maps.dtype.kind != "f" and maps.dtype != np.uint8:
        raise BadMaps(f"{name} holds {maps.dtype}; expected floating point, or uint8 scaled by 255")

    def read(block: slice) -> Map:
        stored = np.asarray(maps[block])
        scale = STEPS_UINT8 if stored.dtype == np.uint8 else 1
        probabilities: Map = np.divide(stored, scale, dtype=np.float32, casting="unsafe")
        try:
            check_maps(probabilities, str(stored.dtype))
        except BadMaps as error:
            raise BadMaps(f"{name}, pictures from {block.start} on: {error}") from None
        return probabilities

    return read
