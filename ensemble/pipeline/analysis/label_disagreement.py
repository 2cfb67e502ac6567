"""Find training images whose masks contradict the models that were not trained on them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.candidates.probabilities import open_probabilities
from ensemble.pipeline.data.clean import check_new
from ensemble.pipeline.run.open_run import OOF, RunMembers
from evaluation.core.arrays import argmax
from evaluation.core.blocks import map_blocks
from evaluation.core.errors import BadRun, LeakageError
from evaluation.core.files import atomic_file
from evaluation.core.run_folder import Run
from evaluation.core.types import Array, Map
from evaluation.formatting import format_columns
from members.data.contact_sheet import write_sheet
from members.data.dataset import DataSet
from members.data.label_disagreement import (
    Disagreement,
    concat_blocks,
    disagreement,
    scored_probabilities,
)
from members.maps import MapReader, check_same_images

ALL = "all"
MEASURE = "mean probability of other classes than the mask's on scored pixels"


@dataclass(frozen=True)
class DisagreementRow:
    """An image whose mask contradicts the maps; its log-loss is in nats.

    `share` is that of the scored pixels where the likeliest class is not the mask's; `confusion`
    the most frequent (mask, prediction) that differ, by name, None if all agree.
    """

    id: str
    group: str | None
    score: float
    log_loss: float
    share: float
    pixels: int
    confusion: list[str] | None


@dataclass(frozen=True)
class DisagreementReport:
    """The images with the strongest contradictions, in order."""

    measure: str
    members: list[str]
    images: int
    top: list[DisagreementRow]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def find_disagreements(
    run: Run, *, member: str = ALL, count: int, out: Path | None, sheet: Path | None
) -> DisagreementReport:
    """Rank the training images by how strongly out-of-fold maps contradict their masks.

    Args:
        run: the experiment folder.
        member: whose maps; `all` for the mean over all members.
        count: number of images to list.
        out: a new file for their ids, one per line.
        sheet: a new PNG of image, mask and prediction.

    Raises:
        BadRun: no out-of-fold maps.
        LeakageError: maps of a model that was trained on the images, or does not declare on which.
        BadSpec: a file to write that exists.
    """
    if out is not None:
        check_new(run.path, "--out", out, out.suffix)
    if sheet is not None:
        check_new(run.path, "--sheet", sheet, ".png")
    names, readers = _open(RunMembers.of(run), member)
    data = DataSet.load(run.data(OOF))
    _check(names, readers, data)
    measured = _measure(readers, data)
    order = np.argsort(-measured.score, kind="stable")  # NaN, without scored pixels, comes last
    indices = order[: min(count, int((measured.pixels > 0).sum()))]
    rows = [_row(measured, data, int(index)) for index in indices]
    if out is not None:
        with atomic_file(out) as partial:
            partial.write_text("".join(f"{row.id}\n" for row in rows), "utf-8")
    if sheet is not None:
        _write_sheet(sheet, readers, data, indices, rows)
    return DisagreementReport(MEASURE, list(names), len(data), rows)


def format_disagreements(report: DisagreementReport) -> str:
    """Format the images as a table."""
    cells = [["id", "group", "score", "log-loss", "wrong", "pixels", "main confusion"]]
    for row in report.top:
        confusion = " -> ".join(row.confusion or ["none"])
        numbers = [f"{row.score:.3f}", f"{row.log_loss:.2f}", f"{row.share:.0%}", f"{row.pixels}"]
        cells.append([row.id, row.group or "", *numbers, confusion])
    return "\n".join(
        [
            f"{report.images} images, out-of-fold maps of {', '.join(report.members)}",
            f"score: {report.measure}",
            *format_columns(cells, left=2),
        ]
    )


def _open(sources: RunMembers, member: str) -> tuple[list[str], list[MapReader]]:
    names = [member]
    if member == ALL:
        names = [name for name in sources.names() if OOF in sources.splits(name)]
    if not names:
        raise BadRun(
            f"no member of {sources.run.path} has out-of-fold maps; run `ens train-members` first"
        )
    return names, [open_probabilities(sources, name, OOF) for name in names]


def _check(names: Sequence[str], readers: Sequence[MapReader], data: DataSet) -> None:
    hint = "expected out-of-fold maps; choose another --member"
    for name, reader in zip(names, readers, strict=True):
        check_same_images(reader.ids, data.ids, member=name, split=OOF)
        saw = reader.trained_on_mask()
        if saw is None:
            raise LeakageError(f"{name!r} does not declare its training images; {hint}")
        if saw.any():
            raise LeakageError(
                f"{name!r} was trained on {int(saw.sum())} of these images and agrees with their"
                f" masks; {hint}"
            )


def _mean_map(readers: Sequence[MapReader], images: slice) -> Map:
    total = readers[0].read(images)
    for reader in readers[1:]:
        total = total + reader.read(images)
    return total / np.float32(len(readers))


def _measure(readers: Sequence[MapReader], data: DataSet) -> Disagreement:
    masks, floor = data.target(), max(reader.floor for reader in readers)

    def measure(block: slice) -> Disagreement:
        maps = _mean_map(readers, block)
        return disagreement(maps, np.asarray(masks[block]), classes=data.classes, floor=floor)

    return concat_blocks(list(map_blocks(measure, data.extent)))


def _row(measured: Disagreement, data: DataSet, index: int) -> DisagreementRow:
    confused = measured.main_confusion(index)
    return DisagreementRow(
        id=data.ids[index],
        group=None if data.groups is None else str(data.groups[index]),
        score=float(measured.score[index]),
        log_loss=float(measured.log_loss[index]),
        share=float(measured.share[index]),
        pixels=int(measured.pixels[index]),
        confusion=None if confused is None else [data.classes.names[label] for label in confused],
    )


def _write_sheet(
    path: Path,
    readers: Sequence[MapReader],
    data: DataSet,
    indices: Array,
    rows: list[DisagreementRow],
) -> None:
    maps = [_mean_map(readers, slice(int(index), int(index) + 1)) for index in indices]
    pred = [argmax(scored_probabilities(one, data.classes))[0] for one in maps]
    captions = [f"{row.id}: {row.score:.2f}, {' -> '.join(row.confusion or [])}" for row in rows]
    columns = {"mask": [data.target()[index] for index in indices], "pred": pred}
    images = [data.images[index] for index in indices]
    write_sheet(path, images, columns, classes=data.classes, captions=captions)
