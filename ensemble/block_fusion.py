"""Fuse whole sets of images, from readers of maps to a writer, block by block with flat memory."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.fusion import (
    Fusion,
    LearnedFusion,
    SumFusion,
    TrainingBlock,
    fuse_block,
    needs_images,
)
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData, BadMaps
from evaluation.core.memory import blocks_at_a_time
from evaluation.core.progress import progress
from evaluation.core.ragged import BLOCK_IMAGES, Extent, Stack, extent_of
from evaluation.core.types import Groups, Images, Kept, Labels, Map, Maps
from members.data.dataset import IMAGE_DTYPES
from members.maps import (
    MapReader,
    check_agreement,
    check_finite,
    check_target,
    copy_into,
    read_checked,
)

CACHE_IMAGES = 16
"""Images per block where any number can be read, so that sums stay in the cache. Stores are read by
whole chunks instead."""

FUSED_MAPS = 2
"""Maps of a block besides those of the members: the fused ones, and one in another type."""


@dataclass(frozen=True)
class FusionPerImage:
    """Several fusions, each of some of the images.

    Of the split `oof` there is one per fold, fitted on the other folds: none was fitted on what it
    fuses.

    Args:
        fusions: of the members.
        index_of: which fusion an image has.
    """

    fusions: Sequence[Fusion]
    index_of: Groups

    def for_block(self, block: slice) -> Fusion:
        """Return the fusion of a block of images."""
        indices = self.index_of[block]
        if (indices == indices[0]).all():
            return self.fusions[int(indices[0])]
        return _ImageByImage(self.fusions, indices)


@dataclass(frozen=True)
class _ImageByImage:
    fusions: Sequence[Fusion]
    indices: Groups

    @property
    def needs_images(self) -> bool:
        return any(map(needs_images, self.fusions))

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        fused: Map = np.empty(maps.shape[1:], np.float32)
        for index in np.unique(self.indices):
            chosen = self.indices == index
            chosen_images = None if images is None else images[chosen]
            fused[chosen] = fuse_block(self.fusions[index], maps[:, chosen], chosen_images)
        return fused


def fuse(
    members: Sequence[MapReader],
    fusion: Fusion | FusionPerImage,
    write: Callable[[slice, Map], object],
    *,
    images: Stack | None = None,
    size: int = BLOCK_IMAGES,
) -> None:
    """Fuse all images; memory does not grow with their number.

    Args:
        members: in the order in which the fusion was built or fitted.
        fusion: fusion of their maps.
        write: takes a block of images and their fused map, whose memory is reused once it returns;
            called from several threads at once, in any order, once per block.
        images: (image, channel, row, col); read where the fusion needs them.
        size: images per block.

    Raises:
        BadMaps: members that differ in images, classes or pixels; NaN or infinite values.
        BadData: images that are needed and missing, or do not fit.
    """
    first = check_agreement(members)
    if images is not None:
        check_images(images, first)
    parts = blocks(first.extent, size)
    workspace = _Workspace(first.num_classes * first.extent.largest_block(size))

    def work(block: slice) -> None:
        apply = fusion.for_block(block) if isinstance(fusion, FusionPerImage) else fusion
        if isinstance(apply, SumFusion):
            fused = _fuse_sum(members, apply, workspace.fused(first.block_shape(block)), block)
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
        maps = read_members(
            members, block, workspace.maps((len(members), *first.block_shape(block)))
        )
        write(block, fuse_block(apply, maps, block_images))

    done = map_blocks(work, first.extent, size=size, threads=threads_for(members, size))
    with one_blas_thread():
        for _ in progress(done, "fuse", len(parts)):
            pass


def threads_for(members: Sequence[MapReader], size: int = BLOCK_IMAGES) -> int:
    """Return the number of blocks of all members' maps that may be in memory at a time."""
    return blocks_at_a_time(members[0].extent, pixel_bytes(members), size)


def pixel_bytes(members: Sequence[MapReader]) -> int:
    """Return what a pixel of a block takes while it is fused: float32 maps, fused and read."""
    return 4 * members[0].num_classes * (len(members) + FUSED_MAPS)


class _Workspace(threading.local):
    """Memory of one thread, reused for each of its blocks; what is not used is not allocated.

    Args:
        values: of the largest block of one member.
    """

    def __init__(self, values: int) -> None:
        self._values = values
        self._maps = self._fused = np.empty(0, np.float32)

    def __reduce__(self) -> tuple[type["_Workspace"], tuple[int]]:
        return _Workspace, (self._values,)

    def maps(self, shape: tuple[int, ...]) -> Maps:
        """Return memory for the maps of a block of all members."""
        if not self._maps.size:
            self._maps = np.empty(shape[0] * self._values, np.float32)
        return self._maps[: math.prod(shape)].reshape(shape)

    def fused(self, shape: tuple[int, ...]) -> Map:
        """Return memory for the fused maps of a block."""
        if not self._fused.size:
            self._fused = np.empty(self._values, np.float32)
        return self._fused[: math.prod(shape)].reshape(shape)


def _fuse_sum(members: Sequence[MapReader], fusion: SumFusion, fused: Map, block: slice) -> Map:
    """Fuse a block a few images at a time, so that sums stay in the cache."""
    from members.chunks import PIECE_VALUES
    from members.store import stream_sum

    pieces = [fused[part] for part in blocks(len(fused), max(1, PIECE_VALUES // fused[0].size))]
    sums = stream_sum(members, block, pieces)
    for piece in pieces:
        copy_into(next(sums), piece)
        fusion.from_sum(piece)
    return fused


def check_images(images: Stack, maps: MapReader) -> None:
    """Check that images fit the maps.

    Raises:
        BadData: another number, another size, or values of another type.
    """
    fits = images.ndim == 4 and extent_of(images) == maps.extent
    if images.dtype not in IMAGE_DTYPES or not fits:
        raise BadData(
            f"images are {images.dtype} {images.shape}; expected uint8, uint16 or float32"
            f" ({len(maps)}, channels, rows, cols) of {maps.extent} pixels, as the maps are"
        )


def read_members(members: Sequence[MapReader], block: slice, out: Maps | None = None) -> Maps:
    """Read a block of every member into one array.

    Args:
        block: which images.
        out: array of the result's shape to read into; new where it is None.

    Raises:
        BadMaps: NaN or infinite values; names the member and the image.
    """
    shape = (len(members), *members[0].block_shape(block))
    maps: Maps = np.empty(shape, np.float32) if out is None else out
    for target, member in zip(maps, members, strict=True):
        copy_into(read_checked(member, block, target), target)
    return maps


@dataclass(frozen=True)
class TrainingBlocks:
    """Blocks of maps and target to fit on; can be iterated several times.

    Args:
        members: readers, all of the same images.
        target: class index per pixel, (image, row, col); 255 where unlabelled.
        size: images per block.
        images: (image, channel, row, col), for strategies that need them.
        groups: one name per image, where related images must not be split; None where unknown.
        folds: one index per image: maps of different folds come from different networks; None where
            unknown.

    Raises:
        BadMaps: members that do not agree.
        BadData: images that do not fit.
        BadLabels: target of another shape or type, or with a label outside the classes.
    """

    members: Sequence[MapReader]
    target: Stack
    size: int = BLOCK_IMAGES
    images: Stack | None = None
    groups: Groups | None = None
    folds: Groups | None = None

    def __post_init__(self) -> None:
        """Check everything but the maps' values."""
        first = check_agreement(self.members)
        if self.images is not None:
            check_images(self.images, first)
        check_target(self.target, first)

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return self.members[0].extent

    def __iter__(self) -> Iterator[TrainingBlock]:
        """Read block after block."""

        def read(block: slice) -> TrainingBlock:
            images = None if self.images is None else np.asarray(self.images[block])
            return TrainingBlock(
                read_members(self.members, block), np.asarray(self.target[block]), images
            )

        # One thread reads the next block while this one is processed.
        return map_blocks(read, self.extent, size=self.size, threads=1, local=True)


def cross_fit(strategy: LearnedFusion, blocks: TrainingBlocks, fold_of: Groups) -> list[Fusion]:
    """Fit once per fold, on the target of the other folds."""
    targets = leave_one_fold_out(blocks.target, fold_of)
    return [strategy.fit(replace(blocks, target=target)) for target in targets]


@dataclass(frozen=True)
class HiddenTarget:
    """A target of which some images are unlabelled, such as those of a fold."""

    target: Stack
    hidden: Kept

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return extent_of(self.target)

    @property
    def dtype(self) -> Any:
        """Type of the labels."""
        return self.target.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return int(self.target.ndim)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.target)

    def __getitem__(self, block: slice) -> Labels:
        """Return the labels of images of one size."""
        labels = np.array(self.target[block], np.uint8)
        labels[self.hidden[block]] = UNLABELLED
        return labels


def leave_one_fold_out(target: Stack, fold_of: Groups) -> Iterator[HiddenTarget]:
    """Yield the target once per fold, with that fold's images unlabelled: nothing learns there."""
    for fold in range(int(fold_of.max()) + 1):
        yield HiddenTarget(target, fold_of == fold)
