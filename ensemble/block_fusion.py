"""Fuse whole sets of images, from readers of maps to a writer, block by block with flat memory."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped

from ensemble.blas import one_blas_thread
from ensemble.fusion import (
    Fusion,
    LearnedFusion,
    SumFusion,
    TrainingBlock,
    fuse_block,
    needs_images,
)
from evaluation.core.blocks import BLOCK_IMAGES, blocks, map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData, BadLabels, BadMaps
from evaluation.core.progress import progress
from evaluation.core.types import Array, Groups, Images, Map, Maps
from members.maps import MapReader, MapsSize, check_agreement, check_finite, read_checked

CACHE_IMAGES = 16
"""Images per block where any number can be read, so that sums stay in the cache. Stores are read by
whole chunks instead."""

MEMORY_BYTES = 2 << 30
"""Limit for the blocks in progress together, before fewer are processed at a time."""


@dataclass(frozen=True)
class OutOfFoldFusion:
    """One fusion per fold, fitted on the other folds: none was fitted on what it fuses."""

    fusions: Sequence[Fusion]
    fold_of: Groups

    def for_block(self, block: slice) -> Fusion:
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
            chosen_images = None if images is None else images[chosen]
            fused[chosen] = fuse_block(self.fusions[fold], maps[:, chosen], chosen_images)
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
        fusion: fusion of their maps.
        count: number of images of each member.
        write: takes a block of images and their fused map, whose memory is reused once it returns;
            called from several threads at once, in any order, once per block.
        images: uint8, (image, channel, row, col); read where the fusion needs them.
        size: images per block.

    Raises:
        BadMaps: members that differ in images, classes or pixels, or do not have `count`
            images; NaN or infinite values.
        BadData: images that are needed and missing, or do not fit.
    """
    shape = check_agreement(members)
    if shape[0] != count:
        raise BadMaps(f"{members[0].name} holds {shape[0]} images; expected {count}")

    if images is not None:
        check_images(images, shape)
    workspace = _Workspace(len(members), (min(size, count), *shape[1:]))

    def work(block: slice) -> None:
        apply = fusion.for_block(block) if isinstance(fusion, OutOfFoldFusion) else fusion
        if isinstance(apply, SumFusion):
            fused = _fuse_sum(members, apply, block, workspace)
            try:
                write(block, fused)
            except BadMaps:
                for member in members:
                    check_finite(member, block)
                raise
            return
        block_images = None
        if images is not None and needs_images(apply):
            block_images = np.asarray(images[block])
        maps = read_members(members, block, workspace.maps[:, : block.stop - block.start])
        write(block, fuse_block(apply, maps, block_images))

    block_bytes = 4 * len(members) * min(size, count) * int(np.prod(shape[1:]))
    threads = max(1, min(os.cpu_count() or 1, MEMORY_BYTES // block_bytes))
    done = map_blocks(work, count, size=size, threads=threads)
    with one_blas_thread():
        for _ in progress(done, "fuse", len(blocks(count, size))):
            pass


class _Workspace(threading.local):
    """Memory of one thread, reused for each of its blocks; what is not used is not allocated."""

    def __init__(self, members: int, block: MapsSize) -> None:
        self.maps: Maps = np.empty((members, *block), np.float32)
        self.fused: Map = np.empty(block, np.float32)

    def __reduce__(self) -> tuple[type["_Workspace"], tuple[int, MapsSize]]:
        members, *block = self.maps.shape
        return _Workspace, (members, tuple(block))


def _fuse_sum(
    members: Sequence[MapReader], fusion: SumFusion, block: slice, workspace: _Workspace
) -> Map:
    """Fuse a block a few images at a time, so that sums stay in the cache."""
    from members.chunks import PIECE_VALUES, copy_into

    fused = workspace.fused[: block.stop - block.start]
    pieces = [fused[part] for part in blocks(len(fused), max(1, PIECE_VALUES // fused[0].size))]
    sums = members[0].stream(block, pieces)
    for member in members[1:]:
        sums = member.stream(block, pieces, accumulate_into=sums)
    for piece in pieces:
        copy_into(next(sums), piece)
        fusion.from_sum(piece)
    return fused


def check_images(images: Array, size: MapsSize) -> None:
    """Check that images fit the maps.

    Raises:
        BadData: another number, another size, or values other than uint8.
    """
    count, _, rows, cols = size
    expected = f"uint8 ({count}, 1 or 3, {rows}, {cols}), as the maps are"
    shape = images.shape
    fits = len(shape) == 4 and shape[1] in (1, 3) and (shape[0], *shape[2:]) == (count, rows, cols)
    if images.dtype != np.uint8 or not fits:
        raise BadData(f"images are {images.dtype} {shape}; expected {expected}")


def read_members(members: Sequence[MapReader], block: slice, out: Maps | None = None) -> Maps:
    """Read a block of every member into one array.

    Args:
        block: which images.
        out: array of the result's shape to read into; new where it is None.

    Raises:
        BadMaps: NaN or infinite values; names the member and the image.
    """
    images, *rest = members[0].size
    shape = (len(members), len(range(*block.indices(images))), *rest)
    maps: Maps = np.empty(shape, np.float32) if out is None else out
    for target, member in zip(maps, members, strict=True):
        read = read_checked(member, block, target)
        if read is not target:
            target[...] = read
    return maps


@dataclass(frozen=True)
class TrainingBlocks:
    """Blocks of maps and target to fit on; can be iterated several times.

    Args:
        members: readers, all of the same images.
        target: class index per pixel, (image, row, col); 255 where unlabelled.
        size: images per block.
        images: uint8, (image, channel, row, col), for strategies that need them.
        groups: one name per image, where related images must not be split; None where unknown.

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
        """Check everything but the maps' values."""
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
            labels = np.unique(self.target[block])
            unknown = labels[((labels < 0) | (labels >= classes)) & (labels != UNLABELLED)]
            if len(unknown):
                raise BadLabels(
                    f"target contains {unknown.tolist()};"
                    f" expected 0 to {classes - 1} and {UNLABELLED}"
                )

    def __iter__(self) -> Iterator[TrainingBlock]:
        """Read block after block."""

        def read(block: slice) -> TrainingBlock:
            images = None if self.images is None else np.asarray(self.images[block])
            return TrainingBlock(
                read_members(self.members, block), np.asarray(self.target[block]), images
            )

        # One thread reads the next block while this one is processed.
        return map_blocks(read, len(self.target), size=self.size, threads=1, local=True)


def cross_fit(strategy: LearnedFusion, blocks: TrainingBlocks, fold_of: Groups) -> list[Fusion]:
    """Fit once per fold, on the target of the other folds."""
    fitted = []
    for fold in range(int(fold_of.max()) + 1):
        others = np.where((fold_of == fold)[:, None, None], UNLABELLED, blocks.target)
        fitted.append(strategy.fit(replace(blocks, target=others.astype(np.uint8))))
    return fitted
