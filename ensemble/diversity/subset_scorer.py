"""Score the means of subsets of members: many subsets in one pass, with paired intervals."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from ensemble.block_fusion import read_members, threads_for
from ensemble.fusion import PIECE_VALUES
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.progress import progress
from evaluation.core.ragged import Stack
from evaluation.core.types import Array, Groups, Map, Maps
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
"""Indices of members in ascending order; at least one."""

GroupIndices = Int64[np.ndarray, " image"]
SubsetTables = Int64[np.ndarray, "_ subset target prediction"]
Sums = Int64[np.ndarray, "group target prediction"]

SUMS_BYTES = 128 << 20
"""Limit for the counts of all subsets, before groups are merged; intervals copy them."""

REPLICATES = 2_000
"""Resamples on which all subsets are scored: more would cost more than the precision is worth."""


class SubsetCounts:
    """Confusion counts of the mean of any subset of members, by group of images; each counted once.

    Memory does not grow with the number of images: one block of every member's maps per thread, and
    for each subset a table (classes x classes x 8 bytes) per group.

    Args:
        members: maps of the same images, (image, class, row, col) each.
        target: class index per pixel, (image, row, col); 255 where unlabelled.
        group_of: the group of each image, 0, 1, 2, ...
    """

    def __init__(
        self,
        members: Sequence[MapReader],
        target: Stack,
        group_of: GroupIndices,
    ) -> None:
        self._members, self._target, self._group_of = members, target, group_of
        self._known: dict[Subset, Sums] = {}
        self.groups = int(group_of.max()) + 1

    def of(self, subsets: Iterable[Subset]) -> GroupSums:
        """Return the counts of subsets in their order; new ones take one pass over the maps.

        Raises:
            BadMaps: members that do not agree.
        """
        subsets = list(subsets)
        new = sorted(set(subsets) - self._known.keys())
        if new:
            needed = sorted({member for subset in new for member in subset})
            index = {member: number for number, member in enumerate(needed)}
            sums = count_subsets(
                [self._members[member] for member in needed],
                self._target,
                self._group_of,
                [tuple(index[member] for member in subset) for subset in new],
            )
            self._known.update(zip(new, sums, strict=True))
        return np.stack([self._known[subset] for subset in subsets])


def count_subsets(
    members: Sequence[MapReader],
    target: Stack,
    group_of: GroupIndices,
    subsets: Sequence[Subset],
) -> GroupSums:
    """Count pixels by the class in the target and the class that a subset's mean predicts.

    Args:
        members: maps of the same images, (image, class, row, col) each.
        target: class index per pixel, (image, row, col); 255 where unlabelled.
        group_of: the group of each image, 0, 1, 2, ...
        subsets: distinct, in ascending order.

    Returns:
        Pixels, (subset, group, target, prediction).

    Raises:
        BadMaps: members that do not agree.
    """
    first = check_agreement(members)
    classes = first.num_classes
    groups = int(group_of.max()) + 1
    sums = np.zeros((groups, len(subsets), classes, classes), np.int64)

    def work(block: slice) -> tuple[Array, SubsetTables]:
        maps, labels = read_members(members, block), np.asarray(target[block])
        counts = np.empty((len(labels), *sums.shape[1:]), np.int64)
        piece = max(1, PIECE_VALUES // maps[0, 0].size)
        for part in blocks(len(labels), piece):
            for index, scores in enumerate(_subset_sums(maps[:, part], subsets)):
                counts[part, index] = confusion(labels[part], argmax(scores), classes=classes)
        return _sum_by_group(group_of[block], counts)

    # Not reduced pairwise: partial sums would soon hold all groups, one per power of two.
    done = map_blocks(work, first.extent, threads=threads_for(members))
    for occurring, counts in progress(done, "subsets", len(blocks(first.extent))):
        sums[occurring] += counts
    return sums.swapaxes(0, 1)


def _sum_by_group(group_of: GroupIndices, counts: SubsetTables) -> tuple[Array, SubsetTables]:
    """Return the groups that occur, and the sum of the counts of each one's images."""
    groups, index = np.unique(group_of, return_inverse=True)
    sums = np.zeros((len(groups), *counts.shape[1:]), np.int64)
    for group, tables in zip(index, counts, strict=True):
        sums[group] += tables
    return groups, sums


def group_indices(
    groups: Groups, *, subsets: int, classes: int, rng: np.random.Generator
) -> GroupIndices:
    """Number the groups of images; merge groups at random where their counts exceed the memory.

    Independent groups merged at random are still independent, so intervals stay valid.

    Args:
        groups: the group that each image belongs to.
        subsets: number of subsets that will be counted.
        rng: draws which groups are merged.
    """
    names, indices = np.unique(groups, return_inverse=True)
    limit = max(2, SUMS_BYTES // (8 * subsets * classes**2))
    if len(names) <= limit:
        return indices.astype(np.int64)
    return (rng.permutation(len(names)) % limit)[indices].astype(np.int64)


def _subset_sums(
    maps: Maps, subsets: Sequence[Subset]
) -> Iterator[Float[np.ndarray, "_ class row col"]]:
    """Yield the sum of each subset's maps, always added in the members' order.

    So a subset's prediction equals that of its `mean`, whatever other subsets are counted. A prefix
    that a subset shares with the one before it is not added again.
    """
    sums: list[Map] = []
    before: Subset = ()
    for subset in subsets:
        shared = next(
            (i for i, (a, b) in enumerate(zip(subset, before, strict=False)) if a != b),
            min(len(subset), len(before)),
        )
        del sums[shared:]
        for member in subset[shared:]:
            sums.append(sums[-1] + maps[member] if sums else maps[member])
        before = subset
        yield sums[-1]


@dataclass(frozen=True)
class ScoreDifference:
    """A difference of scores on the same images.

    Args:
        value: the difference.
        interval: paired, over groups of images; None where there is only one group.
    """

    value: float
    interval: Interval | None

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
        return None if self.interval is None else (self.interval.high - self.interval.low) / 2

    def within_noise(self, tolerance: float) -> bool:
        """Return whether a loss is below the tolerance and not shown to differ from 0."""
        return self.value > -tolerance and (self.interval is None or self.interval.high >= 0)


@dataclass(frozen=True)
class SubsetScorer:
    """Scores the mean of any subset of members.

    Args:
        counts: of subsets, by group of images.
        protocol: the definition of the score.
        ignore: the ignored class, or None.
        seed: random seed of the resamples, the same for all subsets.
    """

    counts: SubsetCounts
    protocol: Protocol
    ignore: int | None
    seed: int

    def score(self, subsets: Iterable[Subset]) -> Score:
        """Score each subset."""
        return self.protocol(self.counts.of(subsets).sum(axis=1), self.ignore)

    def change(self, new: Subset, old: Subset) -> ScoreDifference:
        """Return the change of score from an old subset to a new one, with a paired interval."""
        a, b = self.counts.of([new, old])
        scores = self.score([new, old]).miou
        interval = paired_interval(a, b, np.arange(len(a)), self.protocol, self.ignore)
        return ScoreDifference(float(scores[0] - scores[1]), interval)

    def replicates(self, subsets: Iterable[Subset]) -> Float[np.ndarray, "subset resample"]:
        """Score each subset on the same resamples of the groups."""
        sums, rng = self.counts.of(subsets), np.random.default_rng(self.seed)
        return replicates(sums, self.protocol, self.ignore, rng=rng, resamples=REPLICATES)

    def interval(self, scores: Float[np.ndarray, " resample"]) -> Interval | None:
        """Return the interval of a value that was computed on each resample."""
        return expanded_percentile(scores, groups=self.counts.groups)
