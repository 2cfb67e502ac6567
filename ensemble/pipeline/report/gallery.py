"""Which images to look at: the worst, likely label errors, quarrels, what the fusion broke."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ensemble.pipeline.report.candidate_trace import Walk
from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Array
from evaluation.report.page import Queue, Queued
from members.data.dataset import DataSet

LISTED = 12
WORST, LABEL = "Worst", "Likely label errors"
DISPUTED, BROKEN = "Disputed", "Broken by the fusion"
TEXTS = {
    WORST: "The candidate has most pixels wrong, after its chain.",
    LABEL: "All members agree with each other and not with the label.",
    DISPUTED: "Members contradict each other most: votes beside the most frequent prediction.",
    BROKEN: "The best member had it right, and the fusion has not.",
}

PerImage = Float[np.ndarray, "image"]


@dataclass(frozen=True)
class Review:
    """Shares of each image's pixels; of these only the scored ones count.

    So an image that is hardly scored comes late, however wrong it is.

    Args:
        shares: by the title of the queue.
    """

    shares: dict[str, PerImage]

    def places(self) -> list[int]:
        """List the images of all queues, the worst of each first, none twice."""
        ranks = [self._worst(title) for title in self.shares]
        longest = max((len(rank) for rank in ranks), default=0)
        mixed = [rank[k] for k in range(longest) for rank in ranks if k < len(rank)]
        return list(dict.fromkeys(mixed))

    def queues(self, ids: tuple[str, ...]) -> list[Queue]:
        """Return the lists of the page."""
        return [
            Queue(title, TEXTS[title], [self._item(title, k, ids) for k in self._worst(title)])
            for title in self.shares
        ]

    def note(self, place: int) -> str:
        """Say what stands out in an image."""
        told = [
            f"{title.lower()}: {share[place]:.0%} of its pixels"
            for title, share in self.shares.items()
            if place in self._worst(title)
        ]
        return "; ".join(told)

    def _worst(self, title: str) -> list[int]:
        return most(self.shares[title], LISTED)

    def _item(self, title: str, place: int, ids: tuple[str, ...]) -> Queued:
        return Queued(ids[place], f"{self.shares[title][place]:.0%}")


def review(walk: Walk, labels: Array) -> Review:
    """Measure every image; what needs two members is left out without them.

    Args:
        walk: the candidate's way.
        labels: of the candidate, (image, row, col).
    """
    titles = [LABEL, DISPUTED] if len(walk.members) > 1 else []
    if walk.fused and walk.reference in walk.members:
        titles.append(BROKEN)
    return Review({WORST: wrong_shares(labels, walk.data), **shares_on_the_way(walk, titles)})


def wrong_shares(labels: Array, data: DataSet) -> PerImage:
    """Return the share of each image's pixels that are scored and labelled wrong.

    Args:
        labels: class index per pixel, (image, row, col).
        data: the images, which must have target.
    """
    shares = np.zeros(len(data))
    target = data.target()
    for block in blocks(len(data)):
        shares[block] = _share(labels[block] != target[block], data, block)
    return shares


def shares_on_the_way(walk: Walk, titles: Sequence[str]) -> dict[str, PerImage]:
    """Measure every image by what members and fusion prediction, for some queues.

    Args:
        walk: the candidate's way.
        titles: of the queues; DISPUTED alone needs no target.
    """
    shares = {title: np.zeros(len(walk.data)) for title in titles}
    if titles:
        for block, preds in walk.preds():
            for title in titles:
                found = _measure(title, walk, preds, block)
                shares[title][block] = _share(found, walk.data, block)
    return shares


def most(shares: PerImage, count: int) -> list[int]:
    """Return the places of up to `count` images, the largest share first, none of share 0."""
    order = np.argsort(-shares, kind="stable")[:count]
    return [int(place) for place in order if shares[place] > 0]


def _share(found: Array, data: DataSet, block: slice) -> PerImage:
    """Return means over each image, with 0 where a pixel is known not to be scored."""
    scored = np.ones(found.shape, bool)
    if data.masks is not None:
        target = np.asarray(data.masks[block])
        scored = target != UNLABELLED
        if data.classes.ignore is not None:
            scored &= target != data.classes.ignore
    shares: Array = (found * scored).mean(axis=(1, 2))
    return shares


def _measure(title: str, walk: Walk, preds: Array, block: slice) -> Array:
    """Return a number from 0 to 1 for each pixel."""
    members = preds[: len(walk.members)]
    if title == DISPUTED:
        votes = [(members == label).sum(axis=0) for label in range(len(walk.data.classes))]
        shares: Array = 1 - np.max(votes, axis=0) / len(members)
        return shares
    target = np.asarray(walk.data.target()[block])
    if title == LABEL:
        against: Array = (members == members[0]).all(axis=0)
        against &= (members[0] != target) & (members[0] != walk.data.classes.ignore)
        return against
    reference = members[walk.members.index(str(walk.reference))]
    broken: Array = (reference == target) & (preds[-1] != target)
    return broken
