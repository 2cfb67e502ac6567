"""From readers of maps through a fusion to a writer, block of pictures by block."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from ensemble.blas import one_blas_thread
from ensemble.fusion import Block, Fusion
from evaluation.ground.arrays import Groups, Map, Maps
from evaluation.ground.blocks import BLOCK_PICTURES, blocks, map_blocks
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadLabels, BadMaps
from evaluation.ground.progress import progress
from members.maps import MapReader, check_agreement

MEMORY_BYTES = 2 << 30
"""What the blocks under way may take together, before fewer are worked on at a time."""


@dataclass(frozen=True)
class CrossFitted:
    """A fusion for each fold, fitted on the others: a picture is fused by what never saw its truth.

    Args:
        fusions: one a fold.
        fold_of: the fold of each picture.
    """

    fusions: Sequence[Fusion]
    fold_of: Groups

    def at(self, block: slice) -> Fusion:
        """Return the fusion of a block of pictures."""
        folds = self.fold_of[block]

        def fuse_each(maps: Maps) -> Map:
            fused: Map = np.empty(maps.shape[1:], np.float32)
            for fold in np.unique(folds):
                fused[folds == fold] = self.fusions[fold](maps[:, folds == fold])
            return fused

        return fuse_each


def fuse(
    members: Sequence[MapReader],
    fusion: Fusion | CrossFitted,
    count: int,
    write: Callable[[slice, Map], object],
    *,
    size: int = BLOCK_PICTURES,
) -> None:
    """Fuse all pictures; memory does not grow with their number.

    Args:
        members: in the order in which the fusion was built or fitted.
        fusion: what makes one map of theirs.
        count: how many pictures each member has.
        write: takes the pictures of a block and their fused map; called from several threads at
            once, in no order, once for each block.
        size: pictures a block.

    Raises:
        BadMaps: members that differ in pictures, classes or pixels, or do not have `count`
            pictures.
    """
    shape = check_agreement(members)
    if shape[0] != count:
        raise BadMaps(f"{members[0].name} holds {shape[0]} pictures; expected {count}")

    def work(block: slice) -> None:
        apply = fusion.at(block) if isinstance(fusion, CrossFitted) else fusion
        write(block, apply(stacked(members, block)))

    block_bytes = 4 * len(members) * min(size, count) * int(np.prod(shape[1:]))
    threads = max(1, min(os.cpu_count() or 1, MEMORY_BYTES // block_bytes))
    done = map_blocks(work, count, size=size, threads=threads)
    with one_blas_thread():
        for _ in progress(done, "fuse", len(blocks(count, size))):
            pass


def stacked(members: Sequence[MapReader], block: slice) -> Maps:
    """Read a block of every member into one array."""
    pictures, *rest = members[0].size
    length = len(range(*block.indices(pictures)))
    maps: Maps = np.empty((len(members), length, *rest), np.float32)
    for place, member in zip(maps, members, strict=True):
        place[...] = member.read(block)
    return maps


@dataclass(frozen=True)
class FitBlocks:
    """Blocks of maps and truth to learn from; can be gone through several times.

    Args:
        members: readers, all of the same pictures.
        truth: class index per pixel, (picture, row, col); 255 where the annotators gave none.
        size: pictures a block.

    Raises:
        BadMaps: members that do not agree.
        BadLabels: truth of another shape or type, or with a label outside the classes.
    """

    members: Sequence[MapReader]
    truth: Shaped[np.ndarray, "..."]
    size: int = BLOCK_PICTURES

    def __post_init__(self) -> None:
        """Check all but the maps' values."""
        pictures, classes, *pixels = check_agreement(self.members)
        expected = (pictures, *pixels)
        if self.truth.shape != expected:
            raise BadLabels(
                f"truth has shape {self.truth.shape}; expected {expected} as in"
                f" {self.members[0].name}"
            )
        if self.truth.dtype.kind not in "iu":
            raise BadLabels(f"truth is {self.truth.dtype}; expected integers")
        for block in blocks(pictures, self.size):
            found = np.unique(self.truth[block])
            strange = found[((found < 0) | (found >= classes)) & (found != UNLABELLED)]
            if len(strange):
                raise BadLabels(
                    f"truth holds {strange.tolist()}; expected 0 to {classes - 1} and {UNLABELLED}"
                )

    def __iter__(self) -> Iterator[Block]:
        """Read block after block."""

        def read(block: slice) -> Block:
            return Block(stacked(self.members, block), np.asarray(self.truth[block]))

        # One thread reads the next block while this one is learned from.
        return map_blocks(read, len(self.truth), size=self.size, threads=1)
