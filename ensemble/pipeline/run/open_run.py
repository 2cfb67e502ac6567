"""Who has maps in a run: members, families of specialists, fusions.

What learns on `oof` is fitted once for all of it, and once without each fold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.pipeline.data.prepare import read_folds, run_classes
from ensemble.pipeline.run.experiment import Experiment, read_experiment
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadRun, LeakageError
from evaluation.core.files import check_no_external_links, read_json
from evaluation.core.provenance import RECORD, digest_of, identity
from evaluation.core.run_folder import Run
from evaluation.core.types import Array, Groups, Labels
from members.data.dataset import DataSet
from members.recipe import Member, specialist_families
from members.specialists import OneVsRestMember
from members.store import ProbabilityStore

FOREIGN = "foreign"
"""Key of a store's record that says that its maps were imported."""


@dataclass(frozen=True)
class RunMembers:
    """What a run's maps can be read from, by name.

    Args:
        run: the experiment folder.
        members: every network, specialists one by one.
        foreign: names of the members whose maps were imported.
    """

    run: Run
    members: tuple[Member, ...]
    foreign: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run) -> "RunMembers":
        """Read what the run holds."""
        members = tuple(run_experiment(run).expanded(run_classes(run)))
        return cls(run, members, imported_members(run))

    def names(self) -> list[str]:
        """List the members with full maps: generalists and families, in the experiment's order.

        Foreign members come last.
        """
        names = [member.family or member.name for member in self.members]
        return list(dict.fromkeys([*names, *self.foreign]))

    def splits(self, name: str) -> list[str]:
        """List the splits that a member, family or fusion has whole maps of."""
        return [split for split in self.run.splits() if self.identity(name, split) is not None]

    def identity(self, name: str, split: str) -> str | None:
        """Return the identity of the maps; None where they are not whole."""
        parts = [identity(folder) for folder in self._folders(name, split)]
        if any(part is None for part in parts):
            return None
        return str(parts[0]) if len(parts) == 1 else digest_of(parts)

    def open(
        self, name: str, split: str, *, raw: bool = False
    ) -> ProbabilityStore | OneVsRestMember:
        """Open the maps of a member, family or fusion.

        Args:
            name: of it.
            split: of the images.
            raw: give a family's maps as they are, not renormalised.

        Raises:
            BadRun: no such maps.
        """
        if self.identity(name, split) is None:
            known = [*self.names(), *self.run.fusions()]
            if name not in known:
                raise BadRun(f"no member or fusion {name!r}; known: {', '.join(known)}")
            raise BadRun(f"{name!r} has no maps of split {split!r}; {self._cure(name, split)}")
        stores = [ProbabilityStore(folder) for folder in self._folders(name, split)]
        family = specialist_families(self.members).get(name)
        return OneVsRestMember(name, stores, raw=raw) if family else stores[0]

    def _folders(self, name: str, split: str) -> list[Path]:
        family = specialist_families(self.members).get(name)
        if family:
            return [self.run.probabilities(member.name, split) for member in family]
        if name in self.names():
            return [self.run.probabilities(name, split)]
        return [self.run.fused(name, split)]

    def _cure(self, name: str, split: str) -> str:
        if name in self.foreign:
            return f"run `ens import --run {self.run.path} --name {name} --split {split} PATHS`"
        if name in self.names():
            return f"run `ens train-members --run {self.run.path} --only {name}`"
        return f"run `ens fuse --run {self.run.path} --name {name}` again"


def imported_members(run: Run) -> tuple[str, ...]:
    """List the members whose maps were imported; their stores' own records say so."""
    return tuple(
        name
        for name in run.members()
        if any(_is_foreign(run.probabilities(name, split)) for split in run.splits())
    )


def _is_foreign(folder: Path) -> bool:
    return (folder / RECORD).is_file() and FOREIGN in read_json(folder / RECORD)["asked"]


def run_experiment(run: Run) -> Experiment:
    """Return what was asked of a run so far.

    Raises:
        BadRun: the run holds no experiment.
    """
    if not run.experiment.is_file():
        raise BadRun(f"{run.path} holds no experiment; start with `ens train-members`")
    check_no_external_links(run.path)
    return read_experiment(run.experiment)


OOF = "oof"


def fold_indices(run: Run) -> Groups:
    """Return the fold of each image of `oof`: that of the model which did not see it."""
    found: Groups = np.empty(len(DataSet.load(run.data(OOF))), dtype=np.intp)
    for fold in read_folds(run):
        outside = np.ones(len(found), dtype=bool)
        outside[fold.training] = False
        found[outside] = fold.index
    return found


def leave_one_fold_out(target: Array, folds: Groups) -> Iterator[Labels]:
    """Yield the target once for each fold, that fold's images unlabelled: nothing learns there."""
    for fold in range(int(folds.max()) + 1):
        yield np.where((folds == fold)[:, None, None], np.uint8(UNLABELLED), target)


def check_no_leakage(
    what: str, member: str, maps: ProbabilityStore | OneVsRestMember, *, cure: str
) -> None:
    """Refuse what is known to leak; undeclared maps are let pass, and `leak_notes` says so.

    Nobody who hands maps over knows our ids, so refusing the undeclared would keep most foreign
    maps from everything that learns.

    Args:
        what: would learn: a spec.
        member: whose maps.
        maps: of `oof`.
        cure: what else to do than to give other maps.

    Raises:
        Leak: the member was trained on some of the images.
    """
    saw = maps.saw()
    if saw is not None and saw.any():
        raise LeakageError(
            f"{what} would learn from {int(saw.sum())} images that {member!r} was"
            f" trained on; give it out-of-fold maps, {cure}"
        )
