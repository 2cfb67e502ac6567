"""Fuse the members of a run: fit on `oof` what learns, then fuse every split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.block_fusion import FusionPerImage, HiddenTarget, TrainingBlocks, cross_fit, fuse
from ensemble.calibration.calibrated import describe_calibration, error_before_after
from ensemble.coverage import check_missing, fuse_covered
from ensemble.decision import Decided, check_groups
from ensemble.fitted_json import ARRAYS, STATE, save_fitted
from ensemble.fusion import Fusion, LearnedFusion
from ensemble.pipeline.candidates.leakage_warnings import leakage_warnings
from ensemble.pipeline.data.prepare import (
    classes_identity,
    read_folds,
    run_classes,
    split_identity,
)
from ensemble.pipeline.run.expected_record import ExpectedRecord
from ensemble.pipeline.run.experiment import Experiment, FusionEntry
from ensemble.pipeline.run.open_run import (
    LACKING,
    OpenedSplit,
    RunMembers,
    fold_indices,
    open_split,
    run_experiment,
)
from ensemble.pipeline.run.store_location import UrlFactory, store_urls
from ensemble.strategies import ACCEPTS_ONE_VS_REST, Missing
from ensemble.strategy import (
    build_strategy,
    check_strategy,
    is_calibrated,
    objective_of,
    optimises,
    strategy_context,
)
from evaluation.core.errors import BadRun, BadSpec, format_count
from evaluation.core.files import read_json, remove_folder, write_json
from evaluation.core.progress import Log
from evaluation.core.provenance import RECORD, digest, digests
from evaluation.core.run_folder import OOF, Run, run_lock
from evaluation.core.specs import parse_spec
from evaluation.core.types import Groups
from evaluation.run_metric import (
    MASKED,
    check_defined,
    fitted_note,
    metric_config,
    named_metric,
    set_metric,
)
from members.codecs import StoreDtype
from members.data.dataset import DataSet, class_pixels
from members.recipe import check_name, is_student
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds
from postproc.chain import FLOAT16_FLOOR

FITTED = "fitted"
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class FusionSpec:
    """A fusion, resolved: what its maps are made of and how.

    Args:
        name: of the fusion.
        strategy: spec.
        members: names, in order.
        seed: random seed of the strategy.
        dtype: of its stores.
        store: the URL under which they lie; None is in the run's folder.
        learns: the strategy is fitted on the out-of-fold maps and their target.
        metric: the run's, which a strategy may be fitted by.
        missing: what happens to images that a member lacks.
    """

    name: str
    strategy: str
    members: tuple[str, ...]
    seed: int
    dtype: StoreDtype
    store: str | None
    learns: bool
    metric: str = MASKED
    missing: Missing = "refuse"

    @property
    def one_vs_rest(self) -> bool:
        """Whether the strategy takes specialists class by class, not as one member."""
        return parse_spec(self.strategy).name in ACCEPTS_ONE_VS_REST

    @property
    def config(self) -> dict[str, Any]:
        """What decides the maps besides their inputs, as JSON values."""
        return {
            "strategy": self.strategy,
            "members": list(self.members),
            "seed": self.seed,
            "dtype": self.dtype,
            **(metric_config(self.metric) if optimises(self.strategy) else {}),
            **({"objective": "metric"} if objective_of(self.strategy) == "metric" else {}),
            **({} if self.missing == "refuse" else {"missing": self.missing}),
        }

    @property
    def partial(self) -> bool:
        """Whether members with maps of a part of the images are fused."""
        return self.missing == "renormalise"

    def fit_split(self, run_members: RunMembers) -> list[str]:
        """Return the split that the strategy is fitted on, if it learns and all have maps of it."""
        fitted = self.learns and all(
            run_members.digest(member, OOF, partial=self.partial) for member in self.members
        )
        return [OOF] if fitted else []

    def input_digests(self, run_members: RunMembers, split: str) -> dict[str, str]:
        """Return the digests of a split's maps, and of all that the strategy learns from."""
        run = run_members.run
        inputs = {"classes": classes_identity(run)}
        for part in {split, *self.fit_split(run_members)}:
            inputs |= run_members.digests(self.members, part)
        if self.learns:
            inputs |= {"target": split_identity(run, OOF), "folds": digest(run.folds)}
        return inputs

    def record(self, run_members: RunMembers, split: str) -> ExpectedRecord:
        """Return what the record of a split's fused maps would say today."""
        folder = run_members.run.fused(self.name, split)
        return ExpectedRecord(folder, self.config, self.input_digests(run_members, split))

    def is_current(self, run_members: RunMembers, split: str) -> bool:
        """Tell whether the fused maps exist and would come out the same today."""
        return self.record(run_members, split).is_current()


def fuse_members(
    run: Run,
    strategy: str,
    *,
    name: str | None = None,
    members: Sequence[str] = (),
    missing: Missing = "refuse",
    log: Log,
) -> str:
    """Fuse members of a run in every split that all of them have maps of.

    A strategy that learns is fitted on all of `oof` for the other splits. For `oof` itself it is
    fitted on the other folds, one fold after the other, so that its score there is honest and the
    next stage may learn from its maps.

    Args:
        run: the experiment folder.
        strategy: spec.
        name: of the fusion; by default the strategy's.
        members: names; by default every member.
        missing: what happens to images that a member lacks.
        log: receives a line per decision.

    Returns:
        The fusion's name.

    Raises:
        BadSpec: no such strategy or option.
        BadRun: a member without maps.
        LeakageError: the strategy would learn from images that a member was trained on.
    """
    spec = parse_spec(strategy)
    check_missing(missing, strategy)
    if missing == "skip":
        raise BadSpec(
            "--missing skip goes with --maps: candidates of a run are scored on the same images;"
            " expected renormalise, other --members, or a run of these images (`ens import --data"
            " DATA --ids IDS.txt`)"
        )
    name = check_name(name or spec.name, "fusion")
    with run_lock(run.path):
        run_members, experiment = RunMembers.of(run), run_experiment(run)
        fusion = FusionEntry(strategy=str(spec), members=tuple(members), missing=missing)
        experiment = experiment.model_copy(update={"fusions": {**experiment.fusions, name: fusion}})
        update_fusion(run_members, resolve_fusion(experiment, run_members, name), log)
        experiment.write(run.experiment)
    return name


def calibration_of(run: Run, name: str) -> dict[str, Any] | None:
    """Return a fusion's calibration error before and after; None where it has no calibrator."""
    path = run.fusion(name) / CALIBRATION
    return read_json(path) if path.is_file() else None


def resolve_fusion(experiment: Experiment, run_members: RunMembers, name: str) -> FusionSpec:
    """Resolve a fusion of an experiment; without members it takes all that have maps.

    Only where they are named, it takes students, since what teaches them would else be made of
    them, and networks of all folds, which have no out-of-fold maps.

    Raises:
        BadSpec: no such strategy or option, or one that does not fit the members.
        BadRun: no such fusion, a name that a member has, or no member with maps.
    """
    if name not in experiment.fusions:
        raise BadRun(
            f"no fusion {name!r} in the experiment; known: {', '.join(experiment.fusions)}"
        )
    if name in run_members.names() or any(name == member.name for member in run_members.members):
        raise BadRun(f"fusion {name!r} has the name of a member; choose another --name")
    entry = experiment.fusion_entry(name)
    strategy = str(check_strategy(entry.strategy))
    _check_acyclic(experiment, name, entry.members)
    apart = {
        member.family or member.name
        for member in run_members.members
        if is_student(member.recipe) or member.recipe.single
    }
    members = entry.members or tuple(
        name
        for name in run_members.names()
        if name not in apart and run_members.splits(name, partial=True)
    )
    if not members:
        raise BadRun(f"no member of {run_members.run.path} has maps; run `ens train-members` first")
    seed, dtype, store = experiment.seed, experiment.store_dtype, experiment.store
    learns = strategy_learns(run_members, strategy, members, seed=seed)
    metric = named_metric(experiment.metric, run_classes(run_members.run))
    return FusionSpec(name, strategy, members, seed, dtype, store, learns, metric, entry.missing)


def strategy_learns(
    run_members: RunMembers, strategy: str, members: Sequence[str], *, seed: int
) -> bool:
    """Tell whether a strategy is fitted on maps and their target; the members need no maps yet.

    Raises:
        BadSpec: a strategy that does not fit its members, such as weights of another number.
    """
    classes = run_classes(run_members.run)
    one_vs_rest = parse_spec(strategy).name in ACCEPTS_ONE_VS_REST
    specialists = run_members.families if one_vs_rest else {}
    built = build_strategy(
        strategy,
        classes=len(classes),
        ignore=classes.ignore,
        kinds=tuple("one_vs_rest" if m in specialists else "probabilities" for m in members),
        floor=FLOAT16_FLOOR,
        seed=seed,
    )
    return isinstance(built, LearnedFusion)


def update_fusion(run_members: RunMembers, spec: FusionSpec, log: Log) -> None:
    """Make the stores of a fusion that are missing or stale."""
    run = run_members.run
    splits, notes = _shared_splits(run_members, spec)
    stale = [split for split in splits if not spec.is_current(run_members, split)]
    fitted_inputs = spec.input_digests(run_members, splits[0])
    fitted_record = ExpectedRecord(run.fusion(spec.name) / FITTED, spec.config, fitted_inputs)
    if not stale and fitted_record.is_current():
        for line in notes:
            log(line)
        return
    fit_on = spec.fit_split(run_members) or splits[:1]
    opened = {
        split: open_split(
            run_members,
            split,
            spec.members,
            one_vs_rest=spec.one_vs_rest,
            partial=spec.partial,
        )
        for split in dict.fromkeys([*fit_on, *stale])
    }
    with store_urls(run, spec.store) as new_url:
        fusion, per_fold = _fit(run_members, spec, opened[fit_on[0]], log)
        for folder in (fitted_record.folder, *_fold_folders(run, spec.name)):
            replace(fitted_record, folder=folder).write(outputs=digests(folder, (STATE, ARRAYS)))
        for split in stale:
            applied: Fusion | FusionPerImage = fusion
            if not spec.learns:
                applied = _build(spec, opened[split])
            elif split == OOF:
                applied = FusionPerImage(per_fold, opened[OOF].folds)
            aligned = opened[split].aligned
            if aligned.covered is not None:
                applied = fuse_covered(applied, aligned.covered, spec.members)
                notes.append(f"{spec.name}: {split}: {aligned.describe()}")
            _fuse_split(spec, opened[split], applied, spec.record(run_members, split), new_url)
            log(f"{spec.name}: {split} fused, {format_count(len(opened[split].data), 'image')}")
    for line in notes:
        log(line)


def _check_acyclic(experiment: Experiment, name: str, members: Sequence[str]) -> None:
    """Refuse a fusion that is made of itself, directly or through other fusions."""
    remaining, seen = list(members), set[str]()
    while remaining:
        member = remaining.pop()
        if member == name:
            raise BadRun(f"fusion {name!r} would be made of itself; leave it out of its members")
        if member not in seen and member in experiment.fusions:
            remaining += experiment.fusion_entry(member).members
        seen.add(member)


def _shared_splits(run_members: RunMembers, spec: FusionSpec) -> tuple[list[str], list[str]]:
    """Return the splits that all members have maps of, and notes on those that only some have."""
    shared, notes = [], []
    for split in run_members.run.splits():
        _check_covered(run_members, spec, split)
    for member in spec.members:
        if not (spec.partial and run_members.splits(member, partial=True)):
            run_members.check_has_maps(member)
    for split in run_members.run.splits():
        lacking = [m for m in spec.members if not run_members.digest(m, split, partial=True)]
        if not lacking:
            shared.append(split)
        elif len(lacking) < len(spec.members):
            notes.append(
                f"{spec.name}: {split} is not fused, no maps of it: {', '.join(lacking)};"
                " `ens predict` or `ens import` adds them, --members leaves a member out"
            )
            remove_folder(run_members.run.fused(spec.name, split))  # of other members
    if not shared:
        raise BadRun(f"{', '.join(spec.members)} have no split in common; run `ens predict`")
    return shared, notes


def _check_covered(run_members: RunMembers, spec: FusionSpec, split: str) -> None:
    """Refuse a split of which members have maps of a part of the images, unless that is asked for.

    Raises:
        BadRun: names the member and how many images it lacks, or images that no member has.
    """
    lacking = {member: run_members.lacking(member, split) for member in spec.members}
    if not any(lacking.values()):
        return
    if not spec.partial:
        member, count = next((m, count) for m, count in lacking.items() if count)
        raise BadRun(
            f"member {member!r} lacks maps of {format_count(count, 'image')} of {split}; import"
            " them, leave it out with --members, or fuse each image from the members that have it"
            " with --missing renormalise"
        )
    if all(lacking.values()):
        opened = open_split(run_members, split, spec.members, partial=True)
        covered = opened.aligned.covered
        none = 0 if covered is None else int((~covered.any(axis=0)).sum())
        if none:
            raise BadRun(
                f"{format_count(none, 'image')} of {split} have no map of any member; import them"
            )


def _context(spec: FusionSpec, opened: OpenedSplit) -> dict[str, Any]:
    return strategy_context(opened.readers, ignore=opened.data.classes.ignore, seed=spec.seed)


def _build(spec: FusionSpec, opened: OpenedSplit) -> Any:
    return build_strategy(spec.strategy, **_context(spec, opened))


def _fit(
    run_members: RunMembers, spec: FusionSpec, opened: OpenedSplit, log: Log
) -> tuple[Fusion, list[Fusion]]:
    """Save and return the fusion fitted on all of `oof`, and those fitted without each fold.

    A strategy that does not learn is built for the maps that are opened, and has none per fold.
    """
    run, context = run_members.run, _context(spec, opened)
    folder = run.fusion(spec.name) / FITTED
    metric = set_metric(spec.metric, opened.data.classes)
    built = build_strategy(spec.strategy, metric=metric, **context)
    if not isinstance(built, LearnedFusion):
        _remove_fitted(run, spec.name)
        save_fitted(folder, spec.strategy, built, context)
        return built, []
    if opened.split != OOF:
        raise BadRun(f"{spec.strategy} learns from out-of-fold maps; a member has none")
    opened.check_no_leakage(spec.strategy, hint="or leave it out with --members")
    folds = opened.folds
    _check_learnable(spec, opened.data, folds)
    if optimises(spec.strategy) and (note := fitted_note(spec.metric)):
        log(f"{spec.name}: {note}")
    blocks = _training_blocks(opened, with_images=built.needs_images)
    # New images are predicted by the networks of all folds, those of a fold by others than these.
    fusion = built.fit(blocks)
    per_fold = cross_fit(built, replace(blocks, folds=folds), folds)
    _remove_fitted(run, spec.name)
    save_fitted(folder, spec.strategy, fusion, context)
    if isinstance(fusion, Decided):
        for fold, one in enumerate(per_fold):
            save_fitted(fold_folder(run, spec.name, fold), spec.strategy, one, context)
        _log_decisions(spec.name, fusion, per_fold, log)
    if is_calibrated(spec.strategy):
        calibration = error_before_after(blocks, per_fold, folds, ignore=context["ignore"])
        write_json(run.fusion(spec.name) / CALIBRATION, calibration)
        log(f"{spec.name}: {describe_calibration(calibration)}")
    for line in leakage_warnings(run_members, spec.members):
        log(f"{spec.name}: {line}")
    return fusion, per_fold


def _remove_fitted(run: Run, name: str) -> None:
    """Remove what was fitted before, once nothing can be refused any more.

    The record goes first: without it all of this counts as missing, should the process end here.
    """
    folder = run.fusion(name)
    (folder / FITTED / RECORD).unlink(missing_ok=True)
    (folder / CALIBRATION).unlink(missing_ok=True)
    for former in _fold_folders(run, name):
        remove_folder(former)


def _training_blocks(opened: OpenedSplit, *, with_images: bool) -> TrainingBlocks:
    """Return what a fusion is fitted on: the images that all members have maps of."""
    data, covered, target = opened.data, opened.aligned.covered, opened.target
    if covered is not None:
        target = HiddenTarget(target, np.logical_not(covered.all(axis=0)))
    images = data.images if with_images else None
    return TrainingBlocks(opened.readers, target, images=images, groups=data.groups)


def _log_decisions(name: str, fusion: Decided, per_fold: Sequence[Fusion], log: Log) -> None:
    log(f"{name}: {fusion.describe()}")
    words = [one.describe() for one in per_fold if isinstance(one, Decided)]
    for line in dict.fromkeys(words):
        log(f"{name}: {OOF}, {words.count(line)} of {len(words)} folds: {line}")


def fold_folder(run: Run, name: str, fold: int) -> Path:
    """Return where a fusion lies that was fitted without a fold, if its probabilities differ."""
    return run.fusion(name) / f"{FITTED}-without-{fold}"


def _fold_folders(run: Run, name: str) -> list[Path]:
    return sorted(run.fusion(name).glob(f"{FITTED}-without-*"))


def _check_learnable(spec: FusionSpec, data: DataSet, folds: Groups) -> None:
    """Refuse labels, of all images or without a fold, of which a decision cannot be learned.

    Raises:
        BadData: no pixel that the metric measures, or too few groups of images.
    """
    if not optimises(spec.strategy):
        return
    pixels, groups = class_pixels(data.target(), len(data.classes)), data.group_names()
    scored = pixels[:, list(data.classes.scored)].any(axis=1)
    whole = np.ones(len(folds), bool)
    parts = {OOF: whole} | {
        f"{OOF} without fold {fold}": folds != fold for fold in range(int(folds.max()) + 1)
    }
    for where, part in parts.items():
        check_defined(spec.metric, data.classes, pixels[part].sum(axis=0), f"{spec.name}: {where}")
        fitted_on_networks_of = len(np.unique(folds[part]))
        if objective_of(spec.strategy) == "metric" and fitted_on_networks_of > 1:
            check_groups(len(np.unique(groups[part & scored])), f"{spec.name}: {where}")


def _fuse_split(
    spec: FusionSpec,
    opened: OpenedSplit,
    fusion: Fusion | FusionPerImage,
    expected: ExpectedRecord,
    new_url: UrlFactory,
) -> None:
    """Write the store of one split."""
    data = opened.data
    with ProbabilityStore.writing(
        expected.folder,
        config=expected.config,
        input_digests=expected.input_digests,
        info={LACKING: opened.aligned.lacking} if opened.aligned.lacking else None,
        ids=data.ids,
        classes=data.classes,
        extent=data.extent,
        seen=_training_ids(opened, learned=spec.learns),
        dtype=spec.dtype,
        url=new_url(f"{spec.name}-{opened.split}"),
    ) as store:
        fuse(opened.readers, fusion, store.write, images=data.images)


def _training_ids(opened: OpenedSplit, *, learned: bool) -> TrainingIds | None:
    """Return the images that a fusion's maps depend on; None where a member does not declare it."""
    masks = [reader.trained_on_mask() for reader in opened.readers]
    declared = [mask for mask in masks if mask is not None]
    names = np.array(opened.data.ids)
    leaked = frozenset(names[np.any(declared, axis=0)]) if declared else frozenset()
    if len(declared) < len(masks) and not leaked:
        return None
    if not learned:
        return TrainingIds((leaked,))
    run = opened.run
    ids = DataSet.load(run.data(OOF)).ids
    models = [frozenset(ids[i] for i in fold.training) for fold in read_folds(run)]
    models += [leaked] if leaked else []
    per_image = tuple(int(k) for k in fold_indices(run)) if opened.split == OOF else None
    return TrainingIds(tuple(models), per_image)
