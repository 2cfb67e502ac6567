"""Fit the steps of a chain that learn, one after the other, on held-out maps and truth."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.ground.arrays import Array
from evaluation.ground.blocks import blocks, map_blocks
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadLabels
from members.maps import MapReader
from postproc.chain import Chain
from postproc.pictures import check_pictures
from postproc.step import FitBlock, Learned


def fit_chain(chain: Chain, maps: MapReader, truth: Array, pictures: Array | None = None) -> Chain:
    """Return the chain with every step that learns replaced by what it has become.

    A step learns from what the steps before it give, these fitted already. The result is a chain
    like any other: its text holds what was learned.

    Args:
        chain: what to fit.
        maps: held-out ones, of pictures that the member was not trained on.
        truth: class index per pixel, (picture, row, col); 255 where nothing is to be learned.
        pictures: uint8 (picture, channel, row, col); may be None unless a step before one that
            learns needs them.

    Raises:
        BadMaps: maps that do not fit the chain.
        BadLabels: truth of another shape or type, or with a label outside the classes.
        BadData: no scored pixel, or pictures that are missing or do not fit.
    """
    _check_truth(truth, maps)
    needed_by = chain.before_learning.first_in_need
    check_pictures(
        pictures, len(truth), truth.shape[1:], needed_by=needed_by, option="--fit-images"
    )
    for place, step in enumerate(chain.steps):
        if isinstance(step, Learned):
            learned_from = _Blocks(chain.head(place), maps, truth, pictures if needed_by else None)
            chain = chain.put(place, step.fit(learned_from))
    return chain


@dataclass(frozen=True)
class _Blocks:
    """What the head of a chain gives, with truth, block of pictures by block."""

    head: Chain
    maps: MapReader
    truth: Array
    pictures: Array | None

    def __iter__(self) -> Iterator[FitBlock]:
        def block(at: slice) -> FitBlock:
            seen = None if self.pictures is None else np.asarray(self.pictures[at])
            return FitBlock(self.head.through(self.maps.read(at), seen), np.asarray(self.truth[at]))

        return map_blocks(block, len(self.truth))


def _check_truth(truth: Array, maps: MapReader) -> None:
    pictures, classes, *pixels = maps.size
    if truth.shape != (pictures, *pixels) or truth.dtype.kind not in "iu":
        raise BadLabels(
            f"truth is {truth.dtype} of shape {truth.shape}; expected integers of shape"
            f" {(pictures, *pixels)} as in {maps.name}"
        )
    for block in blocks(pictures):
        found = np.unique(truth[block])
        strange = found[((found < 0) | (found >= classes)) & (found != UNLABELLED)]
        if len(strange):
            raise BadLabels(
                f"truth holds {strange.tolist()}; expected 0 to {classes - 1} and {UNLABELLED}"
            )
