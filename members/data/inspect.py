"""Describe a data set, and what looks wrong in it, before anything is trained on it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.arrays import evenly_spaced
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import format_count
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.ragged import Stack
from evaluation.core.types import Array
from evaluation.formatting import MANY_CLASSES, note_of_shown_classes, shown_classes
from members.data.cleaning.near_duplicates import duplicate_warning
from members.data.cleaning.rules import SHARED_BY, identical, shared_masks
from members.data.dataset import NUM_LABELS, DataSet, check_learnable, class_pixels
from members.data.layouts import DEFAULT_LAYOUT, LayoutOptions
from members.data.load_dataset import describe_layout, load_dataset

MAX_SHOWN = 5

FEW_IMAGES = 3
"""A class in fewer images cannot be in the training, the inner holdout and the held-out fold."""

MUCH_IGNORED = 0.25
"""From this share of the pixels on, an ignored class more likely is one that should be scored."""

MIN_IMAGES_OF_BORDERS, MAX_IMAGES_OF_BORDERS, MIN_CLASSES_OF_BORDERS = 20, 200, 4
"""Images of fewer classes say nothing about which class lies between the others, and in a few
images any class may."""

BORDER_SHARE, BORDER_MARGIN = 0.85, 0.1
"""A class without meaning lies between all others: in CamVid it touches 0.96 of an image's other
classes, the next among the small ones (poles) 0.75."""

VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "ignored", "unknown", "none", "null")

Description = dict[str, Any]
"""JSON values."""


def inspect_dataset(
    path: Path | str,
    *,
    labels: LabelOptions = NOTHING_SAID,
    layout: LayoutOptions = DEFAULT_LAYOUT,
) -> Description:
    """Describe a data set as a JSON document.

    Args:
        path: see `members.data.load_dataset.load_dataset`, like the options.
        labels: what is said about classes and values of masks.
        layout: what is said about how a folder lies on disk.

    Returns:
        `data`, `layout` (name and reason; None for a file), `warnings`, and for each set in
        `sets`: `images`, `channels`, `sizes`, `groups`, `levels` (grey), `identical_images`, and of
        labelled sets `classes` (share of pixels, images that hold it), `stored_values`,
        `unlabelled`, `shared_masks` and `warnings`.

    Raises:
        BadData, BadLabels: what cannot be loaded, or masks from which nothing can be learnt.
    """
    sets = load_dataset(path, labels=labels, layout=layout)
    for data in sets.values():
        if data.masks is not None:
            check_learnable(data)
    return {
        "data": str(path),
        "layout": describe_layout(Path(path), layout),
        "warnings": _warnings_across(sets),
        "sets": {name: _describe(data) for name, data in sets.items()},
    }


def format_inspection(description: Description) -> str:
    """Return the result of `inspect_dataset` as text."""
    lines = [description["data"]]
    if description["layout"] is not None:
        lines.append("layout {name}: {why}".format(**description["layout"]))
    for name, one_set in description["sets"].items():
        lines += ["", *_set_lines(name, one_set)]
    lines += [f"warning: {line}" for line in description["warnings"]]
    return "\n".join(lines)


def _warnings_across(sets: Mapping[str, DataSet]) -> list[str]:
    parts = [data for data in sets.values() if data.masks is not None]
    names = [name for name, data in sets.items() if data.masks is not None]
    if len(parts) < 2:
        return []
    part_of = np.repeat(np.arange(len(parts)), [len(data) for data in parts])
    where = f"of {names[0]}, in {' or '.join(names[1:])}"
    warning = duplicate_warning(parts, part_of, where, divided=True)
    return [warning] if warning else []


def _describe(data: DataSet) -> Description:
    # Image by image, so that a memory map larger than memory is no trouble.
    means = np.array([float(image.mean()) for image in data.images])
    description: Description = {
        "images": len(data),
        "channels": data.channels,
        "sizes": str(data.extent),
        "groups": None if data.groups is None else _describe_groups(data.groups),
        "levels": {"mean": means.mean(), "darkest": means.min(), "brightest": means.max()},
        "identical_images": [
            {"images": len(indices), "ids": [data.ids[index] for index in indices[:MAX_SHOWN]]}
            for indices in identical(data.images)
        ],
    }
    return description if data.masks is None else description | _describe_masks(data)


def _describe_groups(groups: Array) -> Description:
    _, sizes = np.unique(groups, return_counts=True)
    return {"number": len(sizes), "smallest": int(sizes.min()), "largest": int(sizes.max())}


def _describe_masks(data: DataSet) -> Description:
    masks = data.target()
    pixels = class_pixels(masks, NUM_LABELS)
    share, held = pixels.sum(axis=0) / pixels.sum(), (pixels > 0).sum(axis=0)
    names, ignore = data.classes.names, data.classes.ignore
    return {
        "stored_values": data.classes.describe_values(),
        "warnings": _warnings(data, share, held),
        "classes": [
            {
                "name": name,
                "scored": label != ignore,
                "share": float(share[label]),
                "images": int(held[label]),
            }
            for label, name in enumerate(names)
        ],
        "background": float(share[UNLABELLED] + (0 if ignore is None else share[ignore])),
        "unlabelled": {"share": float(share[UNLABELLED]), "images": int(held[UNLABELLED])},
        "shared_masks": [
            _describe_shared_mask(data, indices, constant)
            for constant in (False, True)
            for indices in shared_masks(masks, constant=constant)
        ],
    }


def _warnings(data: DataSet, share: Array, held: Array) -> list[str]:
    """Return what looks wrong about the classes; `share` and `held` are by label."""
    classes = data.classes
    warnings = [
        f"class {classes.names[label]!r} is scored; if it means that there is no label, give"
        f" --ignore {classes.names[label]!r}, or leave it out of the classes and give"
        f" --unlabelled {classes.values[label]}"
        for label in classes.scored
        if classes.names[label].lower() in VOID_NAMES
    ]
    ignore = classes.ignore
    if ignore is not None and share[ignore] > MUCH_IGNORED:
        warnings.append(
            f"{classes.names[ignore]!r}, {share[ignore]:.0%} of the pixels, is not scored; if it"
            " should be, give --ignore none"
        )
    for label, which in ((classes.scored[0], "first"), (classes.scored[-1], "last")):
        name, value = classes.names[label], classes.values[label]
        if name == str(value) and _lies_between_classes(
            data.target(), label, share[: len(classes)]
        ):
            warnings.append(
                f"class {name!r}, the {which}, covers {share[label]:.1%} and touches nearly all"
                " other classes of an image, as pixels without a label do; if it means that, give"
                f" --unlabelled {value}"
            )
    few = [classes.names[label] for label in classes.scored if held[label] < FEW_IMAGES]
    if few:
        warnings.append(f"in fewer than {FEW_IMAGES} images: {', '.join(few[:MAX_SHOWN])}")
    return warnings


def _lies_between_classes(masks: Stack, label: int, share: Array) -> bool:
    """Return whether a small class touches nearly all others of its images, unlike small others."""
    small = share < 1 / len(share)
    if not small[label]:
        return False
    touched = np.zeros(len(share))
    images = np.zeros(len(share), np.int64)
    for index in evenly_spaced(len(masks), MAX_IMAGES_OF_BORDERS):
        mask = np.asarray(masks[index])
        neighbours = _neighbours(np.where(mask < len(share), mask, len(share)), len(share))
        present = np.isin(np.arange(len(share)), mask)
        if present.sum() >= MIN_CLASSES_OF_BORDERS:
            touched[present] += neighbours[present].sum(axis=1) / (present.sum() - 1)
            images[present] += 1
    mean = touched / np.maximum(images, 1)
    others = small & (np.arange(len(share)) != label)
    highest = mean[others].max(initial=0)
    enough = images[label] >= MIN_IMAGES_OF_BORDERS
    return bool(enough and mean[label] >= max(BORDER_SHARE, highest + BORDER_MARGIN))


def _neighbours(mask: Array, classes: int) -> Array:
    """Return which classes touch which others in a mask, (class, class)."""
    pairs = [(mask[:, 1:], mask[:, :-1]), (mask[1:], mask[:-1])]
    cells = [(one.astype(np.int64) * (classes + 1) + other).ravel() for one, other in pairs]
    counts = np.bincount(np.concatenate(cells), minlength=(classes + 1) ** 2)
    table = counts.reshape(classes + 1, classes + 1)[:classes, :classes] > 0
    touches = table | table.T
    np.fill_diagonal(touches, val=False)
    return touches


def _describe_shared_mask(data: DataSet, indices: Array, constant: bool) -> Description:
    labels = [int(label) for label in np.unique(data.target()[indices[0]])]
    names = data.classes.names
    return {
        "images": len(indices),
        "constant": constant,
        "holds": [names[label] if label < len(names) else "unlabelled" for label in labels],
        "ids": [data.ids[index] for index in indices[:MAX_SHOWN]],
    }


def _set_lines(name: str, one_set: Description) -> Iterator[str]:
    channels = one_set["channels"]
    kind = {1: "grey ", 3: "colour "}.get(channels, "")
    more = "" if kind else f", {channels} channels"
    yield f"{name}: {format_count(one_set['images'], f'{kind}image')} of {one_set['sizes']}{more}"
    levels, groups, same = one_set["levels"], one_set["groups"], one_set["identical_images"]
    yield (
        f"  levels: mean {levels['mean']:.3g}, darkest image {levels['darkest']:.3g},"
        f" brightest {levels['brightest']:.3g}"
    )
    sizes = groups and f"{groups['smallest']} to {groups['largest']} images each"
    yield "  groups: none" if groups is None else f"  groups: {groups['number']}, {sizes}"
    if same:
        total, first = sum(entry["images"] for entry in same), " = ".join(same[0]["ids"][:2])
        yield f"  identical images: {total} in {len(same)} clusters (first: {first})"
    else:
        yield "  identical images: none"
    if "classes" in one_set:
        yield from _mask_lines(one_set)
    else:
        yield "  masks: none"


def _mask_lines(one_set: Description) -> Iterator[str]:
    scored = [entry["name"] for entry in one_set["classes"] if entry["scored"]]
    ignored = [entry["name"] for entry in one_set["classes"] if not entry["scored"]]
    rest = f", ... ({len(scored)})" if len(scored) > MANY_CLASSES else ""
    yield f"  scored: {', '.join(scored[:MANY_CLASSES])}{rest}"
    yield (
        f"  not scored: {', '.join(ignored) or 'no class'}; unlabelled pixels"
        f" ({one_set['unlabelled']['share']:.1%}); masks store {one_set['stored_values']}"
    )
    yield f"  ignored or unlabelled: {one_set['background']:.1%} of the pixels"
    width = max(len(entry["name"]) for entry in one_set["classes"])
    classes = one_set["classes"]
    yield from (
        f"  {line}" for line in note_of_shown_classes(len(classes), "share", "--json holds all")
    )
    for index in shown_classes([entry["share"] for entry in classes]):
        entry = classes[index]
        left_out = "" if entry["scored"] else ", not scored"
        yield (
            f"  {entry['name']:{width}}  {entry['share']:6.2%} of the pixels,"
            f" in {format_count(entry['images'], 'image')}{left_out}"
        )
    for entry in one_set["shared_masks"]:
        constant = entry["constant"]
        assessment = "one value, as many have" if constant else "outliers, as drawn outlines differ"
        yield (
            f"  one mask shared by {entry['images']} images ({', '.join(entry['holds'])};"
            f" first: {entry['ids'][0]}): {assessment}"
        )
    if not one_set["shared_masks"]:
        yield f"  masks shared by {SHARED_BY} images or more: none"
    yield from (f"  warning: {line}" for line in one_set["warnings"])
