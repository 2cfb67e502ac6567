"""Maps to label maps through a chain, block of images by block, with flat memory."""

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
from postproc.images import check_images

Reader = Callable[[slice], Map]


@dataclass(frozen=True)
class OutOfFoldChain:
    """A chain for each fold, fitted on the others: what labels an image never saw its target.

    Args:
        chains: one a fold, alike but for what their steps have learned.
        fold_of: the fold of each image.
    """

    chains: Sequence[Chain]
    fold_of: Groups

    @property
    def first_in_need(self) -> str | None:
        """The name of the first step that looks at the images; None where none does."""
        return self.chains[0].first_in_need

    def at(self, block: slice) -> Callable[[Map, Array | None], Labels]:
        """Return what labels a block of images."""
        folds = self.fold_of[block]

        def label_each(maps: Map, images: Array | None) -> Labels:
            labels: Labels = np.empty((len(maps), *maps.shape[2:]), np.uint8)
            for fold in np.unique(folds):
                own = folds == fold
                seen = None if images is None else images[own]
                labels[own] = self.chains[fold](maps[own], seen)
            return labels

        return label_each


def postprocess(
    read: Reader,
    count: int,
    chain: Chain | OutOfFoldChain,
    *,
    images: Array | None = None,
    threads: int | None = None,
) -> Iterator[tuple[slice, Labels]]:
    """Yield (block, labels) for each block of images, in order.

    Only a few blocks are in memory at once, however many images there are.

    Args:
        read: gives the maps of a slice of images: the `read` of a store or of `ArrayMaps`; called
            from several threads at once.
        count: how many images there are.
        chain: what to do with the maps.
        images: uint8 (image, channel, row, col), a memory map for choice; None unless the
            chain needs them.
        threads: how many at a time; the number of cores by default.

    Returns:
        Pairs of a slice and uint8 labels (image, row, col).

    Raises:
        BadMaps: maps that do not fit the chain; NaN or infinite values.
        BadData: images that are missing or do not fit; before any work where that can be told.
        BadSpec: a step has not learned yet.
    """
    check_images(images, count, needed_by=chain.first_in_need)
    if chain.first_in_need is None:
        images = None

    def label(block: slice) -> tuple[slice, Labels]:
        seen = None if images is None else np.asarray(images[block])
        apply = chain.at(block) if isinstance(chain, OutOfFoldChain) else chain
        return block, apply(_finite(read(block), block), seen)

    return map_blocks(label, count, threads=threads)


def _finite(maps: Map, block: slice) -> Map:
    """Refuse what the argmax would take for a class."""
    if not np.isfinite(maps.sum()):
        bad = ~np.isfinite(maps).all(axis=(1, 2, 3))
        image = block.start + int(bad.argmax())
        raise BadMaps(
            f"the maps hold NaN or infinite values in image {image}; expected probabilities:"
            " remove them and make or import them again"
        )
    return maps
