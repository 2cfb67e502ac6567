"""Fuse the members of a run: fit on `oof` what there is to learn, then fuse every split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.block_fusion import OutOfFoldFusion, TrainingBlocks, fuse
from ensemble.calibration.calibration_error import (
    cross_fit,
    describe_calibration,
    error_before_after,
)
from ensemble.fitted_json import ARRAYS, STATE, save_fitted
from ensemble.fusion import Fusion, LearnedFusion
from ensemble.pipeline.candidates.leakage import leakage_warnings
from ensemble.pipeline.data.prepare import classes_identity, read_folds, split_identity
from ensemble.pipeline.run.experiment import Experiment, FusionEntry
from ensemble.pipeline.run.open_run import (
    OOF,
    RunMembers,
    check_no_leakage,
    fold_indices,
    run_experiment,
)
from ensemble.pipeline.run.store_location import Place, placing
from ensemble.strategies import SEES_SPECIALISTS
from ensemble.strategy import (
    build_strategy,
    check_strategy,
    is_calibrated,
    strategy_context,
)
from evaluation.core.errors import BadMaps, BadRun
from evaluation.core.files import atomic_folder, read_json, write_json
from evaluation.core.provenance import (
    digest,
    digests,
    identity,
    is_current,
    record,
)
from evaluation.core.run_folder import Run, run_lock
from evaluation.core.specs import parse_spec
from members.data.dataset import DataSet
from members.recipe import check_name
from members.specialists import OneVsRestMember
from members.store import ProbabilityStore
from members.store_metadata import StoreDtype, TrainingIds

FITTED = "fitted"
CALIBRATION = "calibration.json"

Reader = ProbabilityStore | OneVsRestMember


@dataclass(frozen=True)
class FusionSpec:
    """A fusion to be made.

    Args:
        name: of the fusion.
        strategy: spec.
        members: names, in order.
        seed: of what the strategy draws.
        dtype: of its stores.
        store: the URL under which they lie; None is in the run's folder.
    """

    name: str
    strategy: str
    members: tuple[str, ...]
    seed: int
    dtype: StoreDtype
    store: str | None = None


def fuse_members(
    run: Run,
    strategy: str,
    *,
    name: str | None = None,
    members: Sequence[str] = (),
    log: Callable[[str], None],
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
        log: receives a line for whatever was decided.

    Returns:
        The fusion's name.

    Raises:
        BadSpec: no such strategy or option.
        BadRun: a member without maps.
        Leak: the strategy would learn from images that a member was trained on.
    """
    spec = parse_spec(strategy)
    name = check_name(name or spec.name, "fusion")
    with run_lock(run.path):
        sources, experiment = RunMembers.of(run), run_experiment(run)
        fusion = FusionEntry(strategy=str(spec), members=tuple(members))
        experiment = experiment.model_copy(update={"fusions": {**experiment.fusions, name: fusion}})
        update_fusion(sources, resolve_fusion(experiment, sources, name), log)
        experiment.write(run.experiment)
    return name


def calibration_of(run: Run, name: str) -> dict[str, Any] | None:
    """Return a fusion's calibration error before and after; None where it has no calibrator."""
    path = run.fusion(name) / CALIBRATION
    return read_json(path) if path.is_file() else None


def resolve_fusion(experiment: Experiment, sources: RunMembers, name: str) -> FusionSpec:
    """Return what an experiment says of a fusion; without members it takes all that have maps.

    Raises:
        BadSpec: no such strategy or option.
        BadRun: no such fusion, a name that a member has, or no member with maps.
    """
    if name not in experiment.fusions:
        raise BadRun(
            f"no fusion {name!r} in the experiment; known: {', '.join(experiment.fusions)}"
        )
    if name in sources.names() or any(name == member.name for member in sources.members):
        raise BadRun(f"fusion {name!r} has the name of a member; choose another --name")
    asked = experiment.fusions[name]
    strategy, members = (asked, ()) if isinstance(asked, str) else (asked.strategy, asked.members)
    spec = check_strategy(strategy)
    _refuse_circle(experiment, name, members)
    chosen = tuple(members) or tuple(n for n in sources.names() if sources.splits(n))
    if not chosen:
        raise BadRun(f"no member of {sources.run.path} has maps; run `ens train-members` first")
    seed, dtype, store = experiment.seed, experiment.store_dtype, experiment.store
    return FusionSpec(name, str(spec), chosen, seed, dtype, store)


def _refuse_circle(experiment: Experiment, name: str, members: Sequence[str]) -> None:
    """Refuse a fusion that would be made of itself, by way of others or not."""
    left, met = list(members), set[str]()
    while left:
        one = left.pop()
        if one == name:
            raise BadRun(f"fusion {name!r} would be made of itself; leave it out of its members")
        asked = experiment.fusions.get(one, "")
        if one not in met and not isinstance(asked, str):
            left += asked.members
        met.add(one)


def update_fusion(sources: RunMembers, plan: FusionSpec, log: Callable[[str], None]) -> None:
    """Make the stores of a fusion that are missing or stale."""
    run = sources.run
    raw = parse_spec(plan.strategy).name in SEES_SPECIALISTS
    splits = _shared_splits(sources, plan)
    stale = [s for s in splits if not is_fused(sources, plan, s)]
    fitting: dict[str, Any] = {"asked": _asked(plan), "inputs": _inputs(sources, plan, splits[0])}
    if not stale and is_current(run.fusion(plan.name) / FITTED, **fitting):
        return
    readers = {s: [sources.open(m, s, raw=raw) for m in plan.members] for s in splits}
    for split in stale:
        _check_images(run, plan, split, readers[split])
    with placing(run, plan.store) as place:
        fusion, per_fold = _fitted(sources, plan, readers, log)
        folder = run.fusion(plan.name) / FITTED
        record(folder, **fitting, outputs=digests(folder, (STATE, ARRAYS)))
        for split in stale:
            _fuse_split(sources, plan, split, readers[split], fusion, per_fold, place)
            log(f"{plan.name}: {split} fused, {len(readers[split][0].ids)} images")


def _check_images(run: Run, plan: FusionSpec, split: str, readers: Sequence[Reader]) -> None:
    """Refuse maps of other images, and images that cannot be read, before anything is made."""
    data = DataSet.load(run.data(split))
    for reader, member in zip(readers, plan.members, strict=True):
        if reader.ids != data.ids:
            raise BadMaps(f"{member!r} has maps of other images than {split}; predict again")


def _fuse_split(
    sources: RunMembers,
    plan: FusionSpec,
    split: str,
    readers: Sequence[Reader],
    fusion: Fusion,
    per_fold: list[Fusion] | None,
    place: Place,
) -> None:
    """Write the store of one split."""
    run = sources.run
    data = DataSet.load(run.data(split))
    with atomic_folder(run.fused(plan.name, split)) as partial:
        store = ProbabilityStore.create(
            partial,
            ids=data.ids,
            classes=data.classes,
            shape=data.shape,
            seen=_seen(run, readers, learned=per_fold is not None, split=split),
            dtype=plan.dtype,
            at=place(f"{plan.name}-{split}"),
        )
        cross = per_fold is not None and split == OOF
        applied = OutOfFoldFusion(per_fold, fold_indices(run)) if cross and per_fold else fusion
        fuse(readers, applied, len(data), store.write, images=data.images)
        record(partial, asked=_asked(plan), inputs=_inputs(sources, plan, split))


def _fitted(
    sources: RunMembers,
    plan: FusionSpec,
    readers: dict[str, list[Reader]],
    log: Callable[[str], None],
) -> tuple[Fusion, list[Fusion] | None]:
    """Return the fusion fitted on all of `oof`, and those fitted without each fold."""
    run = sources.run
    opened = next(iter(readers.values()))
    context = strategy_context(opened, ignore=opened[0].classes.ignore, seed=plan.seed)
    built = build_strategy(plan.strategy, **context)
    folder = run.fusion(plan.name) / FITTED
    (run.fusion(plan.name) / CALIBRATION).unlink(missing_ok=True)
    if not isinstance(built, LearnedFusion):
        save_fitted(folder, plan.strategy, built, context)
        return built, None
    if OOF not in readers:
        raise BadRun(f"{plan.strategy} learns from out-of-fold maps; a member has none")
    for reader, member in zip(readers[OOF], plan.members, strict=True):
        check_no_leakage(plan.strategy, member, reader, cure="or leave it out with --members")
    data, folds = DataSet.load(run.data(OOF)), fold_indices(run)
    images = data.images if built.needs_images else None
    target = np.asarray(data.target())
    blocks = TrainingBlocks(readers[OOF], target, images=images, groups=data.groups)
    fusion = built.fit(blocks)
    per_fold = cross_fit(built, blocks, folds)
    save_fitted(folder, plan.strategy, fusion, context)
    if is_calibrated(plan.strategy):
        found = error_before_after(blocks, per_fold, folds, ignore=context["ignore"])
        write_json(run.fusion(plan.name) / CALIBRATION, found)
        log(f"{plan.name}: {describe_calibration(found)}")
    for line in leakage_warnings(sources, plan.members):
        log(f"{plan.name}: {line}")
    return fusion, per_fold


def _seen(run: Run, readers: Sequence[Reader], *, learned: bool, split: str) -> TrainingIds | None:
    """Say which images stand behind a fusion's maps; None where a member does not declare it."""
    ids = DataSet.load(run.data(OOF)).ids
    masks = [reader.saw() for reader in readers]
    known = [saw for saw in masks if saw is not None]
    names = np.array(readers[0].ids)
    leaked = frozenset(names[np.any(known, axis=0)]) if known else frozenset()
    if len(known) < len(readers) and not leaked:
        return None
    if learned:
        folds = read_folds(run)
        models = [frozenset(ids[i] for i in fold.training) for fold in folds]
        models += [leaked] if leaked else []
        return TrainingIds(
            tuple(models), tuple(int(k) for k in fold_indices(run)) if split == OOF else None
        )
    return TrainingIds((leaked,))


def _shared_splits(sources: RunMembers, plan: FusionSpec) -> list[str]:
    for member in plan.members:
        if not sources.splits(member):
            sources.open(member, OOF)  # says what is missing, and how to mend it
    shared = [s for s in sources.run.splits() if all(s in sources.splits(m) for m in plan.members)]
    if not shared:
        raise BadRun(f"{', '.join(plan.members)} share no split; predict the missing ones")
    return shared


def _asked(plan: FusionSpec) -> dict[str, Any]:
    return {
        "strategy": plan.strategy,
        "members": list(plan.members),
        "seed": plan.seed,
        "dtype": plan.dtype,
    }


def _inputs(sources: RunMembers, plan: FusionSpec, split: str) -> dict[str, str]:
    """Return the identities of a split's maps, and of all that the strategy learnt from."""
    built_from = {f"{m}/{split}": str(sources.identity(m, split)) for m in plan.members}
    if split != OOF and all(sources.identity(m, OOF) for m in plan.members):
        built_from |= {f"{m}/{OOF}": str(sources.identity(m, OOF)) for m in plan.members}
    built_from["target"] = split_identity(sources.run, OOF)
    built_from["folds"] = digest(sources.run.folds)
    built_from["classes"] = classes_identity(sources.run)
    return built_from


def is_fused(sources: RunMembers, plan: FusionSpec, split: str) -> bool:
    """Tell whether a fusion's maps are there and would come out the same today."""
    folder = sources.run.fused(plan.name, split)
    asked, inputs = _asked(plan), _inputs(sources, plan, split)
    return identity(folder) is not None and is_current(folder, asked=asked, inputs=inputs)
