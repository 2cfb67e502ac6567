"""Which pictures to look at: likely label errors, quarrels, and what the fusion broke."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ensemble.pipeline.reporting.walk import Walk
from evaluation.ground.arrays import Array
from evaluation.ground.classes import UNLABELLED
from evaluation.report.page import Queue, Queued

LISTED = 12
LABEL, DISPUTED, BROKEN = "Likely label errors", "Disputed", "Broken by the fusion"
TEXTS = {
    LABEL: "All members agree with each other and not with the label.",
    DISPUTED: "Members contradict each other most: votes beside the most frequent guess.",
    BROKEN: "The best member had it right, and the fusion has not.",
}

PerPicture = Float[np.ndarray, "picture"]


@dataclass(frozen=True)
class Review:
    """Shares of the scored pixels of each picture; 0 where a picture has none.

    Args:
        shares: by the title of the queue.
    """

    shares: dict[str, PerPicture]

    def places(self) -> list[int]:
        """List the pictures of all queues, the worst of each first, none twice."""
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
        """Say what stands out in a picture."""
        told = [
            f"{title.lower()}: {share[place]:.0%} of its pixels"
            for title, share in self.shares.items()
            if place in self._worst(title)
        ]
        return "; ".join(told)

    def _worst(self, title: str) -> list[int]:
        share = self.shares[title]
        order = np.argsort(-share, kind="stable")[:LISTED]
        return [int(place) for place in order if share[place] > 0]

    def _item(self, title: str, place: int, ids: tuple[str, ...]) -> Queued:
        return Queued(ids[place], f"{self.shares[title][place]:.0%}")


def review(walk: Walk) -> Review:
    """Measure every picture, block by block; what needs two members is left out without them."""
    titles = [LABEL, DISPUTED] if len(walk.members) > 1 else []
    if walk.fused and walk.reference in walk.members:
        titles.append(BROKEN)
    shares = {title: np.zeros(len(walk.data)) for title in titles}
    for block, guesses in walk.guesses():
        truth = np.asarray(walk.data.truth()[block])
        scored = truth != UNLABELLED
        if walk.data.classes.ignore is not None:
            scored &= truth != walk.data.classes.ignore
        for title in titles:
            found = _measure(title, walk, guesses, truth) * scored
            total = scored.sum(axis=(1, 2))
            np.divide(found.sum(axis=(1, 2)), total, out=shares[title][block], where=total > 0)
    return Review(shares)


def _measure(title: str, walk: Walk, guesses: Array, truth: Array) -> Array:
    """Return a number from 0 to 1 for each pixel."""
    members = guesses[: len(walk.members)]
    if title == LABEL:
        against: Array = (members == members[0]).all(axis=0)
        against &= (members[0] != truth) & (members[0] != walk.data.classes.ignore)
        return against
    if title == DISPUTED:
        votes = [(members == label).sum(axis=0) for label in range(len(walk.data.classes))]
        shares: Array = 1 - np.max(votes, axis=0) / len(members)
        return shares
    reference = members[walk.members.index(str(walk.reference))]
    broken: Array = (reference == truth) & (guesses[-1] != truth)
    return broken
