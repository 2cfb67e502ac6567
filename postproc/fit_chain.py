"""Fit the learned steps of a chain, one after the other, on held-out maps and target."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.core.blocks import map_blocks
from evaluation.core.ragged import Stack
from members.maps import MapReader, check_target
from postproc.chain import STEP_MAPS, Chain, check_images
from postproc.step import FitBlock, LearnedStep


def fit_chain(chain: Chain, maps: MapReader, target: Stack, images: Stack | None = None) -> Chain:
    """Return the chain with every learned step replaced by its fitted one.

    A step is fitted on the output of the steps before it, which are fitted already. The result is
    a chain like any other: its text contains what was learned.

    Args:
        chain: what to fit.
        maps: held-out ones, of images that the member was not trained on.
        target: class index per pixel, (image, row, col); 255 where there is no label.
        images: uint8 (image, channel, row, col); may be None unless a step before a learned one
            needs them.

    Raises:
        BadMaps: maps that do not fit the chain.
        BadLabels: target of another shape or type, or with a label outside the classes.
        BadData: no scored pixel, or images that are missing or do not fit.
    """
    check_target(target, maps)
    needed_by = chain.before_learning.image_need
    check_images(images, maps.extent, needed_by=needed_by, option="--fit-images")
    for index, step in enumerate(chain.steps):
        if isinstance(step, LearnedStep):
            data = _FitBlocks(chain.prefix(index), maps, target, images if needed_by else None)
            chain = chain.replace_step(index, step.fit(data))
    return chain


@dataclass(frozen=True)
class _FitBlocks:
    """The output of the first steps of a chain with the target, block by block."""

    prefix: Chain
    maps: MapReader
    target: Stack
    images: Stack | None

    def __iter__(self) -> Iterator[FitBlock]:
        def read(block: slice) -> FitBlock:
            images = None if self.images is None else np.asarray(self.images[block])
            maps = self.prefix.apply_to_maps(self.maps.read(block), images)
            return FitBlock(maps, np.asarray(self.target[block]))

        pixel_bytes = STEP_MAPS * 4 * self.maps.num_classes
        return map_blocks(read, self.maps.extent, pixel_bytes=pixel_bytes)
