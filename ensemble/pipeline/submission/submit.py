"""Hand a candidate's label maps over, and read them back before it counts as done."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ensemble.pipeline.candidates.exports import record_export
from ensemble.pipeline.candidates.postprocess import read_labels
from ensemble.pipeline.candidates.staleness import Artifact, staleness_of
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.submission import formats
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadLabels, BadRun
from evaluation.core.files import atomic_file, atomic_folder
from evaluation.core.run_folder import Run, run_lock
from evaluation.core.types import Array, Labels
from members.data.dataset import DataSet

Form = Literal["csv", "runs", "png"]
Log = Callable[[str], None]


class Submitted(NamedTuple):
    """What was written.

    Args:
        images: how many.
        ignored_share: the share of pixels that have the ignored class.
    """

    images: int
    ignored_share: float


def submit(
    run: Run, candidate: str, split: str, out: Path, form: Form = "csv", *, log: Log
) -> Submitted:
    """Write a candidate's label maps of a split, and read them back before it counts as done.

    Args:
        run: the experiment folder.
        candidate: whose label maps.
        split: of the images.
        out: the CSV, or the folder of PNGs, which must be new or empty.
        form: `csv`, one column a pixel; `runs`, run lengths as CSV; `png`, one palette PNG each.
        log: receives a line if the labels are stale.

    Raises:
        BadRun: no such label maps, or not of every image; another process writes into the run.
        BadLabels: values that are no class.
    """
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    if form == "png" and out.exists() and (out.is_file() or any(out.iterdir())):
        raise BadRun(f"{out} is there; choose a new folder as --out")
    labels, data = read_labels(run, candidate, split), DataSet.load(run.data(split))
    classes = run_classes(run)
    ignored = _checked(labels, classes, candidate)
    whole: Callable[[Path], AbstractContextManager[Path]] = (
        atomic_folder if form == "png" else atomic_file
    )
    with run_lock(run.path):
        stale: list[str] = []
        # Asked before anything is written, since a run that cannot be read is refused.
        staleness_of(run).warn([Artifact("labels", candidate, split)], stale.append)
        with whole(out) as partial:
            _write(partial, data, labels, classes, form)
            _compare(partial, _read(partial, data, classes, form), data, labels)
        record_export(run, out, "submission", candidate, split)
    for line in stale:
        log(line)
    return Submitted(len(labels), ignored / labels.size)


def _checked(labels: Array, classes: Classes, candidate: str) -> int:
    """Count the pixels of the ignored class; refuse what is no class."""
    ignored = 0
    for block in blocks(len(labels)):
        part = np.asarray(labels[block])
        if part.dtype != np.uint8 or part.max(initial=0) >= len(classes):
            raise BadLabels(
                f"{candidate} holds {part.dtype} labels up to {part.max()}; expected uint8 up to"
                f" {len(classes) - 1}; remove them and postprocess again"
            )
        ignored += int((part == classes.ignore).sum()) if classes.ignore is not None else 0
    return ignored


def _write(path: Path, data: DataSet, labels: Labels, classes: Classes, form: Form) -> None:
    if form == "png":
        parts = ((block, np.asarray(labels[block])) for block in blocks(len(labels)))
        formats.write_pngs(path, data.ids, parts, classes)
    else:
        write: Any = formats.write_pixels_csv if form == "csv" else formats.write_rle_csv
        write(path, data.ids, labels, classes)


def _read(path: Path, data: DataSet, classes: Classes, form: Form) -> Iterator[tuple[str, Array]]:
    if form == "png":
        return formats.read_label_pngs(path, data.ids)
    if form == "runs":
        return formats.read_rle_csv(path, data.shape, classes)
    return formats.read_pixels_csv(path, data.shape)


def _compare(path: Path, found: Iterable[tuple[str, Array]], data: DataSet, labels: Labels) -> None:
    place = -1
    for place, (name, written) in enumerate(found):
        if name != data.ids[place] or not np.array_equal(written, labels[place]):
            raise OSError(f"{path} does not read back as it was written, from {name!r} on")
    if place + 1 != len(labels):
        raise OSError(f"{path} holds {place + 1} images of {len(labels)}")
