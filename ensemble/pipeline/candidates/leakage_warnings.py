"""Warnings of leakage that no record shows.

Signs are members that are better on `oof` than on `validation`, and near-duplicate images in two
folds. What records show is refused: `open_run.check_no_leakage`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.core.arrays import argmax, evenly_spaced
from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import OOF, VALIDATION, Run
from evaluation.core.types import Array
from members.data.cleaning.near_duplicates import duplicates_across
from members.data.dataset import DataSet
from members.maps import MapReader

ACCURACY_MARGIN, CONFIDENCE_MARGIN = 0.05, 0.1
"""Gaps above these are suspicious. Where `validation` gets the mean of K models, it is a little
less confident than the one model that `oof` gets."""

NUM_ERRORS = 3
"""Standard errors that a gap must exceed, too."""

RESAMPLES = 1000
MAX_BLOCKS = 16
"""Blocks of images that are read, spread over the split."""

GroupSums = Float[np.ndarray, "_ 3"]


@dataclass(frozen=True)
class OofGap:
    """How much better a member does on `oof` than on `validation`.

    Args:
        member: its name.
        accuracy_gap: difference of the share of scored pixels that are right.
        accuracy_error: its standard error, over groups of images.
        confidence_gap: difference of the mean probability of the predicted class.
        confidence_error: its standard error.
    """

    member: str
    accuracy_gap: float
    accuracy_error: float
    confidence_gap: float
    confidence_error: float

    def signs(self) -> list[str]:
        """Say what looks as if the member was trained on the images of `oof`.

        Nothing does where it is not right more often there: confidence alone may have other causes.
        """
        right = self.accuracy_gap > max(ACCURACY_MARGIN, NUM_ERRORS * self.accuracy_error)
        sure = self.confidence_gap > max(CONFIDENCE_MARGIN, NUM_ERRORS * self.confidence_error)
        signs = []
        if right:
            signs.append(
                f"right on {OOF} more often than on {VALIDATION} by {self.accuracy_gap:+.3f}"
                f" (standard error {self.accuracy_error:.3f})"
            )
        if sure and self.accuracy_gap > 0:
            than = "" if right else f" on {OOF} than on {VALIDATION}"
            signs.append(
                f"more confident{than} by {self.confidence_gap:+.3f}"
                f" (standard error {self.confidence_error:.3f})"
            )
        return signs


def leakage_warnings(run_members: RunMembers, members: Sequence[str]) -> list[str]:
    """List the members that do not declare their training images, or seem trained on `oof`.

    Members that were trained in the run predicted `oof` out of fold; only imported maps, those of
    networks from elsewhere, and fusions in a run that has some, are examined for signs.
    """
    warnings = [
        f"{name!r} does not declare what it was trained on; if it was trained on images of {OOF},"
        f" what learns from its maps trusts it too much ({_where_declared(run_members, name)})"
        for name in members
        if OOF in run_members.splits(name) and run_members.open(name, OOF).trained_on_mask() is None
    ]
    elsewhere = {*run_members.imported, *(member.name for member in run_members.networks)}
    trained = set(run_members.names()) - elsewhere
    examined = [name for name in members if elsewhere and name not in trained]
    gaps = oof_gaps(run_members, members) if examined else []
    for gap in gaps:
        if gap.member in examined and (signs := gap.signs()):
            others = [other.accuracy_gap for other in gaps if other is not gap]
            context = f"; the others' accuracy by {np.median(others):+.3f}" if others else ""
            warnings.append(
                f"{gap.member!r} is {' and '.join(signs)}{context}: either it was trained on those"
                f" images, or {VALIDATION} is harder"
            )
    return warnings


def _where_declared(run_members: RunMembers, name: str) -> str:
    is_network = name in [member.name for member in run_members.networks]
    return "trained_on, in its description" if is_network else "`ens import --trained-on`"


def oof_gaps(run_members: RunMembers, members: Sequence[str]) -> list[OofGap]:
    """Compare members between `oof` and `validation`, where they have maps and target of both."""
    run = run_members.run
    if not {OOF, VALIDATION} <= set(run.splits()):
        return []
    sets = {split: DataSet.load(run.data(split)) for split in (OOF, VALIDATION)}
    if any(data.masks is None for data in sets.values()):
        return []
    return [
        _gap(name, *(_group_sums(run_members.open(name, s), data) for s, data in sets.items()))
        for name in members
        if {OOF, VALIDATION} <= set(run_members.splits(name))
    ]


def cross_fold_duplicates(run: Run) -> list[tuple[str, str]]:
    """List pairs of ids of near-duplicate images in different folds, or in `validation`.

    A member is then evaluated on what it learned. Each image is listed once, with one like it.
    """
    oof = DataSet.load(run.data(OOF))
    fold_of = np.full(len(oof), -1)
    for fold in read_folds(run):
        fold_of[fold.held_out(len(oof))] = fold.index
    sets = [oof, *([DataSet.load(run.data(VALIDATION))] if VALIDATION in run.splits() else [])]
    parts = np.concatenate([fold_of, np.full(sum(map(len, sets)) - len(oof), -1)])
    return duplicates_across([(data.images, data.ids) for data in sets], parts)


def _gap(name: str, oof: GroupSums, held_out: GroupSums) -> OofGap:
    rng = np.random.default_rng(0)
    (accuracy, accuracy_error), (confidence, confidence_error) = (
        (
            _mean(oof, column) - _mean(held_out, column),
            float(np.hypot(_error(oof, column, rng), _error(held_out, column, rng))),
        )
        for column in (0, 1)
    )
    return OofGap(name, accuracy, accuracy_error, confidence, confidence_error)


def _mean(sums: GroupSums, column: int) -> float:
    if not len(sums):
        return float("nan")
    return float(sums[:, column].sum() / sums[:, 2].sum())


def _error(sums: GroupSums, column: int, rng: np.random.Generator) -> float:
    """Return the standard error of a mean by resampling the groups; infinite for one group."""
    if len(sums) < 2:
        return float("inf")
    sampled = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
    totals = sampled @ sums
    return float((totals[:, column] / totals[:, 2]).std(ddof=1))


def _group_sums(maps: MapReader, data: DataSet) -> GroupSums:
    """Sum per group: right pixels, probabilities of the predictions, scored pixels."""
    groups = data.group_names()
    rows, names = [], []
    for block in _spread(data.extent):
        probs = maps.read(block)
        target = np.asarray(data.target()[block])
        scored = (target != UNLABELLED) & (target != data.classes.ignore)
        right = (argmax(probs) == target) & scored
        confidence = np.where(scored, probs.max(axis=1), 0)
        per_image = [x.sum(axis=(1, 2), dtype=np.float64) for x in (right, confidence, scored)]
        rows.append(np.stack(per_image, axis=1))
        names.append(groups[block])
    _, index = np.unique(np.concatenate(names), return_inverse=True)
    sums = np.zeros((index.max() + 1, 3))
    np.add.at(sums, index, np.concatenate(rows))
    scored_groups: Array = sums[sums[:, 2] > 0]
    return scored_groups


def _spread(extent: Extent) -> Iterator[slice]:
    """Yield at most a few blocks of images, spread evenly."""
    every = blocks(extent)
    return (every[index] for index in evenly_spaced(len(every), MAX_BLOCKS))
