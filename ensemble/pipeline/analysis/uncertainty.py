"""Rank the images of a run by how unsure its members are together.

A contact sheet of what an ensemble is unsure of: image, target, prediction, entropy, quarrel.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ensemble.block_fusion import stacked
from ensemble.diversity.disagreement import uncertainty
from ensemble.diversity.subset_scorer import threads_for
from ensemble.fusion import PIECE_VALUES
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.run.opened_members import OpenedMembers, open_members
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadSpec
from evaluation.core.files import atomic_folder
from evaluation.core.progress import progress
from evaluation.core.run_folder import Run
from evaluation.core.types import Array
from evaluation.scores import number

WIDTH_IN, GAP_IN, HEAD_IN, DPI = 3.0, 0.08, 0.65, 100
IN_LEGEND = 8
MOST = 0.995
CAPTION_SHARE = 0.22
"""Height of a caption's line as a share of the image's."""

NO_LABEL = "#999999"
NATS = "nats, 0 to {:.2f}"


@dataclass(frozen=True)
class Unsure:
    """One image and what is drawn beside it.

    Args:
        caption: a line above it.
        image: uint8, (channel, row, col).
        target: class indices (row, col), 255 where there is none; None where nothing is known.
        pred: class indices.
        entropy: of the mean map, in nats.
        mutual: information, in nats.
    """

    caption: str
    image: Array
    target: Array | None
    pred: Array
    entropy: Array
    mutual: Array


def draw_sheet(path: Path, images: Sequence[Unsure], classes: Classes) -> None:
    """Write a PNG with a row an image.

    Heat goes from 0 to what entropy can reach, the logarithm of the number of classes. Mutual
    information rarely comes near: its heat ends where all but a few pixels of the sheet lie below.

    Args:
        path: where to.
        images: in the order of the rows.
        classes: their colours and names.
    """
    columns = {"image": [_grey_or_colour(one.image) for one in images]}
    if images[0].target is not None:
        columns["target"] = [_painted(one.target, classes) for one in images]
    columns["pred"] = [_painted(one.pred, classes) for one in images]
    high = float(np.log(len(classes)))
    columns[f"entropy ({NATS.format(high)})"] = [_heat(one.entropy, high) for one in images]
    high = float(np.quantile([one.mutual for one in images], MOST)) or 1.0
    columns[f"mutual information ({NATS.format(high)})"] = [
        _heat(one.mutual, high) for one in images
    ]
    figure, axes = _laid_out(images, len(columns))
    for (title, panels), place in zip(columns.items(), axes, strict=True):
        _stack(place, panels, title)
    axes[0].set_zorder(1)  # captions reach over the next column
    for index, one in enumerate(images):
        top = (index + 1) * _pitch(len(one.pred)) - len(one.pred)
        axes[0].text(0, top - 2, one.caption, fontsize=8, va="bottom")
    patches = [
        Patch(facecolor=colour, edgecolor="black", label=name)
        for name, colour in zip(classes.names, classes.colours, strict=True)
    ]
    figure.legend(handles=patches, loc="upper left", ncols=IN_LEGEND, frameon=False)
    figure.savefig(path, format="png", dpi=DPI)


def _laid_out(images: Sequence[Unsure], columns: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with a column of images each below a head of legend and titles."""
    rows, cols = images[0].pred.shape
    below = WIDTH_IN * _pitch(rows) * len(images) / cols
    wide, high = columns * (WIDTH_IN + GAP_IN) + GAP_IN, below + HEAD_IN + GAP_IN
    figure = Figure(figsize=(wide, high))
    lefts = [GAP_IN + column * (WIDTH_IN + GAP_IN) for column in range(columns)]
    boxes = [(left / wide, GAP_IN / high, WIDTH_IN / wide, below / high) for left in lefts]
    return figure, [figure.add_axes(box) for box in boxes]


def _stack(axes: Axes, panels: Sequence[Array], title: str) -> None:
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


def _grey_or_colour(image: Array) -> Array:
    last = np.moveaxis(image, 0, -1) / 255
    return np.broadcast_to(last, (*last.shape[:2], 3))


def _painted(labels: Array | None, classes: Classes) -> Array:
    table = np.full((UNLABELLED + 1, 3), to_rgb(NO_LABEL))
    table[: len(classes)] = [to_rgb(colour) for colour in classes.colours]
    colours: Array = table[labels]
    return colours


def _heat(values: Array, high: float) -> Array:
    from matplotlib import colormaps

    coloured: Array = colormaps["magma"](np.clip(values / high, 0, 1))[..., :3]
    return coloured


RANKING, SHEET = "ranking.csv", "top.png"
DECIMALS = 6
MEASURES = ("entropy", "mutual_information", "wrong")

Document = dict[str, Any]


def rank_images(
    run: Run, *, split: str, out: Path, by: str, count: int, log: Callable[[str], None]
) -> Document:
    """Write a folder with `ranking.csv` and `top.png`, the least sure images first.

    Measures are means over all pixels of an image, scored or not, so that labelled and unlabelled
    splits are ranked alike; `wrong` is the share of the scored pixels where the mean errs.

    Args:
        run: the experiment folder.
        split: of the images.
        out: the folder; must not exist.
        by: what ranks, `entropy` or `mutual_information`, in nats.
        count: how many images to draw and to list.
        log: receives a line for each member that is left out.

    Returns:
        A JSON document: `top` images, and `spearman`, the rank correlation of each measure with
        `wrong` over all images, None without target.

    Raises:
        BadSpec: the folder exists.
        BadRun: no such split, or fewer than two members with maps.
        BadMaps: maps of other images.
        Leak: maps of images that a member was trained on.
    """
    if out.exists():
        raise BadSpec(f"--out {out} exists and is not overwritten; name a new folder")
    maps = open_members(RunMembers.of(run), split, log)
    values = dict(zip(MEASURES, _measured(maps).T, strict=True))
    order = np.argsort(-values[by], kind="stable")
    entries = [_entry(maps, values, int(place), rank) for rank, place in enumerate(order, 1)]
    with atomic_folder(out) as partial:
        with (partial / RANKING).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(entries[0]))
            writer.writeheader()
            writer.writerows(entries)
        draw_sheet(partial / SHEET, _unsure(maps, order[:count], entries), maps.data.classes)
    return {
        "split": split,
        "members": list(maps.names),
        "images": len(maps.data),
        "by": by,
        "out": str(out),
        "spearman": {name: _spearman(values[name], values["wrong"]) for name in MEASURES[:2]},
        "top": entries[:count],
    }


def as_text(document: Document) -> str:
    """Write the document of `rank_images` for people."""
    width = max([len("id"), *(len(entry["id"]) for entry in document["top"])])
    members = ", ".join(document["members"])
    lines = [
        f"{document['images']} images of {document['split']}, the mean of {members}; in nats",
        f"rank  {'id':{width}}  entropy  mutual information  wrong",
    ]
    for entry in document["top"]:
        wrong = "-" if entry["wrong"] is None else f"{entry['wrong']:.0%}"
        lines.append(
            f"{entry['rank']:4d}  {entry['id']:{width}}  {entry['entropy']:7.3f}"
            f"  {entry['mutual_information']:18.3f}  {wrong:>5}"
        )
    told = [f"{n} {v:.2f}" for n, v in document["spearman"].items() if v is not None]
    if told:
        lines.append(f"rank correlation with the share of wrong pixels: {', '.join(told)}")
    lines.append(f"{document['out']}: {RANKING}, {SHEET}")
    return "\n".join(lines).replace("mutual_information", "mutual information")


def _measured(maps: OpenedMembers) -> Array:
    """Return the measures of each image, (image, measure)."""
    _, *rest = maps.readers[0].size
    piece = max(1, PIECE_VALUES // int(np.prod(rest)))

    def work(block: slice) -> Array:
        members = stacked(maps.readers, block)
        target = None if maps.data.masks is None else np.asarray(maps.data.masks[block])
        return np.concatenate(
            [
                _means(members[:, part], None if target is None else target[part], maps)
                for part in blocks(members.shape[1], piece)
            ]
        )

    count = len(maps.data)
    done = map_blocks(work, count, threads=threads_for(maps.readers))
    return np.concatenate(list(progress(done, "uncertainty", len(blocks(count)))))


def _means(members: Array, target: Array | None, maps: OpenedMembers) -> Array:
    pixels = (1, 2)
    nats = [found.mean(axis=pixels) for found in uncertainty(members)]
    wrong = np.full(len(nats[0]), np.nan)
    if target is not None:
        scored = (target != UNLABELLED) & (target != maps.data.classes.ignore)
        errors = (argmax(members.sum(axis=0)) != target) & scored
        count = scored.sum(axis=pixels)
        np.divide(errors.sum(axis=pixels), count, out=wrong, where=count > 0)
    return np.stack([*nats, wrong], axis=1).astype(np.float64)


def _entry(maps: OpenedMembers, values: dict[str, Array], place: int, rank: int) -> Document:
    return {
        "rank": rank,
        "id": maps.data.ids[place],
        "group": str(maps.data.group_names()[place]),
        **{name: number(round(float(values[name][place]), DECIMALS)) for name in MEASURES},
    }


def _unsure(maps: OpenedMembers, places: Array, entries: list[Document]) -> list[Unsure]:
    """Read the images to draw again: few, wherever they lie."""
    found = []
    for place, entry in zip(places.tolist(), entries, strict=False):
        one = slice(place, place + 1)
        members = stacked(maps.readers, one)
        entropy, mutual = uncertainty(members)
        masks = maps.data.masks
        found.append(
            Unsure(
                caption=_caption(entry),
                image=np.asarray(maps.data.images[place]),
                target=None if masks is None else np.asarray(masks[place]),
                pred=argmax(members.sum(axis=0))[0],
                entropy=entropy[0],
                mutual=mutual[0],
            )
        )
    return found


def _caption(entry: Document) -> str:
    nats = f"entropy {entry['entropy']:.2f}, mutual information {entry['mutual_information']:.2f}"
    wrong = "" if entry["wrong"] is None else f", {entry['wrong']:.0%} wrong"
    return f"{entry['rank']}. {entry['id']}: {nats}{wrong}"


def _spearman(values: Array, wrong: Array) -> float | None:
    """Return the rank correlation; None where there is no target, or one of them never varies."""
    known = ~np.isnan(wrong)
    if not known.any() or np.ptp(wrong[known]) == 0 or np.ptp(values[known]) == 0:
        return None
    return float(np.corrcoef(_ranks(values[known]), _ranks(wrong[known]))[0, 1])


def _ranks(values: Array) -> Array:
    """Return ranks, equal values at their mean rank; `scipy.stats` takes a second to import."""
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(times) - (times - 1) / 2)[place]
    return ranks
