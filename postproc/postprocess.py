"""Apply a chain to all images of a set, block by block, with flat memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.core.blocks import map_blocks
from evaluation.core.ragged import Stack
from evaluation.core.types import Array, Groups, Labels, Map
from members.maps import MapReader, read_checked
from postproc.chain import STEP_MAPS, Chain, check_images
from postproc.step import ImageNeed


@dataclass(frozen=True)
class OutOfFoldChain:
    """One chain per fold, fitted on the other folds: no step was fitted on what it labels.

    Args:
        chains: one per fold, equal but for what their steps have learned.
    """

    chains: Sequence[Chain]
    fold_of: Groups

    @property
    def image_need(self) -> ImageNeed | None:
        """What the chains need of images; see `Chain`."""
        return self.chains[0].image_need

    def for_block(self, block: slice) -> Callable[[Map, Array | None], Labels]:
        """Return the function that labels a block of images."""
        folds = self.fold_of[block]

        def label_by_fold(maps: Map, images: Array | None) -> Labels:
            labels: Labels = np.empty((len(maps), *maps.shape[2:]), np.uint8)
            for fold in np.unique(folds):
                chosen = folds == fold
                chosen_images = None if images is None else images[chosen]
                labels[chosen] = self.chains[fold](maps[chosen], chosen_images)
            return labels

        return label_by_fold


def postprocess(
    maps: MapReader,
    chain: Chain | OutOfFoldChain,
    *,
    images: Stack | None = None,
    threads: int | None = None,
) -> Iterator[tuple[slice, Labels]]:
    """Yield (block, labels) for each block of images, in order.

    Only a few blocks are in memory at once, whatever the number of images.

    Args:
        maps: a reader; called from several threads at once.
        chain: what to apply.
        images: (image, channel, row, col), preferably a memory map; None unless the chain
            needs them.
        threads: blocks worked on at a time; by default by the cores and the memory.

    Returns:
        Pairs of a slice and uint8 labels (image, row, col).

    Raises:
        BadMaps: maps that do not fit the chain; NaN or infinite values.
        BadData: images that are missing or do not fit; before any work where possible.
        BadSpec: a step is not fitted yet.

    Examples:
        >>> from members.maps import ArrayMaps
        >>> from postproc.chain import parse_chain
        >>> maps = ArrayMaps("maps", np.full((2, 2, 1, 3), 0.5, np.float32))
        >>> [labels.shape for _, labels in postprocess(
        ...     maps, parse_chain("", classes=2, ignore=None))]
        [(2, 1, 3)]
    """
    needed_by = chain.image_need
    check_images(images, maps.extent, needed_by=needed_by)
    if needed_by is None:
        images = None

    def label(block: slice) -> tuple[slice, Labels]:
        block_images = None if images is None else np.asarray(images[block])
        apply = chain.for_block(block) if isinstance(chain, OutOfFoldChain) else chain
        return block, apply(read_checked(maps, block), block_images)

    pixel_bytes = STEP_MAPS * 4 * maps.num_classes
    return map_blocks(label, maps.extent, threads=threads, pixel_bytes=pixel_bytes)
