"""Find training images whose masks contradict the models that were not trained on them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ensemble.calibration.calibrated import SAMPLE_PIXELS
from ensemble.calibration.calibrators import vector
from ensemble.fusion import Fusion, TrainingBlock
from ensemble.pipeline.candidates.probabilities import open_probabilities
from ensemble.pipeline.data.clean import check_new
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.sampling import draw_pixels
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, map_blocks, sum_blocks
from evaluation.core.errors import BadRun, BadSpec, LeakageError
from evaluation.core.files import atomic_file, atomic_folder, check_file_names
from evaluation.core.progress import Log
from evaluation.core.run_folder import OOF, Run
from evaluation.core.types import Array, Map
from evaluation.formatting import format_columns
from members.data.contact_sheet import write_sheet
from members.data.dataset import DataSet
from members.data.label_disagreement import (
    Disagreement,
    PerClass,
    class_confidence,
    class_thresholds,
    concat_blocks,
    disagreement,
    doubtful_pixels,
    scored_probabilities,
)
from members.maps import MapReader, check_same_images

ALL = "all"
By = Literal["score", "log_loss", "softmin", "calibrated", "pixels"]
DEFAULT: By = "calibrated"
MEASURES: dict[By, tuple[str, str]] = {
    "score": ("score", "mean probability of other classes than the mask's"),
    "log_loss": ("log_loss", "mean log-loss of the mask's class, in nats"),
    "softmin": ("softmin", "softmin of the probability of the mask's class, as cleanlab's, from 1"),
    "calibrated": (
        "calibrated",
        "calibrated probability that the mask's class lacks to the highest, in the worst region",
    ),
    "pixels": ("doubtful", "share of pixels confidently predicted as another class"),
}
"""By option the field of a `Disagreement`, and what it is on the scored pixels."""


@dataclass(frozen=True)
class DisagreementRow:
    """An image whose mask contradicts the maps; its log-loss is in nats.

    `share` is that of the scored pixels where the likeliest class is not the mask's; `confusion`
    the most frequent (mask, prediction) that differ, by name, None if all agree. The others are
    those of a `Disagreement`.
    """

    id: str
    group: str | None
    score: float
    log_loss: float
    softmin: float
    calibrated: float
    doubtful: float
    share: float
    pixels: int
    confusion: list[str] | None


@dataclass(frozen=True)
class DisagreementReport:
    """The images with the strongest contradictions, in order of `by`."""

    by: str
    measure: str
    members: list[str]
    images: int
    top: list[DisagreementRow]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def find_disagreements(
    run: Run,
    *,
    member: str = ALL,
    by: By = DEFAULT,
    count: int,
    out: Path | None,
    sheet: Path | None,
    pixels: Path | None = None,
    log: Log,
) -> DisagreementReport:
    """Rank the training images by how strongly out-of-fold maps contradict their masks.

    Args:
        run: the experiment folder.
        member: whose maps; `all` for the mean over all members that were not trained on the images.
        by: what ranks.
        count: number of images to list.
        out: a new file for their ids, one per line.
        sheet: a new PNG of image, mask, prediction and doubtful pixels.
        pixels: a new folder for a PNG per image, 255 at its doubtful pixels and 0 elsewhere.
        log: receives a line per member that is left out.

    Raises:
        BadRun: no out-of-fold maps.
        LeakageError: maps of a model that was trained on the images, or does not declare on which.
        BadSpec: a file or folder to write that exists.
    """
    if out is not None:
        check_new(run.path, "--out", out, out.suffix)
    if sheet is not None:
        check_new(run.path, "--sheet", sheet, ".png")
    if pixels is not None and pixels.exists():
        raise BadSpec(f"--pixels {pixels} already exists and is not overwritten; name a new folder")
    data = DataSet.load(run.data(OOF))
    names, readers = _open(RunMembers.of(run), member, data, log)
    compared = _Compared.of(readers, data)
    measured = concat_blocks(list(map_blocks(compared.measure, data.extent)))
    field, measure = MEASURES[by]
    order = np.argsort(-getattr(measured, field), kind="stable")  # NaN, nothing scored, comes last
    indices = order[: min(count, int((measured.pixels > 0).sum()))].tolist()
    rows = [_row(measured, data, index) for index in indices]
    if out is not None:
        with atomic_file(out) as partial:
            partial.write_text("".join(f"{row.id}\n" for row in rows), "utf-8")
    if pixels is not None:
        _write_pixels(pixels, compared, indices)
    if sheet is not None:
        _write_sheet(sheet, compared, indices, [getattr(row, field) for row in rows], rows)
    return DisagreementReport(by, measure, list(names), len(data), rows)


def format_disagreements(report: DisagreementReport) -> str:
    """Format the images as a table."""
    head = ["id", "group", "calibrated", "softmin", "score", "log-loss", "doubtful", "wrong"]
    cells = [[*head, "pixels", "main confusion"]]
    for row in report.top:
        confusion = " -> ".join(row.confusion or ["none"])
        numbers = [f"{value:.3f}" for value in (row.calibrated, row.softmin, row.score)]
        numbers += [f"{row.log_loss:.2f}", f"{row.doubtful:.1%}", f"{row.share:.0%}"]
        numbers.append(f"{row.pixels}")
        cells.append([row.id, row.group or "", *numbers, confusion])
    return "\n".join(
        [
            f"{report.images} images, out-of-fold maps of {', '.join(report.members)}",
            f"by {report.by}: {report.measure}",
            *format_columns(cells, left=2),
        ]
    )


def _open(
    run_members: RunMembers, member: str, data: DataSet, log: Log
) -> tuple[list[str], list[MapReader]]:
    """Return the members to compare with, and their maps of the training images."""
    names = [member]
    if member == ALL:
        names = [name for name in run_members.names() if OOF in run_members.splits(name)]
    if not names:
        raise BadRun(
            f"no member of {run_members.run.path} has out-of-fold maps; run `ens train-members`"
            " first"
        )
    readers = {name: open_probabilities(run_members, name, OOF) for name in names}
    reasons = {name: _not_out_of_fold(name, reader, data) for name, reader in readers.items()}
    chosen = [name for name in names if reasons[name] is None]
    if not chosen:
        raise LeakageError(
            f"{names[0]!r} {reasons[names[0]]}; expected out-of-fold maps; choose another --member"
        )
    for name in names:
        if name not in chosen:
            log(f"{name}: left out, {reasons[name]}")
    return chosen, [readers[name] for name in chosen]


def _not_out_of_fold(name: str, reader: MapReader, data: DataSet) -> str | None:
    """Say why a member's maps of the training images tell nothing of their masks; else None."""
    check_same_images(reader.ids, data.ids, member=name, split=OOF)
    saw = reader.trained_on_mask()
    if saw is None:
        return "does not declare its training images"
    if saw.any():
        return f"was trained on {int(saw.sum())} of these images and agrees with their masks"
    return None


def _mean_map(readers: Sequence[MapReader], images: slice) -> Map:
    total = readers[0].read(images)
    for reader in readers[1:]:
        total = total + reader.read(images)
    return total / np.float32(len(readers))


@dataclass(frozen=True)
class _Compared:
    """Maps and masks of a data set, with what is learned from all of them.

    Args:
        readers: of the members, whose mean is compared.
        data: images and masks.
        floor: lower bound of probabilities before taking logarithms.
        thresholds: of each class; see `members.data.label_disagreement.class_thresholds`.
        calibrator: of the mean map; a scale and a shift per class, so that nothing is gained by
            fitting it on other images.
    """

    readers: Sequence[MapReader]
    data: DataSet
    floor: float
    thresholds: PerClass
    calibrator: Fusion

    @classmethod
    def of(cls, readers: Sequence[MapReader], data: DataSet) -> "_Compared":
        masks, classes = data.target(), data.classes

        def confidence(block: slice) -> Array:
            return class_confidence(_mean_map(readers, block), np.asarray(masks[block]), classes)

        sums = sum_blocks(confidence, data.extent)
        pixels = draw_pixels(
            _MeanBlocks(readers, data),
            classes=len(classes),
            ignore=classes.ignore,
            pixels=SAMPLE_PIXELS,
            seed=0,
        )
        calibrator = vector(classes.ignore)(pixels)
        floor = max(reader.floor for reader in readers)
        return cls(readers, data, floor, class_thresholds(sums), calibrator)

    def measure(self, block: slice) -> Disagreement:
        maps = _mean_map(self.readers, block)
        return disagreement(
            maps,
            np.asarray(self.data.target()[block]),
            classes=self.data.classes,
            floor=self.floor,
            calibrated=self.calibrator(maps[None]),
            thresholds=self.thresholds,
        )

    def pred_and_doubtful(self, index: int) -> tuple[Array, Array]:
        """Return an image's likeliest scored classes, and its doubtful pixels."""
        block, classes = slice(index, index + 1), self.data.classes
        maps, masks = _mean_map(self.readers, block), np.asarray(self.data.target()[block])
        doubtful = doubtful_pixels(maps, masks, classes, self.thresholds)
        return argmax(scored_probabilities(maps, classes))[0], doubtful[0]


@dataclass(frozen=True)
class _MeanBlocks:
    """Blocks of one member, the mean of the readers."""

    readers: Sequence[MapReader]
    data: DataSet

    def __iter__(self) -> Iterator[TrainingBlock]:
        masks = self.data.target()
        for block in blocks(self.data.extent):
            maps = _mean_map(self.readers, block)[None]
            yield TrainingBlock(maps, np.asarray(masks[block]), None)


def _row(measured: Disagreement, data: DataSet, index: int) -> DisagreementRow:
    confused = measured.main_confusion(index)
    return DisagreementRow(
        id=data.ids[index],
        group=None if data.groups is None else str(data.groups[index]),
        score=float(measured.score[index]),
        log_loss=float(measured.log_loss[index]),
        softmin=float(measured.softmin[index]),
        calibrated=float(measured.calibrated[index]),
        doubtful=float(measured.doubtful[index]),
        share=float(measured.share[index]),
        pixels=int(measured.pixels[index]),
        confusion=None if confused is None else [data.classes.names[label] for label in confused],
    )


def _write_pixels(folder: Path, compared: _Compared, indices: Sequence[int]) -> None:
    ids = [compared.data.ids[index] for index in indices]
    check_file_names(ids)
    with atomic_folder(folder) as partial:
        for name, index in zip(ids, indices, strict=True):
            doubtful = compared.pred_and_doubtful(index)[1]
            Image.fromarray(doubtful.astype(np.uint8) * 255).save(partial / f"{name}.png")


def _write_sheet(
    path: Path,
    compared: _Compared,
    indices: Sequence[int],
    values: Sequence[float],
    rows: Sequence[DisagreementRow],
) -> None:
    data = compared.data
    pred, doubtful = zip(*(compared.pred_and_doubtful(index) for index in indices), strict=True)
    captions = [
        f"{row.id}: {value:.2f}, {' -> '.join(row.confusion or [])}"
        for row, value in zip(rows, values, strict=True)
    ]
    write_sheet(
        path,
        [data.images[index] for index in indices],
        {"mask": [data.target()[index] for index in indices], "pred": pred},
        classes=data.classes,
        captions=captions,
        marked={"doubtful": doubtful},
    )
