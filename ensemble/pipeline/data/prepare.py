"""Lay out a run's data: load, set validation aside, fold; once, and the same for all members.

Images that come beside a run's own: what they are called, and whether they are known.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.run.experiment import PATHS, Experiment
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadRun
from evaluation.core.files import read_json, remove_folder, write_json
from evaluation.core.provenance import (
    RECORD,
    cached_digest,
    digest_of,
    is_current,
    record,
)
from evaluation.core.run_folder import Run
from evaluation.core.types import Array
from members.data.cleaning.id_lists import read_drop_list
from members.data.cleaning.rules import Drop, Reason, clean, refuse_lost_class
from members.data.dataset import DataSet, read_classes, write_classes
from members.data.folds import hold_out, split_folds
from members.data.load_dataset import load
from members.data.sample import draw_sample
from members.train import Fold


def make_ids_unique(found: DataSet, known: DataSet, split: str) -> DataSet:
    """Give a set names of its own where a name already means another image.

    Ids are what tells a leak: the same name must mean the same image, and an image that is the
    same keeps its name.

    Args:
        found: the set.
        known: images whose names are taken.
        split: what the set is called; its names begin so.
    """
    places = {name: place for place, name in enumerate(known.ids)}
    shared = {name: place for place, name in enumerate(found.ids) if name in places}
    same = {
        name
        for name, place in shared.items()
        if np.array_equal(found.images[place], known.images[places[name]])
    }
    if len(same) == len(shared):
        return found
    return replace(found, ids=tuple(n if n in same else f"{split}-{n}" for n in found.ids))


def check_same_split(there: DataSet, found: DataSet, split: str) -> None:
    """Refuse a set that is not the one that a run has under its name.

    What the new set leaves out, masks or groups, is taken from the one that is there.

    Args:
        there: the set that the run has.
        found: the new set.
        split: what both are called.

    Raises:
        BadData: other images, masks or groups, or some where there were none.
    """
    if there.ids != found.ids or not _equal(there.images, found.images):
        raise _other(split, "other images")
    beside = (("masks", there.masks, found.masks), ("groups", there.groups, found.groups))
    for what, old, new in beside:
        if new is not None and (old is None or not _equal(old, new)):
            raise _other(split, f"{'no' if old is None else 'other'} {what}")


def _other(split: str, met: str) -> BadData:
    return BadData(f"split {split!r} is there with {met}; choose another --split")


def _equal(old: Array, new: Array) -> bool:
    """Compare block by block: either may lie on the disk."""
    cut = blocks(len(old))
    return old.shape == new.shape and all(np.array_equal(old[b], new[b]) for b in cut)


VALIDATION_SHARE = 0.15
SAMPLE = "sample"


def prepare(run: Run, experiment: Experiment, log: Callable[[str], None]) -> None:
    """Write the run's images, target, classes and folds, unless they are there and current.

    Args:
        run: the experiment folder.
        experiment: says which data.
        log: receives a line for whatever was decided.

    Raises:
        BadData: the data cannot be used, or cannot be folded so.
        BadRun: the run holds other data already.
    """
    if is_prepared(run, experiment):
        return
    inputs = _digests(experiment)  # before the data are read: a change meanwhile makes it stale
    sets = _load(experiment)
    training, validation = sets.pop("training"), sets.pop("validation", None)
    if experiment.drop is not None:
        training = _without_listed(training, Path(experiment.drop), log)
    if experiment.drop_outliers:
        training = _without_outliers(training, log)
    if validation is None:
        training, validation = _set_aside(training, experiment.seed)
        log(f"validation: {len(validation.ids)} of the training images set aside, by group")
    fold_of = split_folds(
        training.target(),
        training.groups,
        experiment.folds,
        classes=training.classes,
        seed=experiment.seed,
    )
    remove_folder(run.path / "data")  # of other data, perhaps half written
    write_classes(run.classes, training.classes)
    for split, data in {"oof": training, "validation": validation, **sets}.items():
        if data.classes.names != training.classes.names:
            raise BadData(f"{split} has classes {data.classes.names}; expected those of training")
        data.save(run.data(split))
    write_json(run.folds, {"folds": experiment.folds, "fold": [int(fold) for fold in fold_of]})
    record(run.path / "data", asked=_asked(experiment), inputs=inputs)


def is_prepared(run: Run, experiment: Experiment) -> bool:
    """Tell whether the run holds the experiment's images, target and folds already.

    Raises:
        BadData: the data are missing.
        BadRun: the run holds other data, and members of them.
    """
    folder = run.path / "data"
    if is_current(folder, asked=_asked(experiment), inputs=_digests(experiment)):
        return True
    if folder.exists() and run.members():
        raise BadRun(f"{run.path} holds members of other data, folds or seed; take another --run")
    return False


def matches_prepared_data(run: Run, experiment: Experiment) -> bool:
    """Tell whether the run's data are what the experiment asks for and its files hold today.

    Files that are no longer where they were are not missed.
    """
    folder = run.path / "data"
    try:
        inputs = _digests(experiment)
    except BadData:
        inputs = read_json(folder / RECORD)["inputs"] if (folder / RECORD).is_file() else {}
    return is_current(folder, asked=_asked(experiment), inputs=inputs)


def read_folds(run: Run) -> tuple[Fold, ...]:
    """Return what the model of each fold may see."""
    fold_of = np.array(read_json(run.folds)["fold"])
    return tuple(Fold(int(index), np.flatnonzero(fold_of != index)) for index in np.unique(fold_of))


def split_identity(run: Run, split: str, *, target: bool = True) -> str:
    """Return a digest of a split's images, target and ids, computed from the files themselves.

    Args:
        run: the experiment folder.
        split: which.
        target: include the target, which maps of a split do not depend on.
    """
    files = sorted(p for p in run.data(split).iterdir() if p.suffix in (".npy", ".csv"))
    files = [path for path in files if target or path.name != "target.npy"]
    return digest_of({path.name: cached_digest(path) for path in files})


def classes_identity(run: Run, *, names: bool = True) -> str:
    """Return a digest of the classes; colours change pages alone and are no part of it.

    Args:
        run: the experiment folder.
        names: include the names, which weights do not depend on, and stores and scores carry.
    """
    classes = run_classes(run)
    known = list(classes.names) if names else len(classes)
    return digest_of({"classes": known, "ignore": classes.ignore})


def run_classes(run: Run) -> Classes:
    """Return the run's classes.

    Raises:
        BadRun: the run holds no data.
    """
    if not run.classes.is_file():
        raise BadRun(f"{run.path} holds no data; start with `ens train-members --run {run.path}`")
    return read_classes(run.classes)


def _load(experiment: Experiment) -> dict[str, DataSet]:
    if experiment.data == SAMPLE:
        return draw_sample(seed=experiment.seed).sets()
    classes = experiment.named_classes()
    sets = load(Path(experiment.data), classes=classes, size=experiment.size)
    training = _labelled(sets, experiment.data)
    if experiment.validation is not None:
        found = load(Path(experiment.validation), classes=training.classes, size=experiment.size)
        validation = _labelled(found, experiment.validation)
        sets["validation"] = make_ids_unique(validation, training, "validation")
    return sets


def _labelled(sets: dict[str, DataSet], name: str) -> DataSet:
    if "training" not in sets:
        raise BadData(f"{name} holds no masks; expected labelled images")
    return sets["training"]


def _asked(experiment: Experiment) -> dict[str, Any]:
    return {
        "sample": experiment.data == SAMPLE,
        "classes": experiment.classes and experiment.classes.model_dump(mode="json"),
        "size": experiment.size,
        "drop_outliers": experiment.drop_outliers,
        "folds": experiment.folds,
        "seed": experiment.seed,
    }


def _digests(experiment: Experiment) -> dict[str, str]:
    named = {key: getattr(experiment, key) for key in PATHS}
    return {
        key: _content(Path(name))
        for key, name in named.items()
        if name is not None and name != SAMPLE
    }


def _content(path: Path) -> str:
    """Return a digest of a file, or of all files of a folder."""
    if not path.exists():
        raise BadData(f"{path} is missing; expected a data file or folder")
    if path.is_file():
        return cached_digest(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return digest_of({str(file.relative_to(path)): cached_digest(file) for file in files})


def _without_listed(training: DataSet, path: Path, log: Callable[[str], None]) -> DataSet:
    kept = read_drop_list(path, training.ids)
    why = f"named in {path}"
    drops = [Drop(int(place), Reason.LISTED, why) for place in np.flatnonzero(~kept)]
    refuse_lost_class(training, drops)
    log(f"drop list: {(~kept).sum()} of {len(training)} training images dropped")
    return training.take(kept)


def _without_outliers(training: DataSet, log: Callable[[str], None]) -> DataSet:
    kept = clean(training.target())
    if not kept.all():
        log(
            f"outliers: {(~kept).sum()} of {len(training)} training images dropped, which share a"
            f" non-constant mask with nine others or more (first: {training.ids[kept.argmin()]})"
        )
    return training.take(kept)


def _set_aside(training: DataSet, seed: int) -> tuple[DataSet, DataSet]:
    held = hold_out(training.target(), training.groups, share=VALIDATION_SHARE, seed=seed)
    return training.take(np.flatnonzero(~held)), training.take(np.flatnonzero(held))
