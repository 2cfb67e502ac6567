"""Rank the pictures of a run by how unsure its members are together."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.diversity.subsets import threads_for
from ensemble.diversity.uncertainty import uncertainty
from ensemble.fuse import stacked
from ensemble.fusion import PIECE_VALUES
from ensemble.pipeline.ensemble_maps import EnsembleMaps, open_members
from ensemble.pipeline.sources import Sources
from ensemble.pipeline.uncertainty_sheet import Unsure, draw_sheet
from evaluation.ground.arrays import Array
from evaluation.ground.blocks import blocks, map_blocks
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadSpec
from evaluation.ground.files import whole_folder
from evaluation.ground.highest import highest
from evaluation.ground.layout import Run
from evaluation.ground.progress import progress
from evaluation.scores import number

RANKING, SHEET = "ranking.csv", "top.png"
DECIMALS = 6
MEASURES = ("entropy", "mutual_information", "wrong")

Document = dict[str, Any]


def rank_pictures(
    run: Run, *, split: str, out: Path, by: str, count: int, tell: Callable[[str], None]
) -> Document:
    """Write a folder with `ranking.csv` and `top.png`, the least sure pictures first.

    Measures are means over all pixels of a picture, scored or not, so that labelled and unlabelled
    splits are ranked alike; `wrong` is the share of the scored pixels where the mean errs.

    Args:
        run: the experiment folder.
        split: of the pictures.
        out: the folder; must not exist.
        by: what ranks, `entropy` or `mutual_information`, in nats.
        count: how many pictures to draw and to list.
        tell: gets a line for each member that is left out.

    Returns:
        A JSON document: `top` pictures, and `spearman`, the rank correlation of each measure with
        `wrong` over all pictures, None without truth.

    Raises:
        BadSpec: the folder exists.
        BadRun: no such split, or fewer than two members with maps.
        BadMaps: maps of other pictures.
        Leak: maps of pictures that a member was trained on.
    """
    if out.exists():
        raise BadSpec(f"--out {out} exists and is not overwritten; name a new folder")
    maps = open_members(Sources.of(run), split, tell)
    values = dict(zip(MEASURES, _measured(maps).T, strict=True))
    order = np.argsort(-values[by], kind="stable")
    entries = [_entry(maps, values, int(place), rank) for rank, place in enumerate(order, 1)]
    with whole_folder(out) as partial:
        with (partial / RANKING).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(entries[0]))
            writer.writeheader()
            writer.writerows(entries)
        draw_sheet(partial / SHEET, _unsure(maps, order[:count], entries), maps.data.classes)
    return {
        "split": split,
        "members": list(maps.names),
        "pictures": len(maps.data),
        "by": by,
        "out": str(out),
        "spearman": {name: _spearman(values[name], values["wrong"]) for name in MEASURES[:2]},
        "top": entries[:count],
    }


def as_text(document: Document) -> str:
    """Write the document of `rank_pictures` for people."""
    width = max([len("id"), *(len(entry["id"]) for entry in document["top"])])
    members = ", ".join(document["members"])
    lines = [
        f"{document['pictures']} pictures of {document['split']}, the mean of {members}; in nats",
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


def _measured(maps: EnsembleMaps) -> Array:
    """Return the measures of each picture, (picture, measure)."""
    _, *rest = maps.readers[0].size
    piece = max(1, PIECE_VALUES // int(np.prod(rest)))

    def work(block: slice) -> Array:
        members = stacked(maps.readers, block)
        truth = None if maps.data.masks is None else np.asarray(maps.data.masks[block])
        return np.concatenate(
            [
                _means(members[:, part], None if truth is None else truth[part], maps)
                for part in blocks(members.shape[1], piece)
            ]
        )

    count = len(maps.data)
    done = map_blocks(work, count, threads=threads_for(maps.readers))
    return np.concatenate(list(progress(done, "uncertainty", len(blocks(count)))))


def _means(members: Array, truth: Array | None, maps: EnsembleMaps) -> Array:
    pixels = (1, 2)
    nats = [found.mean(axis=pixels) for found in uncertainty(members)]
    wrong = np.full(len(nats[0]), np.nan)
    if truth is not None:
        scored = (truth != UNLABELLED) & (truth != maps.data.classes.ignore)
        errors = (highest(members.sum(axis=0)) != truth) & scored
        count = scored.sum(axis=pixels)
        np.divide(errors.sum(axis=pixels), count, out=wrong, where=count > 0)
    return np.stack([*nats, wrong], axis=1).astype(np.float64)


def _entry(maps: EnsembleMaps, values: dict[str, Array], place: int, rank: int) -> Document:
    return {
        "rank": rank,
        "id": maps.data.ids[place],
        "group": str(maps.data.group_names()[place]),
        **{name: number(round(float(values[name][place]), DECIMALS)) for name in MEASURES},
    }


def _unsure(maps: EnsembleMaps, places: Array, entries: list[Document]) -> list[Unsure]:
    """Read the pictures to draw again: few, wherever they lie."""
    found = []
    for place, entry in zip(places.tolist(), entries, strict=False):
        one = slice(place, place + 1)
        members = stacked(maps.readers, one)
        entropy, mutual = uncertainty(members)
        masks = maps.data.masks
        found.append(
            Unsure(
                caption=_caption(entry),
                picture=np.asarray(maps.data.pictures[place]),
                truth=None if masks is None else np.asarray(masks[place]),
                guess=highest(members.sum(axis=0))[0],
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
    """Return the rank correlation; None where there is no truth, or one of them never varies."""
    known = ~np.isnan(wrong)
    if not known.any() or np.ptp(wrong[known]) == 0 or np.ptp(values[known]) == 0:
        return None
    return float(np.corrcoef(_ranks(values[known]), _ranks(wrong[known]))[0, 1])


def _ranks(values: Array) -> Array:
    """Return ranks, equal values at their mean rank; `scipy.stats` takes a second to import."""
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(times) - (times - 1) / 2)[place]
    return ranks
