"""What is dropped and why: reasons, rules, and what was found in a set."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from evaluation.ground.arrays import Kept
from evaluation.ground.errors import BadData
from members.data.cleaning.copies import ALIKE, DISTANCE
from members.data.cleaning.novelty import Features, Scores, strangest
from members.data.contents import class_pixels
from members.data.dataset import DataSet


class Reason(StrEnum):
    """Why a picture is dropped, in the order in which reasons are looked for."""

    LISTED = "drop list"
    SHARED_MASK = "shared mask"
    COPY = "near-duplicate"
    NOVELTY = "novelty"


@dataclass(frozen=True)
class Drop:
    """One picture to drop.

    Args:
        place: where it stands in the set.
        reason: the kind of reason.
        why: the reason in words.
        like: of a near-duplicate, the place of the picture that is kept.
    """

    place: int
    reason: Reason
    why: str
    like: int | None = None


@dataclass(frozen=True)
class Rules:
    """What counts as a reason.

    Args:
        distance: largest Hamming distance of near-duplicates' 64-bit hashes.
        alike: lowest correlation of near-duplicates.
        novelty: share of what else is left that is dropped as strangest, 0 to 1.
    """

    distance: int = DISTANCE
    alike: float = ALIKE
    novelty: float = 0.0


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found in a set.

    Args:
        data: the set as it is.
        drops: what to drop, by place.
        scores: novelty of every picture.
        described: what the novelty was computed from.
    """

    data: DataSet
    drops: tuple[Drop, ...]
    scores: Scores
    described: Features

    def of(self, reason: Reason) -> list[Drop]:
        """Return what is dropped for one reason."""
        return [drop for drop in self.drops if drop.reason == reason]

    def strangest_kept(self, count: int) -> list[int]:
        """Return the places of the strangest pictures that stay; none where nothing was learned."""
        return strangest(self.scores, self.kept, count) if self.described.any() else []

    @property
    def kept(self) -> Kept:
        """True for pictures that stay."""
        return without(np.ones(len(self.data), bool), self.drops)


def refuse_lost_class(data: DataSet, drops: Sequence[Drop]) -> None:
    """Refuse drops that leave no picture of a class, or none at all.

    Raises:
        BadData: such drops.
    """
    kept = without(np.ones(len(data), bool), drops)
    if not kept.any():
        raise BadData(f"all {len(data)} pictures would be dropped; expected some to stay")
    if data.masks is None:
        return
    held = class_pixels(data.masks, len(data.classes)) > 0
    for label in np.flatnonzero(held.any(axis=0) & ~held[kept].any(axis=0)):
        last = [drop for drop in drops if held[drop.place, label]][-1]
        cure = "take it off the list" if last.reason == Reason.LISTED else "name it in --keep"
        raise BadData(
            f"the last picture of class {data.classes.names[label]!r} would be dropped"
            f" ({data.ids[last.place]}: {last.why}); {cure}"
        )


def without(kept: Kept, drops: Sequence[Drop]) -> Kept:
    """Return which pictures still stay when these are dropped too."""
    left = kept.copy()
    left[[drop.place for drop in drops]] = False
    return left
