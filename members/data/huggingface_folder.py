"""Data sets that Hugging Face `datasets` saved on disk (`save_to_disk`)."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.ragged import Size
from evaluation.core.types import Array
from members.data.file_tree import FileTree
from members.data.folder_pairs import SPLIT_FOLDERS
from members.data.layouts import SPLITS, TEST, TRAINING, Item, Layout, LayoutOptions

IMAGE_COLUMNS = ("image", "pixel_values", "img")
MASK_COLUMNS = ("label", "annotation", "mask", "segmentation_mask", "labels")
ID_COLUMNS = ("id", "file_name", "filename", "name")


def recognise(tree: FileTree, options: LayoutOptions) -> Layout | None:
    """Recognise `dataset_dict.json`, or `dataset_info.json` beside `state.json`.

    Raises:
        BadData: the library is missing, or columns of images cannot be told.
    """
    del options
    divided = (tree.root / "dataset_dict.json").is_file()
    single = (tree.root / "dataset_info.json").is_file() and (tree.root / "state.json").is_file()
    if not divided and not single:
        return None
    try:
        import datasets
    except ImportError:
        raise BadData(
            f"{tree.root} was saved by Hugging Face datasets, which is not installed; install it by"
            " `pip install 'ens[huggingface]'`"
        ) from None
    try:
        opened = datasets.load_from_disk(str(tree.root))
    except Exception as error:  # datasets and pyarrow have their own kinds
        raise BadData(
            f"{tree.root} cannot be read by Hugging Face datasets ({error}); save it again"
        ) from None
    splits: dict[str, tuple[Item, ...]] = {}
    for name, rows in opened.items() if divided else [("train", opened)]:
        split = SPLIT_FOLDERS.get(name)
        if split is None or split in splits:
            raise BadData(f"{tree.root} has a split {name!r}; expected train, validation or test")
        if len(rows):
            splits[split] = tuple(_items(rows, name))
    if not splits:
        raise BadData(f"{tree.root} holds no images; expected rows in a split")
    if TRAINING in splits and splits[TRAINING][0].mask is None and len(splits) == 1:
        splits = {TEST: splits[TRAINING]}
    why = f"saved by Hugging Face datasets, splits {', '.join(splits)}"
    return Layout("huggingface", why, {s: splits[s] for s in SPLITS if s in splits})


def _items(rows: Any, split: str) -> Iterator[Item]:
    columns = rows.column_names
    images = [name for name in IMAGE_COLUMNS if name in columns]
    masks = [name for name in MASK_COLUMNS if name in columns]
    if len(images) != 1 or len(masks) > 1:
        raise BadData(
            f"split {split!r} has columns {', '.join(columns)}; expected one of"
            f" {', '.join(IMAGE_COLUMNS)}, and at most one of {', '.join(MASK_COLUMNS)}"
        )
    ids = next((name for name in ID_COLUMNS if name in columns), None)
    names = [f"{split}-{index:05d}" for index in range(len(rows))]
    if ids is not None:
        names = [str(name) for name in rows[ids]]
    for index, name in enumerate(names):
        mask = partial(_mask, rows, index, masks[0]) if masks else None
        yield Item(name, partial(_image, rows, index, images[0]), mask)


def _cell(rows: Any, index: int, column: str) -> Any:
    try:
        return rows[index][column]
    except Exception as error:  # of datasets, pyarrow and Pillow
        raise BadData(f"{column} {index} cannot be decoded ({error}); save it again") from None


def _image(rows: Any, index: int, column: str) -> Array:
    stored = _cell(rows, index, column)
    if getattr(stored, "mode", "L") not in ("L", "RGB", "I;16", "F"):
        raise BadData(f"{column} {index} has mode {stored.mode}; expected grey or RGB")
    pixels = np.asarray(stored)
    if pixels.dtype not in (np.uint8, np.uint16, np.float32) or pixels.ndim not in (2, 3):
        raise BadData(
            f"{column} {index} is {pixels.dtype} of shape {pixels.shape}; expected an image of"
            " uint8, uint16 or float32"
        )
    return pixels


def _mask(rows: Any, index: int, column: str, size: Size) -> Array:
    del size  # compared by the caller
    stored = _cell(rows, index, column)
    if getattr(stored, "format", None) in ("JPEG", "WEBP"):
        raise BadLabels(f"{column} {index} is stored with loss ({stored.format}); expected PNG")
    labels = np.asarray(stored)
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise BadLabels(
            f"{column} {index} is {labels.dtype} of shape {labels.shape}; expected class indices,"
            " one per pixel"
        )
    outside = labels[(labels < 0) | (labels > UNLABELLED)]
    if len(outside):
        raise BadLabels(f"{column} {index} holds {outside[0]}; expected values from 0 to 255")
    return labels.astype(np.uint8)
