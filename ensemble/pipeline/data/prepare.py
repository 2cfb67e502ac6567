"""Write a run's data: load them, hold validation out, assign folds; once, for all members.

Also sets of images that join a run later: their ids, and whether the run has them already.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ensemble.pipeline.run.expected_record import ExpectedRecord
from ensemble.pipeline.run.experiment import PATHS, Experiment
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadRun
from evaluation.core.files import read_json, remove_folder, write_json
from evaluation.core.progress import Log
from evaluation.core.provenance import RECORD, cached_digest, digest_of
from evaluation.core.ragged import Stack, extent_of
from evaluation.core.run_folder import Run
from members.data.cleaning.id_lists import read_drop_list
from members.data.cleaning.near_duplicates import duplicate_warning
from members.data.cleaning.rules import Drop, Reason, check_no_class_lost, drop_shared_masks
from members.data.dataset import (
    DataSet,
    check_learnable,
    check_scorable,
    read_classes,
    write_classes,
)
from members.data.folds import hold_out, split_folds
from members.data.load_dataset import load_dataset
from members.data.sample import draw_sample
from members.train import Fold

VALIDATION_SHARE = 0.15
SAMPLE = "sample"


def prepare(run: Run, experiment: Experiment, log: Log) -> None:
    """Write the run's images, target, classes and folds, unless they exist and are current.

    Raises:
        BadData: the data cannot be used, or cannot be folded so.
        BadRun: the run holds other data already.
    """
    if is_prepared(run, experiment):
        return
    expected = data_record(run, experiment)  # before reading: a change meanwhile makes it stale
    sets = _load(experiment, log)
    training, validation = sets.pop("training"), sets.pop("validation", None)
    check_learnable(training)
    if experiment.drop is not None:
        training = _without_listed(training, Path(experiment.drop), log)
    if experiment.drop_outliers:
        training = _without_outliers(training, log)
    divided = validation is not None
    if validation is None:
        training, validation = _hold_out_validation(training, experiment.seed)
        by_group = "" if training.groups is None else ", by group"
        log(f"validation: {len(validation)} of the labelled images set aside{by_group}")
    check_learnable(training)  # what was dropped or set aside may have held all of a class
    check_scorable(validation, "validation")
    fold_of = split_folds(
        training.target(),
        training.groups,
        experiment.folds,
        classes=training.classes,
        seed=experiment.seed,
    )
    whole = np.concatenate([fold_of, np.full(len(validation), -1)])
    where = "in another fold or in validation"
    if warning := duplicate_warning([training, validation], whole, where, divided=divided):
        log(f"warning: {warning}")
    remove_folder(expected.folder)  # of other data, possibly half written
    write_classes(run.classes, training.classes)
    for split, data in {"oof": training, "validation": validation, **sets}.items():
        if data.classes.names != training.classes.names:
            raise BadData(f"{split} has classes {data.classes.names}; expected those of training")
        check_same_kind(data, training, split)
        data.save(run.data(split))
    write_json(run.folds, {"folds": experiment.folds, "fold": [int(fold) for fold in fold_of]})
    expected.write()


def prepare_folds(
    run: Run, experiment: Experiment, fold_of: Callable[[str], int | None], log: Log
) -> None:
    """Write a run's data with the folds of networks that were trained elsewhere.

    All labelled images are out-of-fold images: none is set aside, since each was predicted by a
    model that did not train on it.

    Args:
        run: the experiment folder.
        experiment: its data.
        fold_of: returns the fold of an image by its id; None leaves it out.
        log: receives what is left out.

    Raises:
        BadData: the data cannot be used, or none of the images has a fold.
        BadRun: the run holds other data already.
    """
    if is_prepared(run, experiment):
        return
    expected = data_record(run, experiment)
    sets = _load(experiment, log)
    training = sets.pop("training")
    folds = [fold_of(name) for name in training.ids]
    kept = np.array([fold is not None for fold in folds])
    if not kept.any():
        raise BadData(f"no image of {experiment.data} is in a fold (first: {training.ids[0]!r})")
    if not kept.all():
        log(f"{(~kept).sum()} of {len(kept)} labelled images are in no fold, and are left out")
        training = training.take(kept)
    check_learnable(training)
    remove_folder(expected.folder)
    write_classes(run.classes, training.classes)
    named = {"validation": sets.pop("validation", None), **sets}
    for split, data in {"oof": training, **named}.items():
        if data is not None:
            check_same_kind(data, training, split)
            data.save(run.data(split))
    document = {"folds": experiment.folds, "fold": [f for f in folds if f is not None]}
    write_json(run.folds, document)
    expected.write()


def is_prepared(run: Run, experiment: Experiment) -> bool:
    """Tell whether the run holds the experiment's images, target and folds already.

    Raises:
        BadData: the data are missing.
        BadRun: the run holds other data, and members trained on them.
    """
    expected = data_record(run, experiment)
    if expected.is_current():
        return True
    if expected.folder.exists() and run.members():
        raise BadRun(f"{run.path} holds members of other data, folds or seed; take another --run")
    return False


def matches_prepared_data(run: Run, experiment: Experiment) -> bool:
    """Tell whether the run's data are those of the experiment and of today's data files.

    Files that were moved away or deleted do not count as changed.
    """
    try:
        expected = data_record(run, experiment)
    except BadData:
        file = run.path / "data" / RECORD
        recorded = read_json(file)["inputs"] if file.is_file() else {}
        expected = ExpectedRecord(file.parent, _config(experiment), recorded)
    return expected.is_current()


def data_record(run: Run, experiment: Experiment) -> ExpectedRecord:
    """Return what the record of the run's data would say today.

    Raises:
        BadData: a data file is missing.
    """
    paths = {key: getattr(experiment, key) for key in PATHS}
    layout = experiment.layout_options()
    paths["ids"] = layout.ids
    paths["groups"] = None if layout.group_table is None else str(layout.group_table[0])
    digests = {k: _content_digest(Path(p)) for k, p in paths.items() if p not in (None, SAMPLE)}
    return ExpectedRecord(run.path / "data", _config(experiment), digests)


def read_folds(run: Run) -> tuple[Fold, ...]:
    """Return the training images of each fold's model."""
    fold_of = np.array(read_json(run.folds)["fold"])
    return tuple(Fold(int(index), np.flatnonzero(fold_of != index)) for index in np.unique(fold_of))


def split_identity(run: Run, split: str, *, target: bool = True) -> str:
    """Return a digest of a split's files: images, ids, and the target unless told otherwise."""
    files = sorted(p for p in run.data(split).iterdir() if p.suffix in (".npy", ".csv"))
    files = [path for path in files if target or path.name != "target.npy"]
    return digest_of({path.name: cached_digest(path) for path in files})


def classes_identity(run: Run, *, names: bool = True) -> str:
    """Return a digest of the classes without their colours, which only pages depend on.

    Weights do not depend on the names; stores and scores do.
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


def make_ids_unique(new: DataSet, known: DataSet, split: str) -> DataSet:
    """Rename the images of a set whose ids already mean other images.

    Leaks are recognised by ids: one id must mean one image, and an image that is the same keeps
    its id.

    Args:
        new: the set.
        known: images whose ids are taken.
        split: name of the set, with which the new ids begin.
    """
    known_index = {name: index for index, name in enumerate(known.ids)}
    shared = {name: index for index, name in enumerate(new.ids) if name in known_index}
    same = {
        name
        for name, index in shared.items()
        if np.array_equal(new.images[index], known.images[known_index[name]])
    }
    if len(same) == len(shared):
        return new
    return replace(new, ids=tuple(n if n in same else f"{split}-{n}" for n in new.ids))


def check_same_kind(new: DataSet, training: DataSet, name: str) -> None:
    """Refuse images that differ from the training images in channels or type.

    Raises:
        BadData: they do.
    """
    if new.channels != training.channels:
        raise BadData(
            f"{name} has images of {new.channels} channels; expected {training.channels}, as the"
            " training images"
        )
    if new.images.dtype != training.images.dtype:
        raise BadData(
            f"{name} has images of {new.images.dtype}; expected {training.images.dtype}, as the"
            " training images"
        )


def check_same_split(existing: DataSet, new: DataSet, split: str) -> None:
    """Refuse a set that differs from the one that the run has under its name.

    Masks or groups that the new set lacks are taken from the existing one.

    Args:
        existing: the set that the run has.
        new: the set to add.
        split: name of both.

    Raises:
        BadData: other images, masks or groups, or some where there were none.
    """
    different = []
    if existing.ids != new.ids or not _equal(existing.images, new.images):
        different.append("other images")
    for what in ("masks", "groups"):
        old, added = getattr(existing, what), getattr(new, what)
        if added is not None and (old is None or not _equal(old, added)):
            different.append(f"{'no' if old is None else 'other'} {what}")
    if different:
        raise BadData(f"split {split!r} already exists with {different[0]}; choose another --split")


def _equal(old: Stack, new: Stack) -> bool:
    """Compare block by block: either may be on disk."""
    if old.ndim == 1 or new.ndim == 1:
        return np.array_equal(old, new)
    extent = extent_of(old)
    return extent == extent_of(new) and all(
        np.array_equal(old[block], new[block]) for block in blocks(extent)
    )


def _load(experiment: Experiment, log: Log) -> dict[str, DataSet]:
    if experiment.data == SAMPLE:
        return draw_sample(seed=experiment.seed).sets()
    path, layout = Path(experiment.data), experiment.layout_options()
    labels = experiment.label_options()
    sets = load_dataset(path, labels=labels, layout=layout)
    training = _labelled(sets, experiment.data)
    own = [name for name in sets if name != "training"]
    if own and path.is_dir():
        log(f"{', '.join(own)}: from {path}, as it is divided")
    if experiment.validation is not None:
        listed = experiment.validation.endswith(".txt")
        others = load_dataset(
            path if listed else Path(experiment.validation),
            labels=labels,
            contract=training.classes,
            layout=replace(layout, ids=experiment.validation if listed else None),
        )
        sets["validation"] = _only_labelled(others, experiment.validation)
        if listed:
            training = _without_validation(
                training, sets["validation"], layout.ids, experiment.validation
            )
            sets["training"] = training
    for name in sets.keys() - {"training"}:
        sets[name] = make_ids_unique(sets[name], training, name)
    return sets


def _only_labelled(sets: dict[str, DataSet], name: str) -> DataSet:
    labelled = [split for split, data in sets.items() if data.masks is not None]
    if not labelled:
        raise BadData(f"{name} holds no masks; expected labelled images")
    if len(labelled) > 1:
        raise BadData(
            f"{name} holds labelled sets {', '.join(labelled)}; expected one: give its folder"
        )
    return sets[labelled[0]]


def _without_validation(
    training: DataSet, validation: DataSet, ids: str | None, listed: str
) -> DataSet:
    """Return the training images that a list of validation images leaves.

    Raises:
        BadData: both lists name an image, or nothing is left.
    """
    held = np.isin(training.ids, validation.ids)
    if ids is not None and held.any():
        first = training.ids[int(held.argmax())]
        raise BadData(f"{first!r} is both in {ids} and in {listed}; expected distinct images")
    if held.all():
        raise BadData(f"{listed} lists all images; expected some that are left for training")
    return training.take(~held)


def _labelled(sets: dict[str, DataSet], name: str) -> DataSet:
    if "training" not in sets:
        raise BadData(f"{name} holds no masks; expected labelled images")
    return sets["training"]


def _config(experiment: Experiment) -> dict[str, object]:
    layout = {} if experiment.layout is None else {"layout": asdict(experiment.layout)}
    return layout | {
        "sample": experiment.data == SAMPLE,
        "classes": experiment.classes and asdict(experiment.classes),
        "drop_outliers": experiment.drop_outliers,
        "folds": experiment.folds,
        "seed": experiment.seed,
    }


def _content_digest(path: Path) -> str:
    """Return a digest of a file, or of all files of a folder."""
    if not path.exists():
        raise BadData(f"{path} is missing; expected a data file or folder")
    if path.is_file():
        return cached_digest(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return digest_of({str(file.relative_to(path)): cached_digest(file) for file in files})


def _without_listed(training: DataSet, path: Path, log: Log) -> DataSet:
    kept = read_drop_list(path, training.ids)
    dropped = np.flatnonzero(~kept)
    check_no_class_lost(
        training, [Drop(int(i), Reason.LISTED, f"named in {path}") for i in dropped]
    )
    log(f"drop list: {(~kept).sum()} of {len(training)} training images dropped")
    return training.take(kept)


def _without_outliers(training: DataSet, log: Log) -> DataSet:
    kept = drop_shared_masks(training.target())
    if not kept.all():
        log(
            f"outliers: {(~kept).sum()} of {len(training)} training images dropped, which share a"
            f" non-constant mask with nine others or more (first: {training.ids[kept.argmin()]})"
        )
    return training.take(kept)


def _hold_out_validation(training: DataSet, seed: int) -> tuple[DataSet, DataSet]:
    held = hold_out(training.target(), training.groups, share=VALIDATION_SHARE, seed=seed)
    return training.take(np.flatnonzero(~held)), training.take(np.flatnonzero(held))
