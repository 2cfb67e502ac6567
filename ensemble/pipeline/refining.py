"""Refine the masks of a data file into a new file of the same layout."""

from pathlib import Path
from typing import Any

import numpy as np

from evaluation.ground.arrays import Array, Labels
from evaluation.ground.classes import UNLABELLED, Classes
from evaluation.ground.errors import BadData, BadSpec
from evaluation.ground.files import array_names, open_array, whole_file
from members.data import competition
from members.data.contents import LABELS, class_pixels
from members.data.dataset import DataSet
from members.data.load import load
from members.data.refine import refine
from members.data.sheet import write_sheet

SHOWN = 8

Document = dict[str, Any]


def refine_file(
    path: Path, *, out: Path, radius_px: int, max_std: float, rounds: int, preview: Path | None
) -> Document:
    """Grow the masks of a data set and write it as a new `.npz`.

    Arrays other than the masks are copied as they are. A folder becomes a general `.npz` (`images`,
    `masks`, `source`, `group` where known, `classes`).

    Args:
        path: see `members.data.load.load`.
        out: the file to write.
        radius_px: see `members.data.refine.grow`, like the next two.
        max_std: highest standard deviation of even ground, in grey levels.
        rounds: how many layers at most.
        preview: a PNG of the pictures that changed most, before and after; None for none.

    Returns:
        `out`, `pictures`, `changed` (pictures), `left_alone` (pictures with a mask shared by many),
        `anew` (pixels, in all and by class), and the share of `background` before and after.

    Raises:
        BadSpec: a file to write that exists, or is no `.npz`.
        BadData: an unlabelled set, or one that cannot be loaded.
    """
    check_new(path, "--out", out, ".npz")
    if preview is not None:
        check_new(path, "--preview", preview, ".png")
    sets = load(path)
    if "training" not in sets:
        raise BadData(f"{path} holds no masks; expected labelled pictures")
    data = sets["training"]
    masks = np.asarray(data.truth())
    refined, kept = refine(
        data.pictures,
        masks,
        ignore=data.classes.ignore,
        radius_px=radius_px,
        max_std=max_std,
        rounds=rounds,
    )
    with whole_file(out) as partial:
        np.savez_compressed(partial, allow_pickle=False, **_layout(path, data, refined))
    anew = (refined != masks).sum(axis=(1, 2))
    if preview is not None:
        _write_preview(preview, data, refined, anew)
    return {
        "out": str(out),
        "pictures": len(data),
        "changed": int((anew > 0).sum()),
        "left_alone": int((~kept).sum()),
        **_shares(masks, refined, data.classes),
    }


def as_text(document: Document) -> str:
    """Write the document of `refine_file` for people."""
    before, after = document["background"]["before"], document["background"]["after"]
    anew, changed = document["anew"], f"{document['changed']} of {document['pictures']} pictures"
    lines = [
        f"{document['out']}: {anew['pixels']} pixels labelled anew in {changed}",
        f"  background or unlabelled: {before:.2%} of the pixels before, {after:.2%} after",
    ]
    width = max(len(name) for name in anew["classes"])
    lines += [
        f"  {name:{width}}  {pixels:9d} pixels more" for name, pixels in anew["classes"].items()
    ]
    if document["left_alone"]:
        lines.append(f"  {document['left_alone']} outliers that share a mask were left alone")
    return "\n".join(lines)


def check_new(data: Path, option: str, target: Path, suffix: str) -> None:
    """Refuse to write over anything.

    Raises:
        BadSpec: another suffix, or a file that is there.
    """
    if target.resolve() == data.resolve():
        raise BadSpec(f"{option} {target} is the input, which stays as it is; name a new file")
    if target.suffix != suffix:
        raise BadSpec(f"{option} {target}; expected a name that ends in {suffix}")
    if target.exists():
        raise BadSpec(f"{option} {target} exists and is not overwritten; name a new file")


def _layout(path: Path, data: DataSet, masks: Labels) -> dict[str, Array]:
    if path.is_dir():
        arrays = {"images": data.pictures, "masks": masks, "source": np.array(data.ids)}
        arrays["classes"] = np.array(data.classes.names)
        return arrays if data.groups is None else {**arrays, "group": data.groups}
    arrays = {name: open_array(path, name) for name in array_names(path)}
    if competition.KEY in arrays:
        both = np.array(arrays[competition.KEY])
        both[:, 1] = masks
        return {**arrays, competition.KEY: both}
    return {**arrays, "masks": masks.astype(arrays["masks"].dtype)}


def _shares(masks: Labels, refined: Labels, classes: Classes) -> Document:
    before, after = (class_pixels(labels, LABELS).sum(axis=0) for labels in (masks, refined))
    background = [UNLABELLED] if classes.ignore is None else [UNLABELLED, classes.ignore]
    more = {classes.names[label]: int((after - before)[label]) for label in classes.scored}
    return {
        "anew": {"pixels": sum(more.values()), "classes": more},
        "background": {
            "before": float(before[background].sum() / before.sum()),
            "after": float(after[background].sum() / after.sum()),
        },
    }


def _write_preview(path: Path, data: DataSet, refined: Labels, anew: Array) -> None:
    places = np.argsort(-anew, kind="stable")[:SHOWN]
    write_sheet(
        path,
        data.pictures[places],
        {"mask": data.truth()[places], "refined": refined[places]},
        classes=data.classes,
        captions=[f"{data.ids[place]}: {anew[place]} pixels more" for place in places],
    )
