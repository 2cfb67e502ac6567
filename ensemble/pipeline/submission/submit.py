"""Write a candidate's label maps for other programs, and verify the file by reading it back."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ensemble.pipeline.candidates.postprocess import read_labels
from ensemble.pipeline.candidates.staleness import Artifact, record_export, staleness_of
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.submission import formats, nifti
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadLabels, BadRun, BadSpec
from evaluation.core.files import atomic_file, atomic_folder
from evaluation.core.progress import Log
from evaluation.core.ragged import Stack, extent_of
from evaluation.core.run_folder import Run, run_lock
from evaluation.core.types import Array
from members.data.dataset import DataSet

Format = Literal["csv", "runs", "png", "nifti"]


@dataclass(frozen=True)
class SubmitResult:
    """What was written.

    Args:
        images: number of images.
        ignored_share: share of pixels that were given the ignored class.
    """

    images: int
    ignored_share: float


def submit(
    run: Run,
    candidate: str,
    split: str,
    out: Path,
    file_format: Format = "csv",
    *,
    log: Log,
) -> SubmitResult:
    """Write a candidate's label maps of a split, and compare what is read back with them.

    Args:
        run: the experiment folder.
        candidate: name of the candidate.
        split: split of the images.
        out: the CSV, or the folder of PNGs, which must be new or empty.
        file_format: `csv`, one column per pixel; `runs`, run lengths as CSV; `png`, one palette
            PNG per image; `nifti`, a volume per case with the geometry of its source. All but
            `runs` hold the values that masks store for the classes.
        log: receives a line if the labels are stale.

    Raises:
        BadRun: label maps are missing or incomplete, or another process writes into the run.
        BadLabels: values outside the classes.
        BadSpec: a column per pixel of images that have several sizes.
        BadData: volumes of data that are not nnU-Net's raw set of NIfTI volumes.
    """
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    is_folder = file_format in ("png", "nifti")
    if is_folder and out.exists() and (out.is_file() or any(out.iterdir())):
        raise BadRun(f"{out} already exists; choose a new folder as --out")
    labels, data = read_labels(run, candidate, split), DataSet.load(run.data(split))
    if file_format == "csv" and data.extent.one_size is None:
        raise BadSpec(f"{split} has images of {data.extent}; write them by --format png or runs")
    if file_format == "nifti":
        nifti.source_root(RunMembers.of(run))
    classes = run_classes(run)
    ignored = _count_ignored(labels, classes, candidate)
    atomic: Callable[[Path], AbstractContextManager[Path]] = (
        atomic_folder if is_folder else atomic_file
    )
    with run_lock(run.path):
        stale: list[str] = []
        # Before anything is written, since a run that cannot be read is refused.
        staleness_of(run).warn([Artifact("labels", candidate, split)], stale.append)
        with atomic(out) as partial:
            if file_format == "nifti":
                run_members = RunMembers.of(run)
                nifti.write_volumes(partial, run_members, data, labels, classes)
                nifti.write_fused(partial / nifti.FUSED, run_members, candidate, split)
            else:
                _write(partial, data, labels, classes, file_format)
            _compare(partial, _read(partial, data, classes, file_format), data, labels)
        record_export(run, out, "submission", candidate, split)
    for line in stale:
        log(line)
    return SubmitResult(len(labels), ignored / data.extent.pixels)


def _count_ignored(labels: Stack, classes: Classes, candidate: str) -> int:
    """Count the pixels of the ignored class; check that all values are classes."""
    ignored = 0
    for block in blocks(extent_of(labels)):
        part = np.asarray(labels[block])
        if part.dtype != np.uint8 or part.max(initial=0) >= len(classes):
            raise BadLabels(
                f"{candidate} holds {part.dtype} labels up to {part.max()}; expected uint8 up to"
                f" {len(classes) - 1}; remove them and postprocess again"
            )
        ignored += int((part == classes.ignore).sum()) if classes.ignore is not None else 0
    return ignored


def _write(path: Path, data: DataSet, labels: Stack, classes: Classes, file_format: Format) -> None:
    if file_format == "png":
        parts = ((block, np.asarray(labels[block])) for block in blocks(extent_of(labels)))
        formats.write_pngs(path, data.ids, parts, classes)
    elif file_format == "runs":
        formats.write_rle_csv(path, data.ids, labels, classes)
    else:
        formats.write_pixels_csv(path, data.ids, labels, classes)


def _read(
    path: Path, data: DataSet, classes: Classes, file_format: Format
) -> Iterator[tuple[str, Array]]:
    if file_format == "nifti":
        return nifti.read_volumes(path, data, classes)
    if file_format == "png":
        return formats.read_label_pngs(path, data.ids, classes)
    if file_format == "runs":
        return formats.read_rle_csv(path, data.extent.sizes, classes)
    return formats.read_pixels_csv(path, data.extent.runs[0][1], classes)


def _compare(
    path: Path, written: Iterable[tuple[str, Array]], data: DataSet, labels: Stack
) -> None:
    count = 0
    for index, (name, image) in enumerate(written):
        if name != data.ids[index] or not np.array_equal(image, labels[index]):
            raise OSError(f"{path} does not read back as it was written, from {name!r} on")
        count = index + 1
    if count != len(labels):
        raise OSError(f"{path} holds {count} images of {len(labels)}")
