"""COCO JSON: objects as polygons or run lengths, drawn into masks of one class per pixel.

A pixel belongs to a polygon if its centre lies inside, by the even-odd rule; the library
pycocotools may differ by pixels on the outline, since it draws on a grid of a fifth of a pixel.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadData, BadLabels, shorten
from evaluation.core.files import read_json
from evaluation.core.ragged import Size
from evaluation.core.types import Array
from members.data.file_tree import FileTree
from members.data.folder_pairs import split_of
from members.data.image_files import id_of
from members.data.layouts import SPLITS, TRAINING, Item, Layout, LayoutOptions

ENTRIES: dict[str, dict[str, tuple[type, ...]]] = {
    "images": {"id": (int, str), "file_name": (str,)},
    "categories": {"id": (int,), "name": (str,)},
    "annotations": {"image_id": (int, str), "category_id": (int,)},
}
"""What entries are known by, and its types."""

UNCOVERED, FIRST_CLASS = 0, 1
MAX_CATEGORIES = UNLABELLED - FIRST_CLASS
MAX_FILES = 100
"""Folders of more JSON files have one per image, which COCO has not."""

MAX_COORDINATE = 1e9
MAX_SHIFT = 60
"""Bits of a compressed run's length; none that fits an image has as many."""

REFUSE, SMALLEST = "refuse", "smallest"

Document = dict[str, Any]


def recognise(tree: FileTree, options: LayoutOptions) -> Layout | None:
    """Recognise JSON files with `images`, `annotations` and `categories`, one per split.

    Objects of one class are joined, those marked `iscrowd` are unlabelled, and pixels without an
    object are what `options.uncovered` says.

    Raises:
        BadData: objects without outlines, images that are missing, or an option that must be said.
    """
    documents = _documents(tree)
    if not documents:
        return None
    for file, document in documents.values():
        _check_entries(file, document)
    names = _categories(documents)
    if options.uncovered is None:
        raise BadData(
            f"{tree.root} holds COCO objects of {len(names)} classes; say what pixels without an"
            " object are: --uncovered background, or --uncovered unlabelled"
        )
    splits = {
        split: _items(tree, file, document, list(names), options.overlap or REFUSE)
        for split, (file, document) in documents.items()
    }
    values = tuple(range(FIRST_CLASS, FIRST_CLASS + len(names)))
    if options.uncovered == "background":
        known = Classes(("background", *names.values()))
    else:
        known = Classes(tuple(names.values()), values=values, unlabelled=(UNCOVERED, UNLABELLED))
    shown = ", ".join(path.name for path, _ in documents.values())
    why = f"COCO objects in {shown}; pixels without an object are {options.uncovered}"
    return Layout("coco", why, {s: splits[s] for s in SPLITS if s in splits}, known)


def _documents(tree: FileTree) -> dict[str, tuple[PurePosixPath, Document]]:
    documents: dict[str, tuple[PurePosixPath, Document]] = {}
    candidates = [file for file in tree.files if file.suffix.lower() == ".json"]
    if len(candidates) > MAX_FILES:
        return {}
    for file in candidates:
        try:
            document = read_json(tree.root / file)
        except BadData:
            continue
        if not isinstance(document, dict) or not document.keys() >= ENTRIES.keys():
            continue
        split = split_of(file) or TRAINING
        if split in documents:
            raise BadData(
                f"{tree.root} holds COCO files {documents[split][0].name} and {file.name} of"
                f" {split}; keep one (names tell the split: train, val, test)"
            )
        documents[split] = (file, document)
    return documents


def _check_entries(path: PurePosixPath, document: Document) -> None:
    """Refuse lists whose entries lack what they are known by, or have it twice."""
    for key, needed in ENTRIES.items():
        entries = document[key]
        if not isinstance(entries, list):
            raise BadData(f"{path}: {key} is {shorten(entries)}; expected a list of objects")
        for entry in entries:
            lacking = [
                name
                for name, kind in needed.items()
                if not isinstance(entry, dict) or type(entry.get(name)) not in kind
            ]
            if lacking:
                raise BadData(
                    f"{path}: {key} holds {shorten(entry, 100)}; expected"
                    f" {' and '.join(needed)} in each: {lacking[0]} is missing or of another type"
                )
        ids = [entry["id"] for entry in entries] if "id" in needed else []
        repeated = next((name for name, count in Counter(ids).items() if count > 1), None)
        if repeated is not None:
            raise BadData(f"{path}: {key} has id {repeated} twice; expected distinct ids")


def _categories(documents: Mapping[str, tuple[PurePosixPath, Document]]) -> dict[int, str]:
    """Return names by category id, in the order of the ids; the same in all files."""
    first = next(iter(documents.values()))[0]
    names: dict[int, str] = {}
    for path, document in documents.values():
        found = {category["id"]: category["name"] for category in document["categories"]}
        names = names or dict(sorted(found.items()))
        if found != names:
            raise BadData(f"{path} has other categories than {first}; expected the same")
        for annotation in document["annotations"]:
            if annotation["category_id"] not in names:
                raise BadData(
                    f"{path}: object {annotation.get('id')} is of category"
                    f" {annotation['category_id']}, which `categories` lacks; add the category or"
                    " remove the object"
                )
    if len(names) > MAX_CATEGORIES:
        raise BadData(f"{first} has {len(names)} categories; expected at most {MAX_CATEGORIES}")
    return names


def _items(
    tree: FileTree,
    path: PurePosixPath,
    document: Document,
    categories: Sequence[int],
    overlap: str,
) -> tuple[Item, ...]:
    if not document["images"]:
        raise BadData(f"{path} lists no images; expected one at least")
    objects: dict[Any, list[Document]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        if not annotation.get("segmentation"):
            raise BadData(
                f"{path}: object {annotation.get('id')} has a box and no outline, as for detection;"
                " expected `segmentation` for every object"
            )
        if annotation["image_id"] not in objects:
            raise BadData(
                f"{path}: object {annotation.get('id')} is of image {annotation['image_id']}, which"
                " `images` lacks; add the image or remove the object"
            )
        objects[annotation["image_id"]].append(annotation)
    files: dict[str, list[PurePosixPath]] = {}
    for file in tree.images:
        files.setdefault(file.name, []).append(file)
    items = []
    for image in document["images"]:
        name = PurePosixPath(image["file_name"])
        candidates = [f for f in files.get(name.name, []) if f"/{f}".endswith(f"/{name}")]
        near = [file for file in candidates if split_of(file) == split_of(path)]
        candidates = near if len(candidates) > 1 else candidates
        if len(candidates) != 1:
            found = f"{len(candidates)} files" if candidates else "no file"
            raise BadData(f"{path} names {name}, and there is {found} of that name; expected one")
        drawn = partial(draw, objects[image["id"]], tuple(categories), overlap, f"{path}: {name}")
        items.append(Item(id_of(name), tree.root / candidates[0], drawn))
    return tuple(items)


def draw(
    objects: Sequence[Document], categories: Sequence[int], overlap: str, where: str, size: Size
) -> Array:
    """Draw objects into a mask: 0 where there is none, else 1 + the index of their category.

    Args:
        objects: annotations of one image.
        categories: category ids in the order of the values.
        overlap: `refuse`, `smallest` or `last` of several classes wins.
        where: what errors call the image.
        size: of the image.

    Returns:
        uint8 (row, col); 255 under a crowd that no other object covers.

    Raises:
        BadLabels: objects of several classes overlap, or an outline cannot be drawn.

    Examples:
        >>> square = [[1, 1, 3, 1, 3, 3, 1, 3]]
        >>> draw([{"segmentation": square, "category_id": 7}], [7], "refuse", "a", (4, 4))
        array([[0, 0, 0, 0],
               [0, 1, 1, 0],
               [0, 1, 1, 0],
               [0, 0, 0, 0]], dtype=uint8)
    """
    areas = [_area(o["segmentation"], size, where) for o in objects]
    crowds = [bool(o.get("iscrowd")) for o in objects]
    mask = np.full(size, UNCOVERED, np.uint8)
    for area, crowd in zip(areas, crowds, strict=True):
        if crowd:
            mask[area] = UNLABELLED
    order = [index for index, crowd in enumerate(crowds) if not crowd]
    if overlap == SMALLEST:
        order.sort(key=lambda index: -int(areas[index].sum()))
    for index in order:
        value = FIRST_CLASS + categories.index(objects[index]["category_id"])
        covered = mask[areas[index]]
        if overlap == REFUSE and not np.isin(covered, (UNCOVERED, value, UNLABELLED)).all():
            pixels = int((~np.isin(covered, (UNCOVERED, value, UNLABELLED))).sum())
            raise BadLabels(
                f"{where}: objects of two classes overlap in {pixels} pixels; choose --overlap"
                " smallest, or --overlap last"
            )
        mask[areas[index]] = value
    return mask


def _area(segmentation: Any, size: Size, where: str) -> Array:
    """Return the pixels of an object, bool (row, col)."""
    try:
        if isinstance(segmentation, dict):
            given = segmentation.get("size")
            if given != list(size):
                raise BadLabels(f"{where}: runs of {shorten(given)}; its image is {size}")
            counts = segmentation.get("counts")
            return from_runs(decode(counts) if isinstance(counts, str) else counts, size)
        area = np.zeros(size, bool)
        for polygon in segmentation:
            if not isinstance(polygon, list) or len(polygon) % 2:
                raise ValueError(f"expected x and y in turn, found {shorten(polygon, 60)}")
            corners = np.array(polygon, np.float64).reshape(-1, 2)
            if not (np.abs(corners) <= MAX_COORDINATE).all():  # nor are they of NaN
                raise ValueError("corners far outside of any image")
            if len(corners) > 2:
                area |= fill(corners, size)
        return area
    except (TypeError, ValueError, OverflowError) as error:
        raise BadLabels(f"{where}: an outline cannot be drawn ({error}); correct it") from None


def fill(corners: Array, size: Size) -> Array:
    """Return the pixels whose centres lie in a polygon, by the even-odd rule; bool (row, col).

    Args:
        corners: x and y of each corner, in pixels from the outer corner of the first pixel.
        size: rows and columns.
    """
    rows, cols = size
    toggles = np.zeros((rows, cols + 1), np.int64)
    centres = np.arange(rows) + 0.5
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crossed = np.flatnonzero((np.minimum(y0, y1) <= centres) & (centres < np.maximum(y0, y1)))
        if len(crossed):
            x = x0 + (centres[crossed] - y0) * (x1 - x0) / (y1 - y0)
            toggles[crossed, np.ceil(x - 0.5).clip(0, cols).astype(int)] += 1
    return np.asarray(toggles[:, :cols].cumsum(axis=1) % 2 == 1)


def from_runs(counts: Any, size: Size) -> Array:
    """Return pixels from lengths of runs, off and on in turn, column by column; bool (row, col).

    Raises:
        ValueError: runs that do not fill the image.
    """
    if any(type(length) is not int or length < 0 for length in counts):
        raise ValueError("lengths of runs that are no whole numbers from 0")
    if sum(counts) != size[0] * size[1]:  # of Python's numbers, which do not overflow
        raise ValueError(f"runs of {sum(counts)} pixels in an image of {size[0] * size[1]}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(size, order="F")


def decode(text: str) -> list[int]:
    """Decode pycocotools' compressed runs: 5 bits per character, differences from the third on.

    Raises:
        ValueError: characters or lengths that no encoder writes.

    Examples:
        >>> decode("52203")
        [5, 2, 2, 2, 5]
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > MAX_SHIFT:
            raise ValueError("counts that are no compressed runs")
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value |= -1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
