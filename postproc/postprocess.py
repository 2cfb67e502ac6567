"""Apply a chain to all images of a set, block by block, with flat memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.core.blocks import map_blocks
from evaluation.core.errors import BadMaps
from evaluation.core.types import Array, Groups, Labels, Map
from postproc.chain import Chain, check_images

Reader = Callable[[slice], Map]


@dataclass(frozen=True)
class OutOfFoldChain:
    """One chain per fold, fitted on the other folds: no step was fitted on what it labels.

    Args:
        chains: one per fold, equal but for what their steps have learned.
    """

    chains: Sequence[Chain]
    fold_of: Groups

    @property
    def first_step_needing_images(self) -> str | None:
        """The name of the first step that reads the images; None where none does."""
        return self.chains[0].first_step_needing_images

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
    read: Reader,
    count: int,
    chain: Chain | OutOfFoldChain,
    *,
    images: Array | None = None,
    threads: int | None = None,
) -> Iterator[tuple[slice, Labels]]:
    """Yield (block, labels) for each block of images, in order.

    Only a few blocks are in memory at once, whatever the number of images.

    Args:
        read: returns the maps of a slice of images, such as the `read` of a store; called from
            several threads at once.
        chain: what to apply.
        images: uint8 (image, channel, row, col), preferably a memory map; None unless the chain
            needs them.
        threads: blocks worked on at a time; the number of cores by default.

    Returns:
        Pairs of a slice and uint8 labels (image, row, col).

    Raises:
        BadMaps: maps that do not fit the chain; NaN or infinite values.
        BadData: images that are missing or do not fit; before any work where possible.
        BadSpec: a step is not fitted yet.

    Examples:
        >>> from postproc.chain import parse_chain
        >>> maps = np.full((2, 2, 1, 3), 0.5, np.float32)
        >>> [labels.shape for _, labels in postprocess(
        ...     maps.__getitem__, 2, parse_chain("", classes=2, ignore=None))]
        [(2, 1, 3)]
    """
    needed_by = chain.first_step_needing_images
    check_images(images, count, needed_by=needed_by)
    if needed_by is None:
        images = None

    def label(block: slice) -> tuple[slice, Labels]:
        block_images = None if images is None else np.asarray(images[block])
        apply = chain.for_block(block) if isinstance(chain, OutOfFoldChain) else chain
        return block, apply(_check_finite(read(block), block), block_images)

    return map_blocks(label, count, threads=threads)


def _check_finite(maps: Map, block: slice) -> Map:
    """Return the maps; refuse values that argmax would take for a class."""
    if not np.isfinite(maps.sum()):
        bad = ~np.isfinite(maps).all(axis=(1, 2, 3))
        image = block.start + int(bad.argmax())
        raise BadMaps(
            f"maps contain NaN or infinite values in image {image}; expected probabilities:"
            " remove them, then predict or import them again"
        )
    return maps
