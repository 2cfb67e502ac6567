"""Rank the images of a run by how uncertain the mean of its members is, and draw the first."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ensemble.block_fusion import read_members, threads_for
from ensemble.diversity.disagreement import uncertainty
from ensemble.fusion import PIECE_VALUES
from ensemble.pipeline.run.open_run import OpenedSplit, RunMembers, open_members
from evaluation.core.arrays import argmax, view_image
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadSpec
from evaluation.core.files import atomic_folder
from evaluation.core.literal_text import literal_text
from evaluation.core.progress import Log, progress
from evaluation.core.ragged import Size
from evaluation.core.run_folder import Run
from evaluation.core.types import Array
from evaluation.formatting import MISSING, format_columns
from evaluation.scores import nan_to_none

RANKING, SHEET = "ranking.csv", "top.png"
MEASURES = ("entropy", "mutual_information", "wrong")
DECIMALS = 6

WIDTH_IN, GAP_IN, HEAD_IN, DPI = 3.0, 0.08, 0.65, 100
LEGEND_COLUMNS = 8
CAPTION_SHARE = 0.22
"""Height of a caption's line as a share of the image's."""

HEAT_QUANTILE = 0.995
NO_LABEL = "#999999"
NATS = "nats, 0 to {:.2f}"


@dataclass(frozen=True)
class UncertainImage:
    """The rank of an image, from 1; entropy and mutual information in nats, averaged over pixels.

    `wrong` is the share of the scored pixels where the argmax of the mean is wrong; None without
    target.
    """

    rank: int
    id: str
    group: str
    entropy: float | None
    mutual_information: float | None
    wrong: float | None


@dataclass(frozen=True)
class UncertaintyReport:
    """The most uncertain images.

    `spearman` is the rank correlation of each measure with `wrong` over all images, None without
    target; `out` holds the ranking of all images and a figure of the first.
    """

    split: str
    members: list[str]
    images: int
    by: str
    out: str
    spearman: dict[str, float | None]
    top: list[UncertainImage]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class SheetRow:
    """An image of the sheet: uint8 (channel, row, col), class indices and nats (row, col)."""

    caption: str
    image: Array
    target: Array | None
    pred: Array
    entropy: Array
    mutual_information: Array


def rank_images(
    run: Run,
    *,
    split: str,
    out: Path,
    by: Literal["entropy", "mutual_information"],
    count: int,
    log: Log,
) -> UncertaintyReport:
    """Write a folder with `ranking.csv` and `top.png`, the most uncertain images first.

    Uncertainty is averaged over all pixels of an image, scored or not, so that labelled and
    unlabelled splits are ranked alike.

    Args:
        run: the experiment folder.
        split: of the images.
        out: the folder; must not exist.
        by: the measure that ranks.
        count: number of images to draw and to list.
        log: receives a line per member that is left out.

    Raises:
        BadSpec: the folder exists.
        BadRun: no such split, or fewer than two members with maps.
        BadMaps: maps of other images.
        LeakageError: maps of images that a member was trained on.
    """
    if out.exists():
        raise BadSpec(f"--out {out} exists and is not overwritten; name a new folder")
    maps = open_members(RunMembers.of(run), split, log)
    values = dict(zip(MEASURES, _measure(maps).T, strict=True))
    order = np.argsort(-values[by], kind="stable")
    ranked = [_rank_image(maps, values, int(index), rank) for rank, index in enumerate(order, 1)]
    with atomic_folder(out) as partial:
        rows = [asdict(image) for image in ranked]
        with (partial / RANKING).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        drawn = [
            _sheet_row(maps, index, image)
            for index, image in zip(order[:count].tolist(), ranked, strict=False)
        ]
        draw_sheet(partial / SHEET, drawn, maps.data.classes)
    return UncertaintyReport(
        split=split,
        members=list(maps.names),
        images=len(maps.data),
        by=by,
        out=str(out),
        spearman={name: _spearman(values[name], values["wrong"]) for name in MEASURES[:2]},
        top=ranked[:count],
    )


def format_uncertainty(report: UncertaintyReport) -> str:
    """Format the first images as a table, and how well the measures predict errors."""
    cells = [["rank", "id", "entropy", "mutual information", "wrong"]]
    for image in report.top:
        wrong = MISSING if image.wrong is None else f"{image.wrong:.0%}"
        nats = [f"{image.entropy:.3f}", f"{image.mutual_information:.3f}"]
        cells.append([str(image.rank), image.id, *nats, wrong])
    members = ", ".join(report.members)
    lines = [
        f"{report.images} images of {report.split}, the mean of {members}; in nats",
        *format_columns(cells, left=2),
    ]
    known = [
        f"{name.replace('_', ' ')} {value:.2f}"
        for name, value in report.spearman.items()
        if value is not None
    ]
    if known:
        lines.append(f"rank correlation with the share of wrong pixels: {', '.join(known)}")
    return "\n".join([*lines, f"{report.out}: {RANKING}, {SHEET}"])


@literal_text()
def draw_sheet(path: Path, rows: Sequence[SheetRow], classes: Classes) -> None:
    """Write a PNG with a row per image: image, target, prediction, and two heat maps.

    Entropy is scaled to its maximum, the logarithm of the number of classes. Mutual information
    rarely comes near it, and is scaled so that all but a few pixels of the sheet lie below.
    """
    columns = {"image": [_as_colour(row.image) for row in rows]}
    if rows[0].target is not None:
        columns["target"] = [_paint_labels(row.target, classes) for row in rows]
    columns["pred"] = [_paint_labels(row.pred, classes) for row in rows]
    high = float(np.log(len(classes)))
    columns[f"entropy ({NATS.format(high)})"] = [_heat(row.entropy, high) for row in rows]
    information = np.concatenate([row.mutual_information.ravel() for row in rows])
    high = float(np.quantile(information, HEAT_QUANTILE)) or 1.0
    columns[f"mutual information ({NATS.format(high)})"] = [
        _heat(row.mutual_information, high) for row in rows
    ]
    box = max(row.pred.shape[0] for row in rows), max(row.pred.shape[1] for row in rows)
    figure, axes = _layout(box, len(rows), len(columns))
    for (title, panels), column in zip(columns.items(), axes, strict=True):
        _draw_column(column, [_fitted(panel, box) for panel in panels], title)
    axes[0].set_zorder(1)  # captions reach over the next column
    for index, row in enumerate(rows):
        top = (index + 1) * _pitch(box[0]) - box[0]
        axes[0].text(0, top - 2, row.caption, fontsize=8, va="bottom")
    patches = [
        Patch(facecolor=colour, edgecolor="black", label=name)
        for name, colour in zip(classes.names, classes.colours, strict=True)
    ]
    figure.legend(handles=patches, loc="upper left", ncols=LEGEND_COLUMNS, frameon=False)
    figure.savefig(path, format="png", dpi=DPI)


def _measure(maps: OpenedSplit) -> Array:
    """Return the measures of each image, (image, measure)."""

    def work(block: slice) -> Array:
        members = read_members(maps.readers, block)
        piece = max(1, PIECE_VALUES // members[0, 0].size)
        target = None if maps.data.masks is None else np.asarray(maps.data.masks[block])
        return np.concatenate(
            [
                _image_means(members[:, part], None if target is None else target[part], maps)
                for part in blocks(members.shape[1], piece)
            ]
        )

    extent = maps.data.extent
    results = map_blocks(work, extent, threads=threads_for(maps.readers))
    return np.concatenate(list(progress(results, "uncertainty", len(blocks(extent)))))


def _image_means(members: Array, target: Array | None, maps: OpenedSplit) -> Array:
    pixels = (1, 2)
    nats = [values.mean(axis=pixels) for values in uncertainty(members)]
    wrong = np.full(len(nats[0]), np.nan)
    if target is not None:
        scored = (target != UNLABELLED) & (target != maps.data.classes.ignore)
        errors = (argmax(members.sum(axis=0)) != target) & scored
        count = scored.sum(axis=pixels)
        np.divide(errors.sum(axis=pixels), count, out=wrong, where=count > 0)
    return np.stack([*nats, wrong], axis=1).astype(np.float64)


def _rank_image(
    maps: OpenedSplit, values: dict[str, Array], index: int, rank: int
) -> UncertainImage:
    measures = [nan_to_none(round(float(values[name][index]), DECIMALS)) for name in MEASURES]
    group = str(maps.data.group_names()[index])
    return UncertainImage(rank, maps.data.ids[index], group, *measures)


def _sheet_row(maps: OpenedSplit, index: int, ranked: UncertainImage) -> SheetRow:
    members = read_members(maps.readers, slice(index, index + 1))
    entropy, mutual = uncertainty(members)
    masks = maps.data.masks
    wrong = "" if ranked.wrong is None else f", {ranked.wrong:.0%} wrong"
    nats = f"entropy {ranked.entropy:.2f}, mutual information {ranked.mutual_information:.2f}"
    return SheetRow(
        caption=f"{ranked.rank}. {ranked.id}: {nats}{wrong}",
        image=np.asarray(maps.data.images[index]),
        target=None if masks is None else np.asarray(masks[index]),
        pred=argmax(members.sum(axis=0))[0],
        entropy=entropy[0],
        mutual_information=mutual[0],
    )


def _spearman(values: Array, wrong: Array) -> float | None:
    """Return the rank correlation; None without target, or if one of them is constant."""
    known = ~np.isnan(wrong)
    if not known.any() or np.ptp(wrong[known]) == 0 or np.ptp(values[known]) == 0:
        return None
    return float(np.corrcoef(_ranks(values[known]), _ranks(wrong[known]))[0, 1])


def _ranks(values: Array) -> Array:
    """Return ranks, equal values at their mean rank; importing `scipy.stats` takes a second."""
    _, group, times = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(times) - (times - 1) / 2)[group]
    return ranks


def _layout(box: Size, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with an axis per column, below a legend and titles."""
    height, width = box
    below = WIDTH_IN * _pitch(height) * rows / width
    wide, high = columns * (WIDTH_IN + GAP_IN) + GAP_IN, below + HEAD_IN + GAP_IN
    figure = Figure(figsize=(wide, high))
    lefts = [GAP_IN + column * (WIDTH_IN + GAP_IN) for column in range(columns)]
    boxes = [(left / wide, GAP_IN / high, WIDTH_IN / wide, below / high) for left in lefts]
    return figure, [figure.add_axes(box) for box in boxes]


def _draw_column(axes: Axes, panels: Sequence[Array], title: str) -> None:
    """Draw panels below each other as one image, which is much faster than an axis each."""
    rows, cols, _ = panels[0].shape
    paper = np.ones((_pitch(rows) * len(panels), cols, 3))
    for index, panel in enumerate(panels):
        bottom = (index + 1) * _pitch(rows)
        paper[bottom - rows : bottom] = panel
    axes.imshow(paper, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _pitch(rows: int) -> int:
    return rows + max(1, round(CAPTION_SHARE * rows))


def _fitted(panel: Array, box: Size) -> Array:
    """Return a panel (row, col, 3) enlarged into a box by repeating pixels; the rest is white."""
    rows, cols = panel.shape[:2]
    if (rows, cols) == box:
        return panel
    scale = min(box[0] / rows, box[1] / cols)
    size = round(rows * scale), round(cols * scale)
    down, right = (np.arange(n) * length // n for n, length in zip(size, (rows, cols), strict=True))
    paper = np.ones((*box, 3))
    paper[: size[0], : size[1]] = panel[down][:, right]
    return paper


def _as_colour(image: Array) -> Array:
    return view_image(image) / 255


def _paint_labels(labels: Array | None, classes: Classes) -> Array:
    table = np.full((UNLABELLED + 1, 3), to_rgb(NO_LABEL))
    table[: len(classes)] = [to_rgb(colour) for colour in classes.colours]
    colours: Array = table[labels]
    return colours


def _heat(values: Array, high: float) -> Array:
    from matplotlib import colormaps

    coloured: Array = colormaps["magma"](np.clip(values / high, 0, 1))[..., :3]
    return coloured
