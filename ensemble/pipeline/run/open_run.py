"""The members, families and fusions of a run, and their maps of a split, opened and checked once.

A family is the set of specialists that are read as one virtual member.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ensemble.coverage import AlignedMaps, PlacedMaps, place
from ensemble.pipeline.data.prepare import read_folds, run_classes
from ensemble.pipeline.run.experiment import Experiment, read_experiment
from evaluation.core.errors import BadRun, LeakageError, format_count
from evaluation.core.files import check_no_external_links, read_json
from evaluation.core.progress import Log
from evaluation.core.provenance import CONFIG, RECORD, digest_of, identity
from evaluation.core.ragged import Stack
from evaluation.core.run_folder import OOF, Run
from evaluation.core.specs import parse_spec
from evaluation.core.types import Groups
from evaluation.protocols import PROTOCOLS
from evaluation.run_metric import check_defined, named_metric
from members.data.dataset import DataSet, class_pixels
from members.maps import MapReader, check_same_images
from members.recipe import Member, is_student, specialist_families
from members.specialists import OneVsRestMember
from members.store import ProbabilityStore

IMPORTED = "foreign"
"""Key of a store's record that says that its maps were imported."""

LACKING = "lacking"
"""Key of an imported store's record: of how many images of the split it has no maps."""

Reader = ProbabilityStore | OneVsRestMember


@dataclass(frozen=True)
class RunMembers:
    """What a run's maps can be read from, by name.

    Args:
        run: the experiment folder.
        members: every network, specialists one by one.
        imported: names of the members whose maps were imported.
        networks: members whose networks were trained elsewhere.
    """

    run: Run
    members: tuple[Member, ...]
    imported: tuple[str, ...] = ()
    networks: tuple[Member, ...] = ()

    @classmethod
    def of(cls, run: Run) -> "RunMembers":
        """Read what the run holds."""
        experiment = run_experiment(run)
        members = tuple(experiment.expanded(run_classes(run)))
        return cls(run, members, imported_members(run), tuple(experiment.external_members()))

    @cached_property
    def families(self) -> dict[str, list[Member]]:
        """The specialists of each family."""
        return specialist_families(self.members)

    def names(self) -> list[str]:
        """List the members with full maps in the experiment's order, then the imported ones.

        A family counts as one member.
        """
        names = [member.family or member.name for member in (*self.members, *self.networks)]
        return list(dict.fromkeys([*names, *self.imported]))

    def splits(self, name: str, *, partial: bool = False) -> list[str]:
        """List the splits that a member, family or fusion has maps of.

        Args:
            name: of it.
            partial: take splits that it has maps of a part of the images of, too.
        """
        splits = self.run.splits()
        return [s for s in splits if self.digest(name, s, partial=partial) is not None]

    def lacking(self, name: str, split: str) -> int:
        """Count the images of a split that an imported member has no maps of; 0 if it has none."""
        file = self.run.probabilities(name, split) / RECORD
        if name not in self.imported or not file.is_file():
            return 0
        return int(read_json(file)[CONFIG].get(LACKING, 0))

    def digest(self, name: str, split: str, *, partial: bool = False) -> str | None:
        """Return the digest of the maps, from their records; None where they are not whole.

        Args:
            name: of a member, family or fusion.
            split: of the images.
            partial: take maps of a part of the images too.
        """
        if not partial and self.lacking(name, split):
            return None
        parts = [identity(folder) for folder in self._folders(name, split)]
        if any(part is None for part in parts):
            return None
        return str(parts[0]) if len(parts) == 1 else digest_of(parts)

    def digests(self, names: Sequence[str], split: str) -> dict[str, str]:
        """Return the digest of each one's maps of a split, as inputs of a record."""
        return {f"{name}/{split}": str(self.digest(name, split, partial=True)) for name in names}

    def open(
        self, name: str, split: str, *, one_vs_rest: bool = False, partial: bool = False
    ) -> Reader:
        """Open the maps of a member, family or fusion.

        Args:
            name: of it.
            split: of the images.
            one_vs_rest: give a family's maps class by class, not renormalised.
            partial: take maps of a part of the images too.

        Raises:
            BadRun: no such maps.
        """
        if self.digest(name, split, partial=partial) is None:
            known = [*self.names(), *self.run.fusions()]
            if name not in known:
                raise BadRun(f"no member or fusion {name!r}; known: {', '.join(known)}")
            if lacking := self.lacking(name, split):
                raise BadRun(
                    f"{name!r} lacks maps of {format_count(lacking, 'image')} of {split}; import"
                    " them, or `ens fuse --missing renormalise` takes those that it has"
                )
            raise BadRun(f"{name!r} has no maps of split {split!r}; {self._hint(name, split)}")
        stores = [ProbabilityStore(folder) for folder in self._folders(name, split)]
        if name in self.families:
            return OneVsRestMember(name, stores, raw=one_vs_rest)
        return stores[0]

    def check_split(self, split: str) -> None:
        """Refuse a split that the run does not have.

        Raises:
            BadRun: it has none of this name; lists those it has.
        """
        if split not in self.run.splits():
            known = ", ".join(self.run.splits())
            raise BadRun(f"no split {split!r} in {self.run.path}; known: {known}")

    def check_has_maps(self, name: str) -> None:
        """Refuse a member, family or fusion without whole maps of any split.

        Raises:
            BadRun: it has none; says how to get them.
        """
        if not self.splits(name):
            self.open(name, OOF)

    def _folders(self, name: str, split: str) -> list[Path]:
        if name in self.families:
            return [self.run.probabilities(m.name, split) for m in self.families[name]]
        if name in self.names():
            return [self.run.probabilities(name, split)]
        return [self.run.fused(name, split)]

    def _hint(self, name: str, split: str) -> str:
        if name in self.imported:
            return f"run `ens import --run {self.run.path} --name {name} --split {split} PATHS`"
        if name in [member.name for member in self.networks]:
            return f"run `ens predict --run {self.run.path} --network {name}=FILE`"
        if name in self.names():
            return f"run `ens train-members --run {self.run.path} --only {name}`"
        for member in self._fused_members(name):
            if self.digest(member, split, partial=True) is None:
                return f"its member {member!r} has none: {self._hint(member, split)}"
        return f"run `ens fuse --run {self.run.path} --name {name}` again"

    def _fused_members(self, fusion: str) -> list[str]:
        """Return what a fusion was made of, by the record of any of its splits."""
        for split in self.run.splits():
            record = self.run.fused(fusion, split) / RECORD
            if record.is_file():
                return list(read_json(record)[CONFIG]["members"])
        return []


@dataclass(frozen=True)
class OpenedSplit:
    """Maps of one split and its images, known to be of the same images.

    Args:
        run: the experiment folder.
        split: its name.
        names: of the members, families or fusions.
        readers: of their maps, in the same order; `PlacedMaps` where images lack maps.
        data: the images.
    """

    run: Run
    split: str
    names: tuple[str, ...]
    readers: tuple[MapReader, ...]
    data: DataSet

    @cached_property
    def target(self) -> Stack:
        """The labels."""
        return self.data.target()

    @cached_property
    def aligned(self) -> AlignedMaps:
        """The readers, with the images that some of them lack."""
        everything = np.ones(len(self.data), bool)
        covered = [r.covered if isinstance(r, PlacedMaps) else everything for r in self.readers]
        lacking = {
            name: int((~one).sum())
            for name, one in zip(self.names, covered, strict=True)
            if not one.all()
        }
        table = np.stack(covered) if lacking else None
        return AlignedMaps(self.readers, lacking, len(self.data), table)

    @cached_property
    def folds(self) -> Groups:
        """The fold of each image; of the split `oof` only."""
        return fold_indices(self.run)

    def check_no_leakage(self, what: str, *, hint: str) -> None:
        """Refuse maps of images that a member was trained on; see the function of this name."""
        for name, reader in zip(self.names, self.readers, strict=True):
            check_no_leakage(what, name, reader, hint=hint)


def open_split(
    run_members: RunMembers,
    split: str,
    members: Sequence[str],
    *,
    one_vs_rest: bool = False,
    partial: bool = False,
) -> OpenedSplit:
    """Open maps of a split beside its images, and check that they belong together.

    Args:
        run_members: of the run.
        split: of the images.
        members: names of members, families or fusions.
        one_vs_rest: give a family's maps class by class, not renormalised.
        partial: take maps of a part of the images too.

    Raises:
        BadRun: one has no maps of the split.
        BadMaps: maps of other images.
    """
    data = DataSet.load(run_members.run.data(split))
    readers: list[MapReader] = []
    for name in members:
        reader: MapReader = run_members.open(name, split, one_vs_rest=one_vs_rest, partial=partial)
        if run_members.lacking(name, split) and set(reader.ids or ()) < set(data.ids):
            reader = place(reader, data.ids, data.extent)
        check_same_images(reader.ids, data.ids, member=name, split=split)
        readers.append(reader)
    return OpenedSplit(run_members.run, split, tuple(members), tuple(readers), data)


def open_members(run_members: RunMembers, split: str, log: Log) -> OpenedSplit:
    """Open every member that has whole maps of a split, to compare members with one another.

    Students whose teachers were trained on its images are left out.

    Raises:
        BadRun: no such split, or fewer than two members with maps.
        BadMaps: maps of other images.
        LeakageError: maps of images that a member was trained on.
    """
    run_members.check_split(split)
    names = [name for name in run_members.names() if split in run_members.splits(name)]
    students = {member.name for member in run_members.members if is_student(member.recipe)}
    for name in [name for name in names if name in students]:
        if num_trained_on(run_members.open(name, split)):
            log(f"{name}: left out, its teachers were trained on images of {split}")
            names.remove(name)
    if len(names) < 2:
        path = run_members.run.path
        raise BadRun(
            f"{path} has {len(names) or 'no'} member{'s' * (len(names) != 1)} with maps of"
            f" {split}; expected two or more: `ens train-members --run {path} --member SPEC`"
        )
    opened = open_split(run_members, split, names)
    opened.check_no_leakage(f"a comparison on {split}", hint="or take another --split")
    for name in run_members.names():
        if split not in run_members.splits(name):
            log(f"{name}: left out, no maps of {split}")
    for name, reader in zip(opened.names, opened.readers, strict=True):
        if split == OOF and reader.trained_on_mask() is None:
            log(
                f"{name}: does not declare what it was trained on; if it was trained on images of"
                f" {OOF}, its scores are too high"
            )
    return opened


def num_trained_on(maps: MapReader) -> int:
    """Count the images that a model behind their maps was trained on; 0 where undeclared."""
    trained_on = maps.trained_on_mask()
    return 0 if trained_on is None else int(trained_on.sum())


def check_no_leakage(what: str, member: str, maps: MapReader, *, hint: str) -> None:
    """Refuse maps of images that the member is known to be trained on.

    Undeclared maps pass, and `leakage_warnings` names them: whoever provides maps does not know
    our ids, so that refusing them would keep most imported maps from everything that learns.

    Args:
        what: would use them; a spec or a task.
        member: whose maps.
        maps: of it.
        hint: what else to do than to import other maps.

    Raises:
        LeakageError: the member was trained on some of the images.
    """
    if count := num_trained_on(maps):
        raise LeakageError(
            f"{what} would rely on {format_count(count, 'image')} that {member!r} was trained"
            f" on; import maps of images that it was not trained on, {hint}"
        )


def imported_members(run: Run) -> tuple[str, ...]:
    """List the members whose maps were imported; their stores' own records say so."""
    return tuple(
        name
        for name in run.members()
        if any(_is_imported(run.probabilities(name, split)) for split in run.splits())
    )


def _is_imported(folder: Path) -> bool:
    return (folder / RECORD).is_file() and IMPORTED in read_json(folder / RECORD)[CONFIG]


def run_experiment(run: Run) -> Experiment:
    """Return the experiment that the run holds.

    Raises:
        BadRun: it holds none.
    """
    if not run.experiment.is_file():
        raise BadRun(f"{run.path} holds no experiment; start with `ens train-members`")
    check_no_external_links(run.path)
    return read_experiment(run.experiment)


def run_metric(run: Run) -> str:
    """Return the canonical spec of the run's metric: the experiment's, or its classes' default.

    Raises:
        BadRun: it holds no experiment or no data.
        BadSpec: a class that the run has not.
    """
    return named_metric(run_experiment(run).metric, run_classes(run))


def check_metric_defined(run: Run, metric: str, split: str) -> None:
    """Check that a split with target holds what a metric of given classes, or of Dice, measures.

    The definitions of mean IoU need no check: scores say by themselves where nothing is scored.

    Raises:
        BadData: it does not.
    """
    if parse_spec(metric).name in PROTOCOLS:
        return
    data = DataSet.load(run.data(split))
    pixels = class_pixels(data.target(), len(data.classes)).sum(axis=0)
    check_defined(metric, data.classes, pixels, f"{run.path}: split {split!r}")


def fold_indices(run: Run) -> Groups:
    """Return the fold of each image of `oof`: that of the model that did not train on it."""
    indices: Groups = np.empty(len(DataSet.load(run.data(OOF))), dtype=np.intp)
    for fold in read_folds(run):
        outside = np.ones(len(indices), dtype=bool)
        outside[fold.training] = False
        indices[outside] = fold.index
    return indices
