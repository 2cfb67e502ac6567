"""Maps to label maps through a chain, block of pictures by block, with flat memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.core.blocks import map_blocks
from evaluation.core.errors import BadMaps
from evaluation.core.types import (
    Array,
    Groups,
    Labels,
    Map,
)
from postproc.chain import Chain
from postproc.images import check_pictures

Reader = Callable[[slice], Map]


@dataclass(frozen=True)
class CrossFitted:
    """A chain for each fold, fitted on the others: what labels a picture never saw its truth.

    Args:
        chains: one a fold, alike but for what their steps have learned.
        fold_of: the fold of each picture.
    """

    chains: Sequence[Chain]
    fold_of: Groups

    @property
    def first_in_need(self) -> str | None:
        """The name of the first step that looks at the pictures; None where none does."""
        return self.chains[0].first_in_need

    def at(self, block: slice) -> Callable[[Map, Array | None], Labels]:
        """Return what labels a block of pictures."""
        folds = self.fold_of[block]

        def label_each(maps: Map, pictures: Array | None) -> Labels:
            labels: Labels = np.empty((len(maps), *maps.shape[2:]), np.uint8)
            for fold in np.unique(folds):
                own = folds == fold
                seen = None if pictures is None else pictures[own]
                labels[own] = self.chains[fold](maps[own], seen)
            return labels

        return label_each


def postprocess(
    read: Reader,
    count: int,
    chain: Chain | CrossFitted,
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
        BadMaps: maps that do not fit the chain; NaN or infinite values.
        BadData: pictures that are missing or do not fit; before any work where that can be told.
        BadSpec: a step has not learned yet.
    """
    check_pictures(pictures, count, needed_by=chain.first_in_need)
    if chain.first_in_need is None:
        pictures = None

    def label(block: slice) -> tuple[slice, Labels]:
        seen = None if pictures is None else np.asarray(pictures[block])
        apply = chain.at(block) if isinstance(chain, CrossFitted) else chain
        return block, apply(_finite(read(block), block), seen)

    return map_blocks(label, count, threads=threads)


def _finite(maps: Map, block: slice) -> Map:
    """Refuse what the argmax would take for a class."""
    if not np.isfinite(maps.sum()):
        bad = ~np.isfinite(maps).all(axis=(1, 2, 3))
        picture = block.start + int(bad.argmax())
        raise BadMaps(
            f"the maps hold NaN or infinite values in picture {picture}; expected probabilities:"
            " remove them and make or import them again"
        )
    return maps
