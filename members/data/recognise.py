"""Recognise how a data set lies on disk: layouts are tried in a fixed order, special ones first."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

from evaluation.core.errors import BadData, BadSpec, format_count, shorten
from evaluation.core.files import check_no_external_links
from evaluation.core.label_options import LabelOptions, read_colours
from members.data.file_tree import FileTree
from members.data.layouts import (
    DEFAULT_LAYOUT,
    MAX_SHOWN,
    TEST,
    TRAINING,
    Item,
    Layout,
    LayoutOptions,
    chosen_ids,
)

LAYOUTS = {
    "nnunet": "members.data.nnunet_folder:recognise",
    "huggingface": "members.data.huggingface_folder:recognise",
    "cityscapes": "members.data.known_sets:cityscapes",
    "voc": "members.data.known_sets:pascal_voc",
    "coco": "members.data.coco:recognise",
    "rle": "members.data.rle_table:recognise",
    "ade20k": "members.data.known_sets:ade20k",
    "camvid": "members.data.known_sets:camvid",
    "mmseg": "members.data.known_sets:mmsegmentation",
    "pairs": "members.data.folder_pairs:recognise",
}
"""Recognisers by name, `(tree, options) -> Layout | None`, in the order in which they are tried."""

EXPECTED = (
    "images/ beside masks/, NAME.png beside NAME_mask.png, a train/val/test tree, images alone or"
    " another layout of docs/data.md; --images and --masks read anything else"
)


def recognise(path: Path, options: LayoutOptions = DEFAULT_LAYOUT) -> Layout:
    """Return the layout of a folder.

    Args:
        path: the folder.
        options: what is said about it.

    Raises:
        BadData: none of the known layouts, one that is incomplete, or two readings.
        BadSpec: options that do not fit the folder.

    Examples:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "a_mask.png"):
        ...     _ = (root / name).write_bytes(b"")
        >>> recognise(root).why
        "images such as '{id}.png' pair with masks such as '{id}_mask.png'"
    """
    check_no_external_links(path)
    tree = FileTree.of(path)
    if options.images is None:
        layout = _layout_by_name(tree, options)
    else:
        layout = _layout_by_globs(tree, options.images, options)
    table = tree.colour_table
    if table is not None and not layout.colours:
        names, colours = read_colours(table)
        layout = replace(layout, colours=LabelOptions(names, colours=colours))
    return layout if options.ids is None else chosen_ids(layout, Path(options.ids))


def _layout_by_name(tree: FileTree, options: LayoutOptions) -> Layout:
    wanted = options.layout
    if wanted is not None and wanted not in LAYOUTS:
        raise BadSpec(f"--layout {shorten(wanted)}; known: {', '.join(LAYOUTS)}")
    for name in LAYOUTS if wanted is None else (wanted,):
        recogniser: Callable[[FileTree, LayoutOptions], Layout | None] = resolve_name(LAYOUTS[name])
        layout = recogniser(tree, options)
        if layout is not None:
            return layout
    found = ", ".join(sorted({file.parts[0] for file in tree.files})[:MAX_SHOWN]) or "nothing"
    if wanted is not None:
        raise BadData(f"{tree.root} holds {found} and no layout {wanted!r}; leave --layout out")
    raise BadData(f"{tree.root} holds {found}; expected {EXPECTED}")


def _layout_by_globs(tree: FileTree, image_glob: str, options: LayoutOptions) -> Layout:
    images = tree.matching(image_glob, "--images")
    why = f"{format_count(len(images), 'image')} by --images {image_glob}"
    if options.masks is None:
        return Layout("globs", why, {TEST: tuple(Item(*image) for image in images.items())})
    masks = tree.matching(options.masks, "--masks")
    if options.ids is None:
        for names, what in (
            (images.keys() - masks.keys(), "mask"),
            (masks.keys() - images.keys(), "image"),
        ):
            if names:
                raise BadData(
                    f"{tree.root}: {len(names)} ids have no {what} (first:"
                    f" {', '.join(sorted(names)[:MAX_SHOWN])}) among {len(images)} images by"
                    f" {image_glob} and {len(masks)} masks by {options.masks}; expected pairs:"
                    " correct the globs, or list the images to read by --ids"
                )
    items = tuple(Item(name, file, masks.get(name)) for name, file in images.items())
    return Layout("globs", f"{why}, masks by --masks {options.masks}", {TRAINING: items})
