"""Make anybody's maps a member of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.data.prepare import classes_identity, prepare, split_identity
from ensemble.pipeline.run.experiment import Experiment, absolute
from ensemble.pipeline.run.open_run import FOREIGN, RunMembers, run_experiment
from ensemble.pipeline.run.store_location import placing
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData, BadMaps, BadRun
from evaluation.core.files import atomic_folder, read_json
from evaluation.core.progress import progress
from evaluation.core.provenance import (
    RECORD,
    digest,
    digest_of,
    record,
)
from evaluation.core.run_folder import Run, run_lock
from evaluation.core.types import Array
from members.data.dataset import DataSet
from members.external.formats import ExternalMaps, open_external
from members.external.inspection import (
    InspectionReport,
    KnownMaps,
    Repair,
    inspect_maps,
    match_by_id,
)
from members.object_store import check_url
from members.recipe import check_name
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds

Document = dict[str, Any]


def import_maps(
    run: Run,
    name: str,
    paths: Sequence[Path],
    *,
    split: str,
    trained_on: Path | None = None,
    fix: bool = False,
    as_is: bool = False,
    log: Callable[[str], None],
) -> Document:
    """Write foreign maps of one split as a member's store; nothing is written of odd ones.

    Args:
        run: the experiment folder, which holds the split's images.
        name: of the member; maps that were imported under it before are replaced.
        paths: see `members.external.formats.open_external`.
        split: whose images they are of.
        trained_on: text file with the ids of the images that a model behind their maps was
            trained on, one a line; None is undeclared.
        fix: mend what is odd.
        as_is: take classes and axes as they are although they look odd.
        log: receives a line for whatever was done or could not be examined.

    Returns:
        A JSON document: what was found and written.

    Raises:
        BadRun: no such split, or a name that is taken.
        BadMaps: what is odd, or cannot be mended; names the member.
    """
    check_name(name, "member")
    if not run.experiment.is_file():
        raise BadRun(f"{run.path} holds no images; lay it out with --data, the labelled set")
    with run_lock(run.path):
        sources, experiment = RunMembers.of(run), run_experiment(run)
        dtype = experiment.store_dtype
        _refuse_taken(sources, name)
        if split not in run.splits():
            raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
        data = DataSet.load(run.data(split))
        seen, declared = _seen(trained_on, data)
        try:
            foreign = open_external(paths)
            places, unmatched = match_by_id(foreign, data.ids)
            known = _known(sources, name, split, data)
            found = inspect_maps(
                foreign, places, classes=data.classes, shape=data.shape, known=known, as_is=as_is
            )
        except BadMaps as error:
            raise BadMaps(f"member {name!r}: {error}") from None
        odd = ([unmatched] if unmatched else []) + list(found.oddities)
        if odd and not fix:
            raise BadMaps(f"member {name!r}: {'; '.join(odd)}; {_cure(found, unmatched)}")
        for line in [*(f"fixed: {one}" for one in odd), *found.notes, *declared]:
            log(f"{name}: {line}")
        asked: Document = {FOREIGN: True, "member": name, "split": split, "dtype": dtype}
        asked["repair"] = found.repair.document()
        asked["trained_on"] = None if seen is None else sorted(seen.models[0])
        inputs = {"data": split_identity(run, split), "maps": _digest(paths)}
        inputs["classes"] = classes_identity(run)
        folder = run.probabilities(name, split)
        with placing(run, experiment.store) as place, atomic_folder(folder) as partial:
            store = ProbabilityStore.create(
                partial,
                ids=data.ids,
                classes=data.classes,
                shape=data.shape,
                seen=seen,
                dtype=dtype,
                at=place(f"{name}-{split}"),
            )
            _write(store, foreign, places, found.repair)
            record(partial, asked=asked, inputs=inputs, noted=_whereabouts(paths))
    return {
        "run": str(run.path),
        "member": name,
        "split": split,
        "images": len(data),
        "fixed": odd,
        "notes": [*found.notes, *declared],
        "declared": seen is not None,
    }


def init_run(
    run: Run, data: str, validation: str | None, store: str | None, log: Callable[[str], None]
) -> None:
    """Give a run its images, target and folds, for those who bring all maps and train nothing.

    Args:
        run: the experiment folder; created.
        data: a data set with labelled images.
        validation: a labelled set; None sets some of the training images aside.
        store: a URL for the maps; None leaves them where the run has them.
        log: receives a line for whatever was decided.

    Raises:
        BadRun: the run holds other data.
        BadData: the data cannot be used.
    """
    asked = run_experiment(run) if run.experiment.is_file() else Experiment()
    paths = {"data": absolute(data, Path.cwd()), "validation": absolute(validation, Path.cwd())}
    experiment = asked.model_copy(update=paths | ({"store": check_url(store)} if store else {}))
    with run_lock(run.path):
        prepare(run, experiment, log)
        experiment.write(run.experiment)


def is_imported(run: Run, name: str, split: str) -> bool:
    """Tell whether maps were imported for today's images and classes, from today's files.

    Files that are no longer where they were are not missed.
    """
    made = read_json(run.probabilities(name, split) / RECORD)
    inputs = made["inputs"]
    today = {"data": split_identity(run, split), "classes": classes_identity(run)}
    if any(inputs.get(key, value) != value for key, value in today.items()):
        return False
    noted = made.get("noted", {})
    paths = [Path(path) for path in noted.get("paths", [])]
    gone = not paths or not all(path.exists() for path in paths)
    if gone or noted == _whereabouts(paths):
        return True
    return bool(inputs["maps"] == _digest(paths))


def _refuse_taken(sources: RunMembers, name: str) -> None:
    trained = {member.name for member in sources.members} | {m.family for m in sources.members}
    if name in trained:
        raise BadRun(f"{name!r} is a trained member of {sources.run.path}; choose another --name")
    if name in sources.run.fusions():
        raise BadRun(f"{name!r} is a fusion of {sources.run.path}; choose another --name")


def _seen(trained_on: Path | None, data: DataSet) -> tuple[TrainingIds | None, list[str]]:
    """Return what the list declares, and notes on it."""
    if trained_on is None:
        return None, ["undeclared: nobody says which images it was trained on (--trained-on)"]
    try:
        lines = trained_on.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{trained_on} cannot be read ({error}); expected one id a line") from None
    ids = frozenset(line.strip() for line in lines if line.strip())
    seen = TrainingIds((ids,))
    leaked = int(seen.mask(data.ids).sum())
    note = f"{leaked} of these {len(data)} images were trained on: nothing will learn from them"
    return seen, [note] if leaked else []


def _known(sources: RunMembers, name: str, split: str, data: DataSet) -> KnownMaps | None:
    """Return what to compare with: the target, else the mean of the other members."""
    if data.masks is not None:
        target, ignore = data.target(), data.classes.ignore

        def true(places: Array) -> Array:
            labels = np.asarray(target[places])
            return labels if ignore is None else np.where(labels == ignore, UNLABELLED, labels)

        return KnownMaps("the target", true)
    others = [n for n in sources.names() if n != name and split in sources.splits(n)]
    readers = [sources.open(other, split) for other in others]
    if not readers:
        return None

    def voted(places: Array) -> Array:
        # Places come in ascending runs; a run is read whole, and what lies between is left out.
        block = slice(int(places[0]), int(places[-1]) + 1)
        chosen = places - block.start
        labels: Array = sum(reader.read(block)[chosen] for reader in readers).argmax(axis=1)
        return labels

    return KnownMaps(f"the mean of {', '.join(others)}", voted)


def _cure(found: InspectionReport, unmatched: str) -> str:
    alone = found.doubtful and len(found.oddities) == 1 and not unmatched
    return "mend it by --fix" + (", or take the maps --as-is" if alone else "")


def _write(store: ProbabilityStore, foreign: ExternalMaps, places: Array, repair: Repair) -> None:
    def mend(block: slice) -> None:
        store.write(block, repair(foreign.read(places[block])))

    done = map_blocks(mend, len(store))
    for _ in progress(done, "import", len(blocks(len(store)))):
        pass


def _digest(paths: Sequence[Path]) -> str:
    return digest_of([[file.name, digest(file)] for file in _files(paths)])


def _whereabouts(paths: Sequence[Path]) -> Document:
    """Say where files lie, how much they hold and when the last of them changed."""
    stats = [file.stat() for file in _files(paths)]
    return {
        "paths": [str(path.resolve()) for path in paths],
        "bytes": sum(stat.st_size for stat in stats),
        "changed_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }


def _files(paths: Sequence[Path]) -> list[Path]:
    files = [f for path in paths for f in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file for file in files if file.is_file()]
