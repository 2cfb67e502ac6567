"""Signs of leaks that no record shows: maps too good on `oof`, images alike in two folds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.run.open_run import OOF, RunMembers
from evaluation.core.arrays import argmax, evenly_spaced
from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.run_folder import Run
from evaluation.core.types import Array
from members.data.cleaning.near_duplicates import near_duplicates, thumbnails_and_hashes
from members.data.dataset import DataSet
from members.maps import MapReader

FRESH = "validation"

RIGHT_MARGIN, SURE_MARGIN = 0.05, 0.1
"""How much more often right, or how much surer, is a sign; the mean of K fold models, which is
what `validation` gets, is a little less sure than the one model that `oof` gets."""

ERRORS = 3
RESAMPLES = 1000
BLOCKS = 16
"""Blocks of images that are looked at, spread over the split."""

GroupTallies = Float[np.ndarray, "_ 3"]


@dataclass(frozen=True)
class OofGap:
    """How much better a member does on `oof` than on `validation`.

    Args:
        member: its name.
        right: difference of the share of scored pixels that are right.
        right_error: its standard error, over groups of images.
        sure: difference of the mean probability of the predicted class.
        sure_error: its standard error.
    """

    member: str
    right: float
    right_error: float
    sure: float
    sure_error: float

    @property
    def suspicious(self) -> bool:
        """Tell whether it looks as if the member had seen the images of `oof`."""
        return self.right > max(RIGHT_MARGIN, ERRORS * self.right_error) or self.sure > max(
            SURE_MARGIN, ERRORS * self.sure_error
        )


def leakage_warnings(sources: RunMembers, members: Sequence[str]) -> list[str]:
    """Say which members do not declare what they saw, and which look as if they had seen `oof`."""
    notes = []
    compared = oof_gaps(sources, members)
    for name in members:
        opened = sources.open(name, OOF) if OOF in sources.splits(name) else None
        if opened is not None and opened.saw() is None:
            notes.append(
                f"{name!r} does not declare what it was trained on; if it saw images of {OOF},"
                " what learns from its maps is too sure of it (`ens import --trained-on`)"
            )
    for found in compared:
        if found.suspicious:
            others = [other.right for other in compared if other is not found]
            besides = f"; the others by {np.median(others):+.3f}" if others else ""
            notes.append(
                f"{found.member!r} is right on {OOF} more often than on {FRESH} by"
                f" {found.right:+.3f} (standard error {found.right_error:.3f}) and surer by"
                f" {found.sure:+.3f}{besides}: either it was trained on those images, or"
                f" {FRESH} is harder"
            )
    return notes


def oof_gaps(sources: RunMembers, members: Sequence[str]) -> list[OofGap]:
    """Compare members between `oof` and `validation`, where they have maps and target of both."""
    run = sources.run
    if not {OOF, FRESH} <= set(run.splits()):
        return []
    sets = {split: DataSet.load(run.data(split)) for split in (OOF, FRESH)}
    if any(data.masks is None for data in sets.values()):
        return []
    return [
        _difference(name, *(_tallies(sources.open(name, s), data) for s, data in sets.items()))
        for name in members
        if {OOF, FRESH} <= set(sources.splits(name))
    ]


def cross_fold_duplicates(run: Run) -> list[tuple[str, str]]:
    """List pairs of ids that show the same but lie in different folds, or in `validation`.

    A member is then examined on what it learnt. Each image is named once, beside one like it.
    """
    oof = DataSet.load(run.data(OOF))
    fold_of = np.full(len(oof), -1)
    for fold in read_folds(run):
        fold_of[np.setdiff1d(np.arange(len(oof)), fold.training)] = fold.index
    sets = [oof, *([DataSet.load(run.data(FRESH))] if FRESH in run.splits() else [])]
    looked = [thumbnails_and_hashes(np.asarray(data.images)) for data in sets]
    thumbnails, hashes = (np.concatenate(parts) for parts in zip(*looked, strict=True))
    ids = [name for data in sets for name in data.ids]
    parts = np.concatenate([fold_of, np.full(len(ids) - len(oof), -1)])
    copies = near_duplicates(thumbnails, hashes, np.zeros(len(ids), np.int64))
    return [(ids[c.of], ids[c.place]) for c in copies if parts[c.of] != parts[c.place]]


def _difference(name: str, oof: GroupTallies, fresh: GroupTallies) -> OofGap:
    rng = np.random.default_rng(0)
    (right, right_error), (sure, sure_error) = (
        (
            _mean(oof, column) - _mean(fresh, column),
            float(np.hypot(_error(oof, column, rng), _error(fresh, column, rng))),
        )
        for column in (0, 1)
    )
    return OofGap(name, right, right_error, sure, sure_error)


def _mean(tallies: GroupTallies, column: int) -> float:
    if not len(tallies):
        return float("nan")
    return float(tallies[:, column].sum() / tallies[:, 2].sum())


def _error(tallies: GroupTallies, column: int, rng: np.random.Generator) -> float:
    """Return the standard error of a mean by drawing the groups anew; infinite for one group."""
    if len(tallies) < 2:
        return float("inf")
    drawn = rng.multinomial(len(tallies), np.full(len(tallies), 1 / len(tallies)), RESAMPLES)
    sums = drawn @ tallies
    return float((sums[:, column] / sums[:, 2]).std(ddof=1))


def _tallies(maps: MapReader, data: DataSet) -> GroupTallies:
    """Sum, for each group: right pixels, probabilities of the predictions, scored pixels."""
    groups = data.group_names()
    rows, names = [], []
    for block in _spread(len(data)):
        read = maps.read(block)
        target = np.asarray(data.target()[block])
        scored = (target != UNLABELLED) & (target != data.classes.ignore)
        right = (argmax(read) == target) & scored
        sure = np.where(scored, read.max(axis=1), 0)
        sums = [part.sum(axis=(1, 2), dtype=np.float64) for part in (right, sure, scored)]
        rows.append(np.stack(sums, axis=1))
        names.append(groups[block])
    _, place = np.unique(np.concatenate(names), return_inverse=True)
    tallies = np.zeros((place.max() + 1, 3))
    np.add.at(tallies, place, np.concatenate(rows))
    kept: Array = tallies[tallies[:, 2] > 0]
    return kept


def _spread(images: int) -> Iterator[slice]:
    """Yield blocks of images spread over all, a few at most."""
    every = blocks(images)
    return (every[place] for place in evenly_spaced(len(every), BLOCKS))
