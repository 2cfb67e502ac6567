"""From readers of maps through a fusion to a writer, block of images by block."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from ensemble.blas import one_blas_thread
from ensemble.fusion import (
    Fusion,
    SumFusion,
    TrainingBlock,
    fuse_block,
    needs_images,
)
from evaluation.core.blocks import BLOCK_IMAGES, blocks, map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData, BadLabels, BadMaps
from evaluation.core.progress import progress
from evaluation.core.types import (
    Array,
    Groups,
    Images,
    Map,
    Maps,
)
from members.chunks import PIECE_VALUES, copy_into
from members.maps import (
    MapReader,
    Size,
    check_agreement,
    check_finite,
    read_checked,
)

CACHE_IMAGES = 16
"""Images a block where any number can be read: what is added up then stays in the cache. Stores
are read by whole chunks instead."""

MEMORY_BYTES = 2 << 30
"""What the blocks under way may take together, before fewer are worked on at a time."""


@dataclass(frozen=True)
class OutOfFoldFusion:
    """A fusion for each fold, fitted on the others: an image is fused by what never saw its target.

    Args:
        fusions: one a fold.
        fold_of: the fold of each image.
    """

    fusions: Sequence[Fusion]
    fold_of: Groups

    def at(self, block: slice) -> Fusion:
        """Return the fusion of a block of images."""
        return _FoldByFold(self.fusions, self.fold_of[block])


@dataclass(frozen=True)
class _FoldByFold:
    fusions: Sequence[Fusion]
    folds: Groups

    @property
    def needs_images(self) -> bool:
        return any(map(needs_images, self.fusions))

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        fused: Map = np.empty(maps.shape[1:], np.float32)
        for fold in np.unique(self.folds):
            chosen = self.folds == fold
            seen = None if images is None else images[chosen]
            fused[chosen] = fuse_block(self.fusions[fold], maps[:, chosen], seen)
        return fused


def fuse(
    members: Sequence[MapReader],
    fusion: Fusion | OutOfFoldFusion,
    count: int,
    write: Callable[[slice, Map], object],
    *,
    images: Array | None = None,
    size: int = BLOCK_IMAGES,
) -> None:
    """Fuse all images; memory does not grow with their number.

    Args:
        members: in the order in which the fusion was built or fitted.
        fusion: what makes one map of theirs.
        count: how many images each member has.
        write: takes the images of a block and their fused map, whose memory is used again once
            it returns; called from several threads at once, in no order, once for each block.
        images: uint8, (image, channel, row, col); read where the fusion looks at them.
        size: images a block.

    Raises:
        BadMaps: members that differ in images, classes or pixels, or do not have `count`
            images; NaN or infinite values.
        BadData: images that are asked for and missing, or do not fit.
    """
    shape = check_agreement(members)
    if shape[0] != count:
        raise BadMaps(f"{members[0].name} holds {shape[0]} images; expected {count}")

    if images is not None:
        check_images(images, shape)
    room = _Room(len(members), (min(size, count), *shape[1:]))

    def work(block: slice) -> None:
        apply = fusion.at(block) if isinstance(fusion, OutOfFoldFusion) else fusion
        if isinstance(apply, SumFusion):
            fused = _of_sum(members, apply, block, room)
            try:
                write(block, fused)
            except BadMaps:
                for member in members:
                    check_finite(member, block)
                raise
            return
        looks = images is not None and needs_images(apply)
        seen = np.asarray(images[block]) if looks and images is not None else None
        maps = stacked(members, block, room.maps[:, : block.stop - block.start])
        write(block, fuse_block(apply, maps, seen))

    block_bytes = 4 * len(members) * min(size, count) * int(np.prod(shape[1:]))
    threads = max(1, min(os.cpu_count() or 1, MEMORY_BYTES // block_bytes))
    done = map_blocks(work, count, size=size, threads=threads)
    with one_blas_thread():
        for _ in progress(done, "fuse", len(blocks(count, size))):
            pass


class _Room(threading.local):
    """Memory of one thread, used again for each of its blocks; what is not used is not taken."""

    def __init__(self, members: int, block: Size) -> None:
        self.maps: Maps = np.empty((members, *block), np.float32)
        self.fused: Map = np.empty(block, np.float32)

    def __reduce__(self) -> tuple[type["_Room"], tuple[int, Size]]:
        members, *block = self.maps.shape
        return _Room, (members, tuple(block))


def _of_sum(members: Sequence[MapReader], fusion: SumFusion, block: slice, room: _Room) -> Map:
    """Fuse a block few images at a time, so that what is added up stays in the cache."""
    fused = room.fused[: block.stop - block.start]
    places = [fused[part] for part in blocks(len(fused), max(1, PIECE_VALUES // fused[0].size))]
    sums = members[0].stream(block, places)
    for member in members[1:]:
        sums = member.stream(block, places, onto=sums)
    for place in places:
        copy_into(next(sums), place)
        fusion.of_sum(place)
    return fused


def check_images(images: Array, size: Size) -> None:
    """Refuse images that do not go with maps.

    Raises:
        BadData: another number, another size, or values that are no uint8.
    """
    count, _, rows, cols = size
    expected = f"uint8 ({count}, 1 or 3, {rows}, {cols}), as the maps are"
    shape = images.shape
    fits = len(shape) == 4 and shape[1] in (1, 3) and (shape[0], *shape[2:]) == (count, rows, cols)
    if images.dtype != np.uint8 or not fits:
        raise BadData(f"images are {images.dtype} {shape}; expected {expected}")


def stacked(members: Sequence[MapReader], block: slice, room: Maps | None = None) -> Maps:
    """Read a block of every member into one array.

    Args:
        members: readers of the same images.
        block: which images.
        room: memory of the result's shape; new where it is None.

    Raises:
        BadMaps: NaN or infinite values; names the member and the image.
    """
    images, *rest = members[0].size
    shape = (len(members), len(range(*block.indices(images))), *rest)
    maps: Maps = np.empty(shape, np.float32) if room is None else room
    for place, member in zip(maps, members, strict=True):
        found = read_checked(member, block, place)
        if found is not place:
            place[...] = found
    return maps


@dataclass(frozen=True)
class TrainingBlocks:
    """Blocks of maps and target to learn from; can be gone through several times.

    Args:
        members: readers, all of the same images.
        target: class index per pixel, (image, row, col); 255 where the annotators gave none.
        size: images a block.
        images: uint8, (image, channel, row, col), for what looks at them.
        groups: a name an image, where neighbours must not be divided; None where none are known.

    Raises:
        BadMaps: members that do not agree.
        BadData: images that do not fit.
        BadLabels: target of another shape or type, or with a label outside the classes.
    """

    members: Sequence[MapReader]
    target: Shaped[np.ndarray, "..."]
    size: int = BLOCK_IMAGES
    images: Array | None = None
    groups: Groups | None = None

    def __post_init__(self) -> None:
        """Check all but the maps' values."""
        size = check_agreement(self.members)
        images, classes, *pixels = size
        expected = (images, *pixels)
        if self.images is not None:
            check_images(self.images, size)
        if self.target.shape != expected:
            raise BadLabels(
                f"target has shape {self.target.shape}; expected {expected} as in"
                f" {self.members[0].name}"
            )
        if self.target.dtype.kind not in "iu":
            raise BadLabels(f"target is {self.target.dtype}; expected integers")
        for block in blocks(images, self.size):
            found = np.unique(self.target[block])
            strange = found[((found < 0) | (found >= classes)) & (found != UNLABELLED)]
            if len(strange):
                raise BadLabels(
                    f"target holds {strange.tolist()}; expected 0 to {classes - 1} and {UNLABELLED}"
                )

    def __iter__(self) -> Iterator[TrainingBlock]:
        """Read block after block."""

        def read(block: slice) -> TrainingBlock:
            seen = None if self.images is None else np.asarray(self.images[block])
            return TrainingBlock(stacked(self.members, block), np.asarray(self.target[block]), seen)

        # One thread reads the next block while this one is learned from.
        return map_blocks(read, len(self.target), size=self.size, threads=1, here=True)
