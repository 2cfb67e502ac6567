"""The labelled images that chains are tried on, in blocks that lie in one part each."""

from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from ensemble.pipeline.run.open_run import OOF, fold_indices
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, LeakageError
from evaluation.core.run_folder import Run
from evaluation.core.types import Array, Groups
from members.data.dataset import DataSet
from members.data.folds import hold_out

MOST_INNER = 3
"""Inner folds at most: what learns is fitted once for each."""

BLOCK = 32
"""Images a block: small, so that there are several for the cores and for the first look."""


@dataclass(frozen=True)
class Block:
    """Some images of one part.

    Args:
        number: which block.
        part: which part.
        places: of its images in the split.
    """

    number: int
    part: int
    places: Groups


@dataclass(frozen=True, eq=False)
class Pool:
    """The out-of-fold images of a run, cut into parts that divide no group.

    Args:
        data: the split.
        groups: a name an image.
        outer: the run's fold of each part: the outer folds.
        blocks: in an order in which any beginning holds something of every part.
    """

    data: DataSet
    groups: Array
    outer: tuple[int, ...]
    blocks: tuple[Block, ...]

    @property
    def classes(self) -> Classes:
        """What the labels mean."""
        return self.data.classes

    @property
    def folds(self) -> int:
        """How many outer folds there are."""
        return max(self.outer) + 1

    def inner(self, examined: int | None) -> list[int | None]:
        """Return the inner fold of each part; None for one that is examined, not searched.

        With nothing to examine they are the run's folds, as `ens postprocess` has them.
        """
        if examined is None:
            return list(self.outer)
        others = [part for part, fold in enumerate(self.outer) if fold != examined]
        return [
            others.index(part) % MOST_INNER if part in others else None
            for part in range(len(self.outer))
        ]


def pool_of(run: Run, seed: int) -> Pool:
    """Cut the out-of-fold images of a run into parts and blocks.

    A part is a fold of the run; where there are two of them, half of one, so that what is left
    without one can be divided again.

    Args:
        run: the experiment folder.
        seed: decides which images are looked at first.

    Raises:
        BadData: no target, or too few groups.
        Leak: a group that lies in two folds.
    """
    data, folds = DataSet.load(run.data(OOF)), fold_indices(run)
    groups = data.group_names()
    _check(groups, folds)
    part = folds.copy()
    if folds.max() == 1:
        target = np.asarray(data.target())
        for fold in (0, 1):
            own = np.flatnonzero(folds == fold)
            part[own] = 2 * fold + hold_out(target[own], groups[own], 0.5, seed)
    outer = tuple(int(folds[part == p][0]) for p in range(int(part.max()) + 1))
    return Pool(data, groups, outer, _blocks(groups, part, seed))


def _check(groups: Array, folds: Groups) -> None:
    names = np.unique(groups)
    if len(names) < 2:
        raise BadData(f"all {len(groups)} images are of one group; expected several to divide")
    pairs = np.unique(np.stack([np.unique(groups, return_inverse=True)[1], folds]), axis=1)
    divided = names[np.bincount(pairs[0]) > 1]
    if len(divided):
        raise LeakageError(
            f"group {str(divided[0])!r} lies in two folds; fold by group to examine by fold"
        )
    for fold in range(int(folds.max()) + 1):
        found = len(np.unique(groups[folds == fold]))
        if found < 2:
            raise BadData(f"fold {fold} holds {found} group; expected 2 or more to tune on")


def _blocks(groups: Array, part: Groups, seed: int) -> tuple[Block, ...]:
    """Shuffle the groups of each part, cut them into blocks, and take the parts by turns."""
    _, place = np.unique(groups, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(place.max() + 1)[place]
    each = []
    for own in (np.flatnonzero(part == p) for p in range(int(part.max()) + 1)):
        ordered = own[np.argsort(rank[own], kind="stable")]
        each.append([ordered[cut] for cut in blocks(len(ordered), BLOCK)])
    mixed = [
        (p, places)
        for turn in zip_longest(*each)
        for p, places in enumerate(turn)
        if places is not None
    ]
    return tuple(Block(number, p, places) for number, (p, places) in enumerate(mixed))
