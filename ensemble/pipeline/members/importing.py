"""Import anybody's probability maps as a member of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.data.prepare import classes_identity, prepare, split_identity
from ensemble.pipeline.run.expected_record import ExpectedRecord
from ensemble.pipeline.run.experiment import Experiment, resolve_data_path
from ensemble.pipeline.run.open_run import IMPORTED, LACKING, RunMembers, run_experiment
from ensemble.pipeline.run.store_location import UrlFactory, store_urls
from ensemble.strategies import Missing
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadMaps, BadRun, format_count
from evaluation.core.files import read_json
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.progress import progress
from evaluation.core.provenance import RECORD, digest, digest_of
from evaluation.core.run_folder import Run, run_lock
from evaluation.core.types import Array
from members.data.cleaning.id_lists import read_ids
from members.data.dataset import DataSet
from members.data.layouts import DEFAULT_LAYOUT, LayoutOptions
from members.external.formats import ExpectedMaps, ExternalMaps, open_external
from members.external.inspection import (
    ImageMatch,
    InspectionReport,
    KnownMaps,
    check_order,
    covered_images,
    inspect_maps,
    match_by_id,
)
from members.object_store import check_url
from members.recipe import check_name
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds

Document = dict[str, Any]
Log = Callable[[str], None]


def import_maps(
    run: Run,
    name: str,
    paths: Sequence[Path],
    *,
    split: str,
    trained_on: Path | None = None,
    key: str | None = None,
    class_names: Sequence[str] | None = None,
    normalise: bool = False,
    fix: bool = False,
    no_checks: bool = False,
    missing: Missing = "refuse",
    log: Log,
) -> Document:
    """Write external maps of one split as a member's store; with problems, nothing is written.

    Args:
        run: the experiment folder, which holds the split's images.
        name: of the member; maps that were imported under it before are replaced.
        paths: see `members.external.formats.open_external`.
        split: whose images they are of.
        trained_on: text file with the ids of those images of the run that a model behind the
            maps was trained on, one per line; None is undeclared.
        key: the array of files that hold several.
        class_names: of the maps' classes, in their order; None takes the file's, if any.
        normalise: divide values from 0 to 1 by their sums, however far those are from 1.
        fix: repair detected problems.
        no_checks: keep the order of classes, axes and images although they look wrong, and read
            chunks that a writer may have left out as their fill value.
        missing: images without maps: `refuse` them, or `skip` them, so that only fusions that
            renormalise take the member.
        log: receives a line per repair, and per check that could not be made.

    Returns:
        A JSON document: what was detected and written.

    Raises:
        BadRun: no such split, or a name that is taken.
        BadMaps: detected problems, or what cannot be repaired; names the member.
        BadData: `trained_on` names images that the run lacks.
    """
    check_name(name, "member")
    if not run.experiment.is_file():
        raise BadRun(f"{run.path} holds no images; create it with --data, the labelled set")
    with run_lock(run.path):
        run_members = RunMembers.of(run)
        check_name_is_free(run_members, name)
        run_members.check_split(split)
        data = DataSet.load(run.data(split))
        training_ids, declared = _read_training_ids(trained_on, run, data)
        try:
            expected = ExpectedMaps(data.ids, len(data.classes), data.extent)
            external = open_external(paths, expected, key=key)
        except BadMaps as error:
            raise BadMaps(f"member {name!r}: {error}") from None
        given = GivenMaps(external, paths, training_ids, declared, key=key)
        options = ImportOptions(class_names, normalise, fix, no_checks, missing)
        return import_given(run_members, name, split, given, options, log)


@dataclass(frozen=True)
class GivenMaps:
    """External maps, opened.

    Args:
        maps: as they were given.
        paths: of their files.
        training_ids: what their models were trained on, where that is declared.
        notes: on that.
        key: the array of files that hold several.
        source: what else their record says of where they come from.
    """

    maps: ExternalMaps
    paths: Sequence[Path]
    training_ids: TrainingIds | None
    notes: Sequence[str] = ()
    key: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImportOptions:
    """How external maps are taken; see `import_maps`."""

    class_names: Sequence[str] | None = None
    normalise: bool = False
    fix: bool = False
    no_checks: bool = False
    missing: Missing = "refuse"


def import_given(
    run_members: RunMembers,
    name: str,
    split: str,
    given: GivenMaps,
    options: ImportOptions,
    log: Log,
) -> Document:
    """Inspect opened maps of one split and write them as a member's store.

    Args:
        run_members: of the run, whose lock is held.
        name: of the member.
        split: whose images they are of.
        given: the maps.
        options: how they are taken.
        log: receives a line per repair, and per check that could not be made.

    Returns:
        A JSON document: what was detected and written.

    Raises:
        BadMaps: detected problems, or what cannot be repaired; names the member.
    """
    run, experiment = run_members.run, run_experiment(run_members.run)
    data = DataSet.load(run.data(split))
    try:
        matched = _match(given.maps, data, options.missing)
        reference = _reference(run_members, name, split, matched)
        inspection = inspect_maps(
            matched.maps,
            matched.match.indices,
            classes=data.classes,
            extent=matched.data.extent,
            known=reference,
            names=options.class_names,
            normalise=options.normalise,
            no_checks=options.no_checks,
        )
        problems = _problems(matched, inspection, fix=options.fix)
        if matched.maps.ids is None and not options.no_checks:
            check_order(inspection, matched.data.extent, reference)
    except BadMaps as error:
        raise BadMaps(f"member {name!r}: {error}") from None
    notes = [*_notes(matched, inspection, split), *given.notes]
    for line in [*(f"fixed: {problem}" for problem in problems), *notes]:
        log(f"{name}: {line}")
    seen = given.training_ids
    alone = None if seen is None or seen.model is not None else sorted(seen.models[0])
    config: Document = {
        IMPORTED: True,
        "member": name,
        "split": split,
        "dtype": experiment.store_dtype,
        "repair": inspection.repair.to_dict(),
        "key": given.key,
        "class_names": None if options.class_names is None else list(options.class_names),
        "normalise": options.normalise,
        "trained_on": alone,
        **given.source,
        **({LACKING: matched.lacking} if matched.lacking else {}),
    }
    inputs = {**_run_digests(run, split), "maps": _digest(given.paths)}
    record = ExpectedRecord(run.probabilities(name, split), config, inputs)
    with store_urls(run, experiment.store) as new_url:
        _write_store(record, inspection, matched, seen, given.paths, new_url)
    return {
        "run": str(run.path),
        "member": name,
        "split": split,
        "images": len(matched.data),
        "fixed": problems,
        "notes": notes,
        "declared": seen is not None,
    }


@dataclass(frozen=True)
class _MatchedMaps:
    """External maps, and the images of a split that they are of.

    Args:
        maps: as they were given.
        data: the images that have maps.
        kept: the index of each of them in the split.
        match: the external index of each of them.
        lacking: number of images of the split without maps.
    """

    maps: ExternalMaps
    data: DataSet
    kept: Array
    match: ImageMatch
    lacking: int


def _match(maps: ExternalMaps, data: DataSet, missing: Missing) -> _MatchedMaps:
    """Find the images of a split that maps are of.

    Raises:
        BadMaps: images without maps, unless they are to be skipped.
    """
    kept = covered_images(maps, data.ids) if missing == "skip" else np.arange(len(data))
    lacking = len(data) - len(kept)
    data = data.take(kept) if lacking else data
    return _MatchedMaps(maps, data, kept, match_by_id(maps, data.ids), lacking)


def _problems(matched: _MatchedMaps, inspection: InspectionReport, *, fix: bool) -> list[str]:
    """Return the problems that are repaired.

    Raises:
        BadMaps: there are some, and they are not to be repaired.
    """
    unmatched = matched.match.problem
    problems = [line for line in (unmatched, *inspection.problems) if line]
    if problems and not fix:
        alone = inspection.ambiguous and len(inspection.problems) == 1 and not unmatched
        hint = "repair it by --fix" + (", or take the maps by --no-checks" if alone else "")
        raise BadMaps(f"{'; '.join(problems)}; {hint}")
    return problems


def _notes(matched: _MatchedMaps, inspection: InspectionReport, split: str) -> list[str]:
    """Return what else a user should know of the maps."""
    notes = [line for line in (matched.match.note, *inspection.notes) if line]
    if matched.lacking:
        notes.append(
            f"{format_count(matched.lacking, 'image')} of {split} without maps: the member takes"
            " part in fusions by `ens fuse --missing renormalise` alone"
        )
    return notes


def init_run(
    run: Run,
    data: str,
    validation: str | None,
    store: str | None,
    log: Log,
    labels: LabelOptions = NOTHING_SAID,
    layout: LayoutOptions = DEFAULT_LAYOUT,
) -> None:
    """Write a run's images, target and folds, for those who import all maps and train nothing.

    Args:
        run: the experiment folder; created.
        data: a data set with labelled images.
        validation: a labelled set; None holds some of the training images out.
        store: a URL for the maps; None keeps them in the run's folder.
        log: receives a line per decision.
        labels: what is said about classes and values of masks.
        layout: what is said about how the data lie on disk.

    Raises:
        BadRun: the run holds other data.
        BadData: the data cannot be used.
    """
    experiment = run_experiment(run) if run.experiment.is_file() else Experiment()
    given = {
        "data": resolve_data_path(data),
        "validation": None if validation is None else resolve_data_path(validation),
        **({"store": check_url(store)} if store else {}),
    }
    experiment = experiment.model_copy(update=given).with_data_options(labels, layout)
    with run_lock(run.path):
        prepare(run, experiment, log)
        experiment.write(run.experiment)


def is_imported(run: Run, name: str, split: str) -> bool:
    """Tell whether maps were imported for today's images and classes, from today's files.

    The target belongs to the images here: maps are compared with it, and repaired by it. Files
    that were moved away or deleted do not count as changed.
    """
    record = read_json(run.probabilities(name, split) / RECORD)
    inputs, noted = record["inputs"], record.get("noted", {})
    if any(inputs.get(key, today) != today for key, today in _run_digests(run, split).items()):
        return False
    paths = [Path(path) for path in noted.get("paths", [])]
    gone = not paths or not all(path.exists() for path in paths)
    return gone or noted == _file_stats(paths) or bool(inputs["maps"] == _digest(paths))


def _run_digests(run: Run, split: str) -> dict[str, str]:
    return {"data": split_identity(run, split), "classes": classes_identity(run)}


def check_name_is_free(run_members: RunMembers, name: str) -> None:
    """Refuse the name of a member that predicts by itself, or of a fusion, for imported maps.

    Raises:
        BadRun: it is taken.
    """
    run = run_members.run
    own = {member.name for member in (*run_members.members, *run_members.networks)}
    if name in own | set(run_members.families):
        raise BadRun(f"{name!r} is a trained member of {run.path}; choose another --name")
    if name in run.fusions():
        raise BadRun(f"{name!r} is a fusion of {run.path}; choose another --name")


def _read_training_ids(
    trained_on: Path | None, run: Run, data: DataSet
) -> tuple[TrainingIds | None, list[str]]:
    """Return the declared training ids, and notes on them."""
    if trained_on is None:
        return None, ["undeclared: it is not known which images it was trained on (--trained-on)"]
    known = [name for split in run.splits() for name in DataSet.load(run.data(split)).ids]
    training_ids = TrainingIds((read_ids(trained_on, known, of="the run's images"),))
    leaked = int(training_ids.mask(data.ids).sum())
    note = f"{leaked} of these {len(data)} images were trained on: nothing will learn from them"
    return training_ids, [note] if leaked else []


def _reference(
    run_members: RunMembers, name: str, split: str, matched: _MatchedMaps
) -> KnownMaps | None:
    """Return labels to compare the maps with: the target, else the mean of the other members."""
    data, kept = matched.data, matched.kept
    if data.masks is not None:
        target, ignore = data.target(), data.classes.ignore

        def target_labels(indices: Array) -> Array:
            labels = np.asarray(target[indices])
            return labels if ignore is None else np.where(labels == ignore, UNLABELLED, labels)

        return KnownMaps("the target", target_labels)
    others = [n for n in run_members.names() if n != name and split in run_members.splits(n)]
    readers = [run_members.open(other, split) for other in others]
    if not readers:
        return None

    def mean_labels(indices: Array) -> Array:
        # Indices ascend: the range that holds them is read, and what lies between is left out.
        indices = kept[indices]
        block = slice(int(indices[0]), int(indices[-1]) + 1)
        chosen = indices - block.start
        labels: Array = sum(reader.read(block)[chosen] for reader in readers).argmax(axis=1)
        return labels

    return KnownMaps(f"the mean of {', '.join(others)}", mean_labels)


def _write_store(
    expected: ExpectedRecord,
    inspection: InspectionReport,
    matched: _MatchedMaps,
    training_ids: TrainingIds | None,
    paths: Sequence[Path],
    new_url: UrlFactory,
) -> None:
    config, data, indices = expected.config, matched.data, matched.match.indices
    with ProbabilityStore.writing(
        expected.folder,
        config=config,
        input_digests=expected.input_digests,
        info=_file_stats(paths),
        ids=data.ids,
        classes=data.classes,
        extent=data.extent,
        seen=training_ids,
        dtype=config["dtype"],
        url=new_url(f"{config['member']}-{config['split']}"),
    ) as store:

        def write(block: slice) -> None:
            # Images of one size may have maps of several.
            size, part = store.extent.size_of(block.start), indices[block]
            given = inspection.maps.extent.take(part)
            maps = [
                inspection.repair(inspection.maps.read(part[same]), size)
                for same, _ in given.slices()
            ]
            store.write(block, np.concatenate(maps))

        for _ in progress(map_blocks(write, store.extent), "import", len(blocks(store.extent))):
            pass


def _digest(paths: Sequence[Path]) -> str:
    return digest_of([[file.name, digest(file)] for file in _files(paths)])


def _file_stats(paths: Sequence[Path]) -> Document:
    """Return where files lie, how much they hold and when the last of them changed."""
    stats = [file.stat() for file in _files(paths)]
    return {
        "paths": [str(path.resolve()) for path in paths],
        "bytes": sum(stat.st_size for stat in stats),
        "changed_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }


def _files(paths: Sequence[Path]) -> list[Path]:
    files = [f for path in paths for f in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file for file in files if file.is_file()]
