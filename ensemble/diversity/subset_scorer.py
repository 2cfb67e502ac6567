"""Score subsets of members, and compare them with intervals.

Count what the mean of a subset of members gets right, for many subsets in one pass.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, Shaped

from ensemble.block_fusion import MEMORY_BYTES, stacked
from ensemble.fusion import PIECE_VALUES
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.blocks import BLOCK_IMAGES, blocks, map_blocks
from evaluation.core.progress import progress
from evaluation.core.types import (
    Array,
    Groups,
    Map,
    Maps,
)
from evaluation.intervals import (
    GroupSums,
    Interval,
    expanded_percentile,
    paired_interval,
    replicates,
)
from evaluation.iou import Protocol, Score
from members.maps import MapReader, check_agreement

Subset = tuple[int, ...]
"""Places of members in ascending order; at least one."""

Places = Int64[np.ndarray, " image"]
Tables = Int64[np.ndarray, "_ subset true prediction"]
Sums = Int64[np.ndarray, "group true prediction"]

SUMS_BYTES = 128 << 20
"""What the counts of all subsets may take, before groups are put together; intervals copy them."""


class SubsetCounts:
    """Counts of the mean of any subset of members, by group of images; each counted once.

    Memory does not grow with the number of images: a block of every member's maps a thread, and
    for each subset asked for a table (classes x classes x 8 bytes) a group.

    Args:
        members: readers of the same images.
        target: class index per pixel, (image, row, col); 255 where the annotators gave none.
        places: the group of each image, 0, 1, 2, ...
    """

    def __init__(
        self, members: Sequence[MapReader], target: Shaped[np.ndarray, "..."], places: Places
    ) -> None:
        self._members, self._target, self._places = members, target, places
        self._known: dict[Subset, Sums] = {}
        self.groups = int(places.max()) + 1

    def of(self, subsets: Iterable[Subset]) -> GroupSums:
        """Return the counts of subsets in their order; new ones take one pass over the maps.

        Raises:
            BadMaps: members that do not agree.
        """
        subsets = list(subsets)
        new = sorted(set(subsets) - self._known.keys())
        if new:
            needed = sorted({member for subset in new for member in subset})
            place = {member: number for number, member in enumerate(needed)}
            sums = count_subsets(
                [self._members[member] for member in needed],
                self._target,
                self._places,
                [tuple(place[member] for member in subset) for subset in new],
            )
            self._known.update(zip(new, sums, strict=True))
        return np.stack([self._known[subset] for subset in subsets])


def count_subsets(
    members: Sequence[MapReader],
    target: Shaped[np.ndarray, "..."],
    places: Places,
    subsets: Sequence[Subset],
) -> GroupSums:
    """Count pixels by (group, true class, class that the mean of a subset predictions).

    Args:
        members: readers of the same images.
        target: class index per pixel, (image, row, col); 255 where the annotators gave none.
        places: the group of each image, 0, 1, 2, ...
        subsets: distinct, in ascending order.

    Raises:
        BadMaps: members that do not agree.
    """
    images, classes, rows, cols = check_agreement(members)
    groups = int(places.max()) + 1
    sums = np.zeros((groups, len(subsets), classes, classes), np.int64)
    piece = max(1, PIECE_VALUES // (classes * rows * cols))

    def work(block: slice) -> tuple[Array, Tables]:
        maps, true = stacked(members, block), np.asarray(target[block])
        counts = np.empty((len(true), *sums.shape[1:]), np.int64)
        for part in blocks(len(true), piece):
            for place, scores in enumerate(_totals(maps[:, part], subsets)):
                counts[part, place] = confusion(true[part], argmax(scores), classes=classes)
        return _by_group(places[block], counts)

    # No tree: its sums would soon hold all groups, and there would be one for each power of two.
    done = map_blocks(work, images, threads=threads_for(members))
    for own, counts in progress(done, "subsets", len(blocks(images))):
        sums[own] += counts
    return sums.swapaxes(0, 1)


def _by_group(places: Places, counts: Tables) -> tuple[Array, Tables]:
    """Return the groups that there are, and for each the sum of its images' counts."""
    groups, own = np.unique(places, return_inverse=True)
    sums = np.zeros((len(groups), *counts.shape[1:]), np.int64)
    for place, tables in zip(own, counts, strict=True):
        sums[place] += tables
    return groups, sums


def threads_for(members: Sequence[MapReader]) -> int:
    """Return how many blocks of all members' maps may be in memory at a time."""
    block_bytes = 4 * len(members) * BLOCK_IMAGES * math.prod(members[0].size[1:])
    return max(1, min(os.cpu_count() or 1, MEMORY_BYTES // block_bytes))


def group_indices(
    groups: Groups, *, subsets: int, classes: int, rng: np.random.Generator
) -> Places:
    """Number the groups of images; put groups together where memory would not hold them.

    Independent groups put together at random are independent still, so intervals stay right.

    Args:
        groups: which group each image belongs to.
        subsets: how many subsets will be counted.
        classes: how many classes there are.
        rng: draws which groups come together.
    """
    names, places = np.unique(groups, return_inverse=True)
    most = max(2, SUMS_BYTES // (8 * subsets * classes**2))
    if len(names) <= most:
        return places.astype(np.int64)
    return (rng.permutation(len(names)) % most)[places].astype(np.int64)


def _totals(
    maps: Maps, subsets: Sequence[Subset]
) -> Iterator[Float[np.ndarray, "_ class row col"]]:
    """Yield the sum of each subset's maps, always added in the members' order.

    So a subset's prediction is what fusing it by `mean` gives, whatever else is counted beside it. What
    a subset begins like the one before it is not added again.
    """
    begun: list[Map] = []
    before: Subset = ()
    for subset in subsets:
        shared = next(
            (i for i, (a, b) in enumerate(zip(subset, before, strict=False)) if a != b),
            min(len(subset), len(before)),
        )
        del begun[shared:]
        for member in subset[shared:]:
            begun.append(begun[-1] + maps[member] if begun else maps[member])
        before = subset
        yield begun[-1]


REPLICATES = 2_000
"""Resamples where all subsets are scored on each: what many of them would cost, few would save."""


@dataclass(frozen=True)
class ScoreDifference:
    """A difference of mean IoU on the same images.

    Args:
        value: the difference.
        interval: paired, over groups of images; None where one group is all there is.
    """

    value: float
    interval: Interval | None

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
        return None if self.interval is None else (self.interval.high - self.interval.low) / 2

    def within_noise(self, tolerance: float) -> bool:
        """Tell whether a loss is below the tolerance, and may be none by the interval."""
        return self.value > -tolerance and (self.interval is None or self.interval.high >= 0)


@dataclass(frozen=True)
class SubsetScorer:
    """Says what the mean of a subset of members scores.

    Args:
        counts: of subsets, by group of images.
        protocol: the definition of the score.
        ignore: the ignored class, or None.
        seed: of the resamples: all of them are the same.
    """

    counts: SubsetCounts
    protocol: Protocol
    ignore: int | None
    seed: int

    def score(self, subsets: Iterable[Subset]) -> Score:
        """Score each subset."""
        return self.protocol(self.counts.of(subsets).sum(axis=1), self.ignore)

    def change(self, new: Subset, old: Subset) -> ScoreDifference:
        """Return what changes from an old subset to a new one, with a paired interval."""
        a, b = self.counts.of([new, old])
        scores = self.score([new, old]).miou
        interval = paired_interval(a, b, np.arange(len(a)), self.protocol, self.ignore)
        return ScoreDifference(float(scores[0] - scores[1]), interval)

    def replicates(self, subsets: Iterable[Subset]) -> Float[np.ndarray, "subset resample"]:
        """Score each subset on the same resamples of the groups."""
        sums, rng = self.counts.of(subsets), np.random.default_rng(self.seed)
        return replicates(sums, self.protocol, self.ignore, rng=rng, resamples=REPLICATES)

    def interval(self, scores: Float[np.ndarray, " resample"]) -> Interval | None:
        """Return the interval of a number that was computed on each resample."""
        return expanded_percentile(scores, groups=self.counts.groups)
