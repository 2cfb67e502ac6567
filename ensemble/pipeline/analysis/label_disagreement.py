"""Find training images whose masks contradict the models that did not see them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.candidates.fuse import Reader
from ensemble.pipeline.data.clean import check_new
from ensemble.pipeline.run.open_run import OOF, RunMembers
from evaluation.core.arrays import argmax
from evaluation.core.blocks import map_blocks
from evaluation.core.errors import BadMaps, BadRun, LeakageError
from evaluation.core.files import atomic_file
from evaluation.core.run_folder import Run
from evaluation.core.types import Array, Map
from members.data.contact_sheet import write_sheet
from members.data.dataset import DataSet
from members.data.label_disagreement import (
    Disagreement,
    among_scored,
    disagreement,
    joined,
)

ALL = "all"

Document = dict[str, Any]


def find_disagreements(
    run: Run, *, member: str = ALL, count: int, out: Path | None, sheet: Path | None
) -> Document:
    """Rank the training images by how strongly out-of-fold maps contradict their masks.

    Ranked by the mean probability that classes other than the mask's get on scored pixels. The maps
    are those of one member, or the mean over all members.

    Args:
        run: the experiment folder.
        member: of it, or `all`.
        count: how many images to list.
        out: a file for their ids, one a line; None for none.
        sheet: a PNG of image, mask and prediction; None for none.

    Returns:
        `measure`, `members`, `images` looked at, and the `top` images in order.

    Raises:
        BadRun: no out-of-fold maps.
        Leak: maps of a model that was trained on the image, or that does not say.
        BadSpec: a file to write that exists.
    """
    if out is not None:
        check_new(run.path, "--out", out, out.suffix)
    if sheet is not None:
        check_new(run.path, "--sheet", sheet, ".png")
    names, readers = _opened(RunMembers.of(run), member)
    data = DataSet.load(run.data(OOF))
    _check(names, readers, data)
    found = _measured(readers, data)
    order = np.argsort(-found.score, kind="stable")  # NaN, nothing to score, comes last
    places = order[: min(count, int((found.pixels > 0).sum()))]
    if out is not None:
        with atomic_file(out) as partial:
            partial.write_text("".join(f"{data.ids[place]}\n" for place in places), "utf-8")
    listed = [_entry(found, data, int(place)) for place in places]
    if sheet is not None:
        _write_sheet(sheet, readers, data, places, listed)
    return {
        "measure": "mean probability of other classes than the mask's on scored pixels",
        "members": list(names),
        "images": len(data),
        "top": listed,
    }


def as_text(document: Document) -> str:
    """Write the document of `find_disagreements` for people."""
    listed = document["top"]
    width = max([len("id"), *(len(entry["id"]) for entry in listed)])
    group = max([len("group"), *(len(entry["group"] or "") for entry in listed)])
    lines = [
        f"{document['images']} images, out-of-fold maps of {', '.join(document['members'])}",
        f"score: {document['measure']}",
        f"{'id':{width}}  {'group':{group}}  score  log-loss  wrong  pixels  main confusion",
    ]
    for entry in listed:
        confused = " -> ".join(entry["confusion"] or ["none"])
        lines.append(
            f"{entry['id']:{width}}  {entry['group'] or '':{group}}  {entry['score']:.3f}"
            f"  {entry['log_loss']:8.2f}  {entry['share']:5.0%}  {entry['pixels']:6d}  {confused}"
        )
    return "\n".join(lines)


def _opened(sources: RunMembers, member: str) -> tuple[list[str], list[Reader]]:
    names = [member]
    if member == ALL:
        names = [name for name in sources.names() if OOF in sources.splits(name)]
    if not names:
        raise BadRun(
            f"no member of {sources.run.path} has out-of-fold maps; run `ens train-members` first"
        )
    return names, [sources.open(name, OOF) for name in names]


def _check(names: Sequence[str], readers: Sequence[Reader], data: DataSet) -> None:
    for name, reader in zip(names, readers, strict=True):
        if reader.ids != data.ids:
            raise BadMaps(f"{name!r} has maps of other images than {OOF}; predict again")
        saw = reader.saw()
        if saw is None:
            raise LeakageError(
                f"{name!r} does not say which images it was trained on; expected out-of-fold"
                " maps; choose another --member"
            )
        if saw.any():
            raise LeakageError(
                f"{name!r} was trained on {int(saw.sum())} of these images and agrees with their"
                " masks; expected out-of-fold maps; choose another --member"
            )


def _mean_map(readers: Sequence[Reader], images: slice) -> Map:
    total = readers[0].read(images)
    for reader in readers[1:]:
        total = total + reader.read(images)
    return total / np.float32(len(readers))


def _measured(readers: Sequence[Reader], data: DataSet) -> Disagreement:
    masks, floor = data.target(), max(reader.floor for reader in readers)

    def measured(block: slice) -> Disagreement:
        maps, part = _mean_map(readers, block), np.asarray(masks[block])
        return disagreement(maps, part, classes=data.classes, floor=floor)

    return joined(list(map_blocks(measured, len(data))))


def _entry(found: Disagreement, data: DataSet, place: int) -> Document:
    confused = found.main_confusion(place)
    return {
        "id": data.ids[place],
        "group": None if data.groups is None else str(data.groups[place]),
        "score": float(found.score[place]),
        "log_loss": float(found.log_loss[place]),
        "share": float(found.share[place]),
        "pixels": int(found.pixels[place]),
        "confusion": confused and [data.classes.names[label] for label in confused],
    }


def _write_sheet(
    path: Path, readers: Sequence[Reader], data: DataSet, places: Array, listed: list[Document]
) -> None:
    maps = [_mean_map(readers, slice(int(place), int(place) + 1)) for place in places]
    pred = argmax(among_scored(np.concatenate(maps), data.classes))
    captions = [
        f"{entry['id']}: {entry['score']:.2f}, {' -> '.join(entry['confusion'] or [])}"
        for entry in listed
    ]
    columns = {"mask": np.asarray(data.target()[places]), "pred": pred}
    images = np.asarray(data.images[places])
    write_sheet(path, images, columns, classes=data.classes, captions=captions)
