"""Clean a data set into a new file: leave images out, or refine masks.

Images to leave out are listed with their reasons on a page; refined masks keep the file's layout.
"""

from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadData, BadSpec
from evaluation.core.files import array_names, atomic_file, open_array
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.ragged import Stack
from evaluation.core.types import Array, Kept
from members.data import npz_files
from members.data.cleaning.id_lists import read_drop_list, read_id_list
from members.data.cleaning.page import NUM_STRANGEST, PAGE, check_page_folder, write_page
from members.data.cleaning.rules import (
    CleaningReport,
    Reason,
    Rules,
    check_one_size,
    check_output,
    find_drops,
    write_kept,
)
from members.data.contact_sheet import write_sheet
from members.data.dataset import NUM_LABELS, DataSet, class_pixels
from members.data.layouts import DEFAULT_LAYOUT, LayoutOptions
from members.data.load_dataset import load_dataset
from members.data.refine_masks import refine

Document = dict[str, Any]


def clean_data(
    path: Path,
    *,
    page: Path,
    rules: Rules,
    drop: Path | None = None,
    keep: Path | None = None,
    out: Path | None = None,
    labels: LabelOptions = NOTHING_SAID,
    layout: LayoutOptions = DEFAULT_LAYOUT,
) -> Document:
    """Find what to drop from the labelled images (or, without labels, from all of them).

    Args:
        path: the data set; it is never changed.
        page: folder of the page and the lists.
        rules: what counts as a reason.
        drop: list of ids to drop.
        keep: list of ids that no other reason may drop.
        out: the new file; None writes none.
        labels: what is said about classes and values of masks.
        layout: what is said about how the data lie on disk.

    Returns:
        A JSON document: counts, ids and words by reason, and where things lie.

    Raises:
        BadData: data, lists or names that cannot be used, or a class that would lose its last
            image.
    """
    if out is not None:
        check_output(out)
    check_page_folder(page)
    sets = load_dataset(path, labels=labels, layout=layout)
    data = sets.get("training") or sets["test"]
    listed, exempt = _lists(data, drop, keep)
    findings = find_drops(data, listed=listed, exempt=exempt, rules=rules)
    write_page(findings, path.name, page)
    if out is not None:
        write_kept(path, data, findings.kept, out)
    return _document(path, findings) | {
        "page": str(page / PAGE),
        "out": None if out is None else str(out),
    }


def format_cleaning(document: Document) -> str:
    """Format the result of `clean_data` as text."""
    dropped = document["images"] - document["kept"]
    lines = [f"{document['data']}: {dropped} of {document['images']} images to drop"]
    width = max(len(reason) for reason in document["counts"])
    for reason, count in document["counts"].items():
        first = document["ids"][reason][:1]
        example = f"  (first: {first[0]}: {document['why'][first[0]]})" if first else ""
        lines.append(f"  {reason:{width}}  {count:5}{example}")
    lines.append(f"page: {document['page']} (and dropped.csv, dropped.txt beside it)")
    if document["out"] is None:
        lines.append("nothing is written but the page; --apply --out FILE.npz writes the rest")
    else:
        lines.append(f"{document['out']}: {document['kept']} images")
    return "\n".join(lines)


def _lists(data: DataSet, drop: Path | None, keep: Path | None) -> tuple[Kept, Kept]:
    nothing = np.zeros(len(data), bool)
    listed = nothing if drop is None else ~read_drop_list(drop, data.ids)
    exempt = nothing if keep is None else read_id_list(keep, data.ids)
    both = np.flatnonzero(listed & exempt)
    if len(both):
        raise BadData(
            f"{data.ids[both[0]]} is both in {drop} and in {keep}; expected each id in one of them"
        )
    return listed, exempt


def _document(path: Path, findings: CleaningReport) -> Document:
    ids = findings.data.ids
    by_reason = {
        str(reason): [ids[drop.index] for drop in findings.drops_for(reason)] for reason in Reason
    }
    return {
        "data": str(path),
        "images": len(ids),
        "kept": int(findings.kept.sum()),
        "counts": {reason: len(dropped) for reason, dropped in by_reason.items()},
        "ids": by_reason,
        "why": {ids[drop.index]: drop.detail for drop in findings.drops},
        "strangest_kept": [
            {"id": ids[place], "score": float(findings.scores[place])}
            for place in findings.strangest_kept(NUM_STRANGEST)
        ],
    }


PREVIEW_IMAGES = 8


def refine_file(
    path: Path,
    *,
    out: Path,
    radius_px: int,
    max_std: float,
    rounds: int,
    preview: Path | None,
    labels: LabelOptions = NOTHING_SAID,
    layout: LayoutOptions = DEFAULT_LAYOUT,
) -> Document:
    """Grow the masks of a data set and write it as a new `.npz`.

    Arrays other than the masks are copied as they are. Masks become class indices, which `classes`
    and `ignore` describe. A folder becomes a general `.npz` (`images`, `masks`, `source`, `group`
    where known).

    Args:
        path: see `members.data.load_dataset.load_dataset`.
        out: the file to write.
        radius_px: see `members.data.refine_masks.grow`, like the next two.
        max_std: highest standard deviation of a homogeneous region, in grey levels.
        rounds: maximum number of layers.
        preview: a PNG of the images that changed most, before and after; None for none.
        labels: what is said about classes and values of masks.
        layout: what is said about how the data lie on disk.

    Returns:
        `out`, `images`, `changed` (images), `left_alone` (images with a mask shared by many),
        `newly_labelled` (pixels, in all and by class), and the share of `background` before and
        after.

    Raises:
        BadSpec: a file to write that exists, or is no `.npz`.
        BadData: an unlabelled set, or one that cannot be loaded.
    """
    check_new(path, "--out", out, ".npz")
    if preview is not None:
        check_new(path, "--preview", preview, ".png")
    data = _load_for_growing(path, labels, layout)
    masks = data.target()
    refined, kept = refine(
        data.images,
        masks,
        ignore=data.classes.ignore,
        radius_px=radius_px,
        max_std=max_std,
        rounds=rounds,
    )
    with atomic_file(out) as partial:
        np.savez_compressed(partial, allow_pickle=False, **_layout(path, data, refined))
    newly_labelled = np.concatenate(
        [(refined[block] != masks[block]).sum(axis=(1, 2)) for block in blocks(data.extent)]
    )
    if preview is not None:
        _write_preview(preview, data, refined, newly_labelled)
    return {
        "out": str(out),
        "images": len(data),
        "changed": int((newly_labelled > 0).sum()),
        "left_alone": int((~kept).sum()),
        **_shares(masks, refined, data.classes),
    }


def _load_for_growing(path: Path, labels: LabelOptions, layout: LayoutOptions) -> DataSet:
    """Load labelled images of one size and 8 bits.

    Raises:
        BadData: others.
    """
    sets = load_dataset(path, labels=labels, layout=layout)
    if "training" not in sets:
        raise BadData(f"{path} holds no masks; expected labelled images")
    data = sets["training"]
    check_one_size(data)
    if data.images.dtype != np.uint8:
        raise BadData(f"{path} has images of {data.images.dtype}; masks grow on images of 8 bits")
    return data


def format_refinement(document: Document) -> str:
    """Format the result of `refine_file` as text."""
    before, after = document["background"]["before"], document["background"]["after"]
    newly_labelled, changed = (
        document["newly_labelled"],
        f"{document['changed']} of {document['images']} images",
    )
    lines = [
        f"{document['out']}: {newly_labelled['pixels']} pixels newly labelled in {changed}",
        f"  ignored or unlabelled: {before:.2%} of the pixels before, {after:.2%} after",
    ]
    width = max(len(name) for name in newly_labelled["classes"])
    lines += [
        f"  {name:{width}}  {pixels:9d} pixels more"
        for name, pixels in newly_labelled["classes"].items()
    ]
    if document["left_alone"]:
        lines.append(f"  {document['left_alone']} outliers that share a mask were left alone")
    return "\n".join(lines)


def check_new(data: Path, option: str, target: Path, suffix: str) -> None:
    """Refuse to overwrite a file.

    Raises:
        BadSpec: another suffix, or a file that exists.
    """
    if target.resolve() == data.resolve():
        raise BadSpec(
            f"{option} {target} is the input, which must not be overwritten; name a new file"
        )
    if target.suffix != suffix:
        raise BadSpec(f"{option} {target}; expected a name that ends in {suffix}")
    if target.exists():
        raise BadSpec(f"{option} {target} already exists and is not overwritten; name a new file")


def _layout(path: Path, data: DataSet, masks: Stack) -> dict[str, Array]:
    if path.is_dir():
        arrays = {"images": data.images, "masks": masks, "source": np.array(data.ids)}
        arrays |= npz_files.class_arrays(data.classes)
        return arrays if data.groups is None else {**arrays, "group": data.groups}
    arrays = {name: open_array(path, name) for name in array_names(path)}
    if npz_files.COMPETITION_KEY in arrays:
        both = np.array(arrays[npz_files.COMPETITION_KEY])
        both[:, 1] = masks
        return {**arrays, npz_files.COMPETITION_KEY: both}
    return {**arrays, "masks": masks, **npz_files.class_arrays(data.classes)}


def _shares(masks: Stack, refined: Stack, classes: Classes) -> Document:
    before, after = (class_pixels(labels, NUM_LABELS).sum(axis=0) for labels in (masks, refined))
    background = [UNLABELLED] if classes.ignore is None else [UNLABELLED, classes.ignore]
    more = {classes.names[label]: int((after - before)[label]) for label in classes.scored}
    return {
        "newly_labelled": {"pixels": sum(more.values()), "classes": more},
        "background": {
            "before": float(before[background].sum() / before.sum()),
            "after": float(after[background].sum() / after.sum()),
        },
    }


def _write_preview(path: Path, data: DataSet, refined: Stack, newly_labelled: Array) -> None:
    indices = np.argsort(-newly_labelled, kind="stable")[:PREVIEW_IMAGES]
    write_sheet(
        path,
        [data.images[index] for index in indices],
        {
            "mask": [data.target()[index] for index in indices],
            "refined": [refined[index] for index in indices],
        },
        classes=data.classes,
        captions=[f"{data.ids[i]}: {newly_labelled[i]} pixels more" for i in indices],
    )
