"""Teachers of students: whose maps teach which images, and which images they have seen.

The teacher of a student is a fusion (or member) of the run. The out-of-fold maps of fold j come
from networks that were trained on the labels of fold k, so a student of fold k that learns from
them counts as trained on fold k. With `nested: true` the teachers of each fold's student are
trained again without that fold, in a run of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from ensemble.pipeline.candidates.fuse import resolve_fusion
from ensemble.pipeline.data.prepare import (
    check_same_kind,
    check_same_split,
    make_ids_unique,
    read_folds,
    run_classes,
    split_identity,
)
from ensemble.pipeline.run.expected_record import ExpectedRecord
from ensemble.pipeline.run.experiment import Experiment, FusionEntry, is_split_name
from ensemble.pipeline.run.open_run import (
    OpenedSplit,
    RunMembers,
    imported_members,
    open_split,
    run_experiment,
)
from evaluation.core.errors import BadRun, BadSpec, LeakageError, format_count
from evaluation.core.files import remove_folder, write_json
from evaluation.core.provenance import digest
from evaluation.core.run_folder import OOF, VALIDATION, Run
from evaluation.core.types import Array
from members.data.dataset import DataSet, write_classes
from members.data.load_dataset import load_dataset, one_set
from members.jobs import Taught
from members.recipe import Member, is_student
from members.soft_targets import write_soft_targets
from members.store import ProbabilityStore
from members.train import Fold
from members.trainers.distill import Distillation, distillation_of

UNLABELLED = "unlabelled"
"""The split of images without labels that were named by a path."""

NESTED = "nested"
"""Folder of the runs in which teachers are trained without one of the folds."""

LEAST_NESTED_FOLDS = 3


@dataclass(frozen=True)
class Teacher:
    """What teaches the student of a fold.

    Args:
        options: of the distillation.
        run: that holds the teacher's maps; one without the fold where it is nested.
        unlabelled: the split of images without labels, or None.
    """

    options: Distillation
    run: Run
    unlabelled: str | None

    @property
    def splits(self) -> list[str]:
        """The splits that teach."""
        return [OOF, *([self.unlabelled] if self.unlabelled else [])]

    def input_digests(self) -> dict[str, str]:
        """Return the digests of the maps and images that the student learns from."""
        if not self.run.experiment.is_file():
            return {f"teacher/{split}": "None" for split in self.splits}
        run_members, name = RunMembers.of(self.run), self.options.teacher
        return {f"teacher/{split}": str(run_members.digest(name, split)) for split in self.splits}

    def open(self) -> list[OpenedSplit]:
        """Open the teacher's maps of each split.

        Raises:
            BadRun: it has none of a split.
            LeakageError: it was trained on images whose out-of-fold maps would teach.
        """
        run_members, name = RunMembers.of(self.run), self.options.teacher
        opened = [open_split(run_members, split, [name]) for split in self.splits]
        hint = "or take another teacher"
        opened[0].check_no_leakage(f"a student of {name!r}", hint=hint)
        return opened

    def write(self, folder: Path) -> None:
        """Write the soft targets of all splits into a folder."""
        opened = [(one.readers[0], one.data.extent) for one in self.open()]
        write_soft_targets(
            folder,
            opened[0],
            opened[1] if len(opened) > 1 else None,
            temperature=self.options.temperature,
            confidence=self.options.confidence,
        )

    def seen(self) -> tuple[frozenset[str], bool]:
        """Return every image that a network of the teacher saw, and whether all declare them."""
        run_members = RunMembers.of(self.run)
        ids, declared = set(DataSet.load(self.run.data(OOF)).ids), True
        for name in base_members(run_members, self.options.teacher):
            for split in self.splits:
                for folder in member_stores(run_members, name, split):
                    seen = ProbabilityStore(folder).seen
                    declared = declared and seen is not None
                    ids |= set().union(*seen.models) if seen else set()
        return frozenset(ids), declared


def base_members(run_members: RunMembers, name: str) -> list[str]:
    """List the members that a fusion is made of, directly or through other fusions."""
    if name in run_members.names():
        return [name]
    spec = resolve_fusion(run_experiment(run_members.run), run_members, name)
    parts = [part for member in spec.members for part in base_members(run_members, member)]
    return list(dict.fromkeys(parts))


def member_stores(run_members: RunMembers, name: str, split: str) -> list[Path]:
    """List the stores of a member's maps, one per specialist of a family."""
    names = [member.name for member in run_members.families.get(name, [])] or [name]
    return [run_members.run.probabilities(one, split) for one in names]


def students_of(run_members: RunMembers, name: str) -> list[Member]:
    """List the students behind a member or fusion, and behind the teachers of students."""
    found: dict[str, Member] = {}
    known = {member.name: member for member in run_members.members}
    pending = base_members(run_members, name)
    while pending:
        member = known.get(pending.pop())
        if member is None or member.name in found:
            continue
        options = distillation_of(member.recipe)
        if options is not None:
            found[member.name] = member
            pending += base_members(run_members, options.teacher)
    return list(found.values())


def teachers(
    run: Run, experiment: Experiment, member: Member, folds: Sequence[Fold]
) -> list[Teacher]:
    """Return the teacher of the student of each fold.

    Raises:
        BadSpec: the member is no student.
    """
    options = distillation_of(member.recipe)
    if options is None:
        raise BadSpec(f"member {member.name!r} has trainer {member.recipe.trainer}, no teacher")
    unlabelled = unlabelled_split(run, experiment)
    if not options.nested:
        return [Teacher(options, run, unlabelled)] * len(folds)
    return [Teacher(options, nested_run(run, fold), unlabelled) for fold in folds]


def taught_by(run: Run, experiment: Experiment, member: Member, folds: Sequence[Fold]) -> Taught:
    """Return which images the teachers of each fold's student saw."""
    seen = [teacher.seen() for teacher in teachers(run, experiment, member, folds)]
    return Taught(tuple(ids for ids, _ in seen), all(declared for _, declared in seen))


def check_students(run: Run, experiment: Experiment, members: Sequence[Member]) -> None:
    """Refuse students that have no teacher or cannot be taught so, before anything is trained.

    Raises:
        BadSpec: no such teacher, one that is made of the student itself, rounds without unlabelled
            images, or nested teachers that cannot be trained.
    """
    known = [*experiment.members, *experiment.fusions, *run.members()]
    for member in members:
        options = distillation_of(member.recipe)
        if options is None:
            continue
        if options.teacher not in known:
            raise BadSpec(
                f"student {member.name!r} has teacher {options.teacher!r}; known:"
                f" {', '.join(dict.fromkeys(known))}"
            )
        if member.name in _parts(experiment, options.teacher):
            raise BadSpec(
                f"teacher {options.teacher!r} is made of the student {member.name!r} itself; name"
                " other members of the fusion"
            )
        if options.rounds > 1 and experiment.unlabelled is None:
            raise BadSpec(
                f"student {member.name!r} has {options.rounds} rounds and no unlabelled images,"
                " on which alone students teach; give unlabelled, or rounds=1"
            )
        if options.nested and member.recipe.single:
            raise BadSpec(
                f"student {member.name!r} is a single network of all folds, so no fold is left out"
                " of its teachers; leave out nested or single"
            )
        if options.nested and len(read_folds(run)) < LEAST_NESTED_FOLDS:
            raise BadSpec(
                f"student {member.name!r} has nested teachers; expected {LEAST_NESTED_FOLDS} folds"
                f" or more, the run has {len(read_folds(run))}"
            )
        if options.nested:
            _check_nested(run, experiment, options.teacher)


def _check_nested(run: Run, experiment: Experiment, teacher: str) -> None:
    """Refuse a teacher whose networks cannot be trained once more without a fold.

    Raises:
        BadSpec: it needs networks from elsewhere, imported maps or students.
    """
    own = [n for n, r in experiment.recipes().items() if not (is_student(r) or r.single)]
    by_default = (*own, *experiment.networks, *imported_members(run))
    parts = _parts(experiment, teacher, by_default)
    if fixed := [p for p in parts if p not in {*experiment.members, *experiment.fusions}]:
        raise BadSpec(
            f"teacher {teacher!r} needs the maps of {', '.join(fixed)}, whose networks cannot be"
            " trained without a fold; leave out nested"
        )
    if any(is_student(recipe) for name, recipe in experiment.recipes().items() if name in parts):
        raise BadSpec(f"teacher {teacher!r} is made of students; leave out nested")


def _parts(experiment: Experiment, name: str, by_default: Sequence[str] = ()) -> list[str]:
    """List what a member or fusion is made of: itself, fused members, and teachers of students.

    Args:
        experiment: of the run.
        name: of the member or fusion.
        by_default: the members of a fusion that names none.
    """
    recipes, pending = experiment.recipes(), [name]
    parts: dict[str, None] = {}
    while pending:
        name = pending.pop()
        if name in parts:
            continue
        parts[name] = None
        if name in experiment.fusions:
            pending += experiment.fusion_entry(name).members or by_default
        elif name in recipes and (options := distillation_of(recipes[name])) is not None:
            pending.append(options.teacher)
    return list(parts)


def in_order(experiment: Experiment, students: Sequence[Member]) -> Iterator[Member]:
    """Yield students after those that their teachers are made of; none is made of itself."""
    remaining = list(students)
    while remaining:
        ready = [
            student
            for student in remaining
            if not any(
                other.name in _parts(experiment, options.teacher)
                for other in remaining
                if other is not student and (options := distillation_of(student.recipe))
            )
        ]
        assert ready, f"students {', '.join(s.name for s in remaining)} teach each other"
        yield from ready
        remaining = [student for student in remaining if student not in ready]


def unlabelled_split(run: Run, experiment: Experiment) -> str | None:
    """Return the split whose images teach without labels; None where there is none."""
    if experiment.unlabelled is None:
        return None
    return experiment.unlabelled if is_split_name(experiment.unlabelled) else UNLABELLED


def prepare_unlabelled(run: Run, experiment: Experiment) -> None:
    """Write the images without labels that an experiment names, and check them.

    Raises:
        BadData: images of another kind, or other ones than before.
        BadRun: no such split.
        LeakageError: images of `validation`, on which the student is to be compared.
    """
    split = unlabelled_split(run, experiment)
    if split is None:
        return
    given = str(experiment.unlabelled)
    if split in (OOF, VALIDATION):
        raise LeakageError(
            f"unlabelled: {split} would teach by images that"
            f" {'have labels' if split == OOF else 'evaluate'}; name another split, or a path"
        )
    if is_split_name(given):
        if split not in run.splits():
            known = ", ".join(run.splits())
            raise BadRun(
                f"unlabelled: no split {split!r} in {run.path}; known: {known}; write ./{split} for"
                " a path"
            )
        images = DataSet.load(run.data(split))
    else:
        classes = run_classes(run)
        sets = load_dataset(Path(given), contract=classes, use_masks=False)
        images, known_images = one_set(sets, given), DataSet.load(run.data(OOF))
        check_same_kind(images, known_images, given)
        images = make_ids_unique(images, known_images, split)
        if run.data(split).exists():
            check_same_split(DataSet.load(run.data(split)), images, split)
    if VALIDATION in run.splits():
        common = num_common(images, DataSet.load(run.data(VALIDATION)))
        if common:
            raise LeakageError(
                f"unlabelled: {given} holds {format_count(common, 'image')} of {VALIDATION}, which"
                " nothing may learn from; leave them out"
            )
    trained = num_common(images, DataSet.load(run.data(OOF)))
    if trained:
        raise LeakageError(
            f"unlabelled: {given} holds {format_count(trained, 'image')} of the training images,"
            " which a student must not learn from outside its fold; leave them out"
        )
    if not run.data(split).exists():
        images.save(run.data(split))


def num_common(images: DataSet, others: DataSet) -> int:
    """Count the images that another set holds too, pixel by pixel."""
    known = {_image_digest(image) for image in others.images}
    return sum(_image_digest(image) in known for image in images.images)


def _image_digest(image: Array) -> tuple[tuple[int, ...], bytes]:
    return image.shape, sha256(np.ascontiguousarray(image).tobytes()).digest()


def transductive_students(run_members: RunMembers, name: str, split: str) -> list[str]:
    """List the students behind a member or fusion that learnt from images of a split.

    They learnt without its labels: the labels that they predict for it may be handed in, but its
    score says nothing of other images.
    """
    if split == OOF:
        return []
    run, experiment = run_members.run, run_experiment(run_members.run)
    students = students_of(run_members, name)
    taught = unlabelled_split(run, experiment) if students else None
    if taught is None or not run.data(taught).exists() or split not in run.splits():
        return []
    sets = [DataSet.load(run.data(one)) for one in (taught, split)]
    if taught != split and not num_common(*sets):
        return []
    return [student.name for student in students]


def transductive_note(run_members: RunMembers, name: str, split: str) -> str | None:
    """Say that labels of a split are transductive; None where they are not."""
    students = transductive_students(run_members, name, split)
    if not students:
        return None
    return (
        f"{name}: transductive: {', '.join(students)} learnt from the images of {split} without"
        " their labels; these labels can be handed in, a score of them holds for no other images"
    )


def nested_run(run: Run, fold: Fold) -> Run:
    """Return the run in which teachers are trained without a fold; it may not exist yet."""
    return Run(run.path / NESTED / f"without-{fold.index}")


def prepare_nested(
    run: Run, experiment: Experiment, options: Distillation, fold: Fold
) -> tuple[Run, Experiment, list[Member]]:
    """Write the images outside a fold as a run of their own, in which no network sees the fold.

    Returns:
        That run, its experiment, and the networks that its teacher needs.
    """
    run_members, inner = RunMembers.of(run), nested_run(run, fold)
    base = base_members(run_members, options.teacher)
    networks = [m for m in run_members.members if (m.family or m.name) in base]
    data, unlabelled = DataSet.load(run.data(OOF)), unlabelled_split(run, experiment)
    inputs = {"data": split_identity(run, OOF), "folds": digest(run.folds)}
    if unlabelled is not None:
        inputs["unlabelled"] = split_identity(run, unlabelled, target=False)
    expected = ExpectedRecord(inner.path / "data", {"without": fold.index}, inputs)
    if not expected.is_current():
        remove_folder(expected.folder)
        write_classes(inner.classes, data.classes)
        data.take(fold.training).save(inner.data(OOF))
        if unlabelled is not None:
            others = replace(DataSet.load(run.data(unlabelled)), masks=None)
            others.save(inner.data(unlabelled))
        fold_of = np.zeros(len(data), int)
        for other in read_folds(run):
            fold_of[other.held_out(len(data))] = other.index
        _, inner_folds = np.unique(fold_of[fold.training], return_inverse=True)
        document = {"folds": int(inner_folds.max()) + 1, "fold": inner_folds.tolist()}
        write_json(inner.folds, document)
        expected.write()
    used = {member: experiment.members[member] for member in experiment.members if member in base}
    fusions: dict[str, str | FusionEntry] = {
        name: _with_members(run_members, experiment, name) for name in experiment.fusions
    }
    fusions = {name: f for name, f in fusions.items() if _fits(experiment, name, used, fusions)}
    changes = {"members": used, "fusions": fusions, "chains": {}, "store": None}
    nested = experiment.model_copy(update=changes)
    nested.write(inner.experiment)
    return inner, nested, networks


def _with_members(run_members: RunMembers, experiment: Experiment, name: str) -> FusionEntry:
    entry = experiment.fusion_entry(name)
    if entry.members:
        return entry
    spec = resolve_fusion(experiment, run_members, name)
    return entry.model_copy(update={"members": spec.members})


def _fits(
    experiment: Experiment,
    name: str,
    members: Mapping[str, object],
    fusions: dict[str, str | FusionEntry],
) -> bool:
    """Tell whether a fusion is made of these members and of such fusions."""
    entry = fusions[name]
    parts = entry.members if isinstance(entry, FusionEntry) else ()
    return all(
        part in members or (part in fusions and _fits(experiment, part, members, fusions))
        for part in parts
    )


def network_folds(run: Run, member: Member) -> tuple[Fold, ...]:
    """Return which training images each network of a member may use: one per fold, or all."""
    if member.recipe.single:
        return (Fold(0, np.arange(len(DataSet.load(run.data(OOF))))),)
    return read_folds(run)


def predicted_splits(run: Run, member: Member) -> list[str]:
    """List the splits that a member predicts: all, or all but `oof` for a network of all folds."""
    return [split for split in run.splits() if split != OOF or not member.recipe.single]
