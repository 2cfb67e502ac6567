"""nnU-Net's raw folders: `dataset.json` beside `imagesTr`, `labelsTr` and `imagesTs`.

Images are `CASE_0000`, `CASE_0001`, ... with one file per channel; NIfTI volumes are read slice by
slice along the last axis, with the case as group.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.files import read_json
from evaluation.core.ragged import Size
from evaluation.core.types import Array
from members.data.file_tree import FileTree
from members.data.layouts import TEST, TRAINING, Item, Layout, LayoutOptions

DATASET, IGNORED = "dataset.json", "ignore"
FOLDERS = {TRAINING: ("imagesTr", "labelsTr"), TEST: ("imagesTs", "labelsTs")}
WHOLE = re.compile(r"(\d{1,9})(\.0)?")
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
NIFTI = (".nii", ".nii.gz")


def recognise(tree: FileTree, options: LayoutOptions) -> Layout | None:
    """Recognise `dataset.json` beside `imagesTr`; its labels are the classes.

    Raises:
        BadData: cases that lack a channel or a mask, regions, or NIfTI without nibabel.
    """
    del options
    if not (tree.root / DATASET).is_file() or not tree.has_folder("imagesTr"):
        return None
    document = read_json(tree.root / DATASET)
    known = classes_of(tree.root / DATASET, document)
    ending = str(document.get("file_ending") or _ending(tree))
    splits = {}
    for split, (images, masks) in FOLDERS.items():
        if tree.has_folder(images):
            items = tuple(_items(tree, images, masks, ending, required=split == TRAINING))
            if items:
                splits[split] = items
    if TRAINING not in splits:
        raise BadData(f"{tree.root}/imagesTr holds no CASE_0000{ending}; expected one per channel")
    why = f"{DATASET} beside imagesTr/ and labelsTr/, files {ending}"
    return Layout("nnunet", why, splits, known)


def _ending(tree: FileTree) -> str:
    first = next((file for file in tree.files if file.parts[0] == "imagesTr"), None)
    if first is None:
        raise BadData(f"{tree.root}/imagesTr holds no file; expected CASE_0000 per channel")
    return ".nii.gz" if first.name.endswith(".nii.gz") else first.suffix


def classes_of(path: Path, document: Any) -> Classes:
    """Return the classes that nnU-Net's `dataset.json` names, in the order of their numbers.

    Raises:
        BadData: no labels, or regions that overlap.
    """
    labels = document.get("labels") if isinstance(document, dict) else None
    if not isinstance(labels, dict) or not labels:
        raise BadData(f"{path} has no labels; expected names and numbers of the classes")
    if any(isinstance(value, list) for value in labels.values()):
        raise BadData(
            f"{path}: labels are regions that overlap; expected one number per class, since a pixel"
            " has one class here"
        )
    pairs = list(labels.items())
    if all(name.isdecimal() for name in labels):  # nnU-Net 1: number to name
        pairs = [(name, value) for value, name in pairs]
    whole = [(name, int(m[1])) for name, value in pairs if (m := WHOLE.fullmatch(str(value)))]
    if len(whole) < len(pairs):
        raise BadData(f"{path}: labels are no whole numbers from 0; expected one per class")
    ignored = [value for name, value in whole if name == IGNORED]
    classes = sorted((value, str(name)) for name, value in whole if name != IGNORED)
    values, names = [value for value, _ in classes], tuple(name for _, name in classes)
    if set(ignored) & set(values):
        raise BadData(f"{path}: {IGNORED!r} has the label of a class; expected one of its own")
    unlabelled = {*ignored, UNLABELLED} - set(values)
    return Classes(names, values=tuple(values), unlabelled=tuple(sorted(unlabelled)))


def _items(
    tree: FileTree, images: str, masks: str, ending: str, *, required: bool
) -> Iterator[Item]:
    channels: dict[str, dict[str, Path]] = {}
    for file in tree.files:
        match = CHANNEL.fullmatch(file.name.removesuffix(ending))
        if file.parts[0] == images and file.name.endswith(ending) and match is not None:
            channels.setdefault(match["case"], {})[match["channel"]] = tree.root / file
    expected = max((tuple(sorted(files)) for files in channels.values()), key=len, default=())
    for case, files in sorted(channels.items()):
        if tuple(sorted(files)) != expected:
            raise BadData(
                f"{tree.root / images}: case {case!r} has channels {', '.join(sorted(files))};"
                f" expected {', '.join(expected)}, as others have"
            )
        mask = tree.root / masks / f"{case}{ending}"
        if not mask.is_file():
            if required:
                raise BadData(f"{mask} is missing; expected a mask for each case of {images}/")
            mask = None  # type: ignore[assignment]
        paths = tuple(files[channel] for channel in expected)
        if ending in NIFTI:
            yield from _slices(case, paths, mask)
        else:
            yield Item(case, paths[0] if len(paths) == 1 else paths, mask, case)


def _slices(case: str, images: tuple[Path, ...], mask: Path | None) -> Iterator[Item]:
    shape, *others = (volume_shape(file) for file in (*images, *([] if mask is None else [mask])))
    for file, other in zip((*images[1:], mask), others, strict=False):
        if other != shape:
            raise BadData(
                f"{file} has shape {other}; expected {shape}, as {images[0]}: the files of a case"
                " show the same slices"
            )
    for index in range(shape[2]):
        drawn = None if mask is None else partial(_mask_slice, mask, index)
        name = case if shape[2] == 1 else f"{case}_{index:04d}"
        yield Item(name, partial(_image_slice, images, index), drawn, case)


def _image_slice(files: tuple[Path, ...], index: int) -> Array:
    slices = [_slice(file, index).astype(np.float32, copy=False) for file in files]
    return slices[0] if len(slices) == 1 else np.stack(slices, axis=-1)


def _mask_slice(file: Path, index: int, size: Size) -> Array:
    del size  # compared when the case was listed
    values = _slice(file, index)
    labels = values.round()
    if (values != labels).any() or labels.min(initial=0) < 0 or labels.max(initial=0) > UNLABELLED:
        raise BadLabels(f"{file} holds other than whole numbers 0 to 255; expected class values")
    return labels.astype(np.uint8)


def source_volume(root: Path, case: str) -> Path:
    """Return the first channel of a case, whose geometry its labels have.

    Raises:
        BadData: it is missing, or no NIfTI.
    """
    ending = str(read_json(root / DATASET).get("file_ending", ".nii.gz"))
    if ending not in NIFTI:
        raise BadData(f"{root} holds {ending} images; expected NIfTI, whose geometry labels have")
    for images, _ in FOLDERS.values():
        file = root / images / f"{case}_0000{ending}"
        if file.is_file():
            return file
    raise BadData(f"{root} has no image {case}_0000{ending}; restore it")


def volume_shape(file: Path) -> tuple[int, int, int]:
    """Return rows, columns and slices of a volume; one slice for an image of two axes."""
    shape = open_volume(file).shape
    if len(shape) not in (2, 3):
        raise BadData(f"{file} has shape {shape}; expected two or three axes")
    return (*shape, 1)[:3]


def _slice(file: Path, index: int) -> Array:
    volume = open_volume(file)
    try:
        values = np.asarray(volume.dataobj[(slice(None), slice(None), index)[: len(volume.shape)]])
    except Exception as error:  # nibabel and gzip have their own kinds
        raise BadData(f"{file} is no readable NIfTI file ({error}); restore it") from None
    if values.dtype.kind not in "iuf":
        raise BadData(f"{file} holds {values.dtype}; expected numbers, one per voxel")
    return values


def open_volume(file: Path) -> Any:
    """Open a NIfTI volume.

    Raises:
        BadData: nibabel is not installed, or no such volume.
    """
    try:
        import nibabel
    except ImportError:
        raise BadData(
            f"{file} is NIfTI, which needs nibabel; install it by `pip install 'ens[nifti]'`"
        ) from None
    try:
        return nibabel.load(file)
    except Exception as error:  # nibabel raises many kinds for damaged files
        raise BadData(f"{file} is no readable NIfTI file ({error}); restore it") from None
