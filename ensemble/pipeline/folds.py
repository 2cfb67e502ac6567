"""What learns on `oof` is fitted once for all of it, and once without each fold."""

from collections.abc import Iterator

import numpy as np

from ensemble.pipeline.prepare import read_folds
from evaluation.ground.arrays import Array, Groups, Labels
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import Leak
from evaluation.ground.layout import Run
from members.data.dataset import DataSet
from members.specialists import Family
from members.store import ProbabilityStore

OOF = "oof"


def fold_of(run: Run) -> Groups:
    """Return the fold of each picture of `oof`: that of the model which did not see it."""
    found: Groups = np.empty(len(DataSet.load(run.data(OOF))), dtype=np.intp)
    for fold in read_folds(run):
        outside = np.ones(len(found), dtype=bool)
        outside[fold.training] = False
        found[outside] = fold.index
    return found


def without_each_fold(truth: Array, folds: Groups) -> Iterator[Labels]:
    """Yield the truth once for each fold, that fold's pictures unlabelled: nothing learns there."""
    for fold in range(int(folds.max()) + 1):
        yield np.where((folds == fold)[:, None, None], np.uint8(UNLABELLED), truth)


def refuse_leak(what: str, member: str, maps: ProbabilityStore | Family, *, cure: str) -> None:
    """Refuse what is known to leak; undeclared maps are let pass, and `leak_notes` says so.

    Nobody who hands maps over knows our ids, so refusing the undeclared would keep most foreign
    maps from everything that learns.

    Args:
        what: would learn: a spec.
        member: whose maps.
        maps: of `oof`.
        cure: what else to do than to give other maps.

    Raises:
        Leak: the member was trained on some of the pictures.
    """
    saw = maps.saw()
    if saw is not None and saw.any():
        raise Leak(
            f"{what} would learn from {int(saw.sum())} pictures that {member!r} was"
            f" trained on; give it out-of-fold maps, {cure}"
        )
