"""Pairs of images and masks, recognised by folder names and by the ends of file names.

One rule reads pairs of folders, trees by split, nested folders and pairs in one folder: a folder's
name may tell a split (`train`), a role (`masks`), both (`train_masks`), or be part of the name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from evaluation.core.errors import BadData, format_count
from members.data.file_tree import FileTree
from members.data.image_files import MASK_SUFFIXES, id_of
from members.data.layouts import MAX_SHOWN, TEST, TRAINING, VALIDATION, Item, Layout, LayoutOptions

IMAGE, MASK = "image", "mask"
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "inputs", "stillsraw")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "annot", "ann"),
    *("segmentationclass", "gt", "groundtruth", "targets", "labelapproved"),
)
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_FOLDERS)})(?![a-z])")
MASK_ENDINGS = (
    *("_mask", "_masks", "_label", "_labels", "_L", "_P", "_gt", "_seg", "_segmentation"),
    *("_annotation", "-mask", "-label"),
)
IMAGE_ENDINGS = ("", "_image", "_img", "_sat")
FILLERS = ("dir", "set", "data")


@dataclass(frozen=True)
class _File:
    path: PurePosixPath
    split: str | None
    role: str | None
    key: str
    where: str
    """The folder that told the role."""


def recognise(tree: FileTree, options: LayoutOptions) -> Layout | None:
    """Return the pairs of a folder, or its images alone; None where it holds no image file.

    With a list of ids, images without mask and masks without image may be there, too.

    Raises:
        BadData: pairs that are incomplete or could be read in two ways.
    """
    files = [_read_path(path) for path in tree.images]
    if not files:
        return None
    tree.check_nothing_left_out(tree.images)
    files = _by_endings(files)
    splits = _splits(tree, files)
    complete = options.ids is None
    paired = {split: _pair(tree, split, part, complete) for split, part in splits.items()}
    labelled = [s for s, items in paired.items() if any(i.mask is not None for i in items)]
    if not labelled:
        return _images_alone(tree, files, paired)
    if complete and TRAINING not in labelled and TRAINING in paired:
        raise BadData(
            f"{tree.root} holds masks of {', '.join(labelled)} and none of training images (first:"
            f" {paired[TRAINING][0].name}); give a folder whose training images have masks, or"
            " --images and --masks"
        )
    return Layout("pairs", _why(files), _ordered(paired))


def split_of(path: PurePosixPath) -> str | None:
    """Return the split that the last part of a path tells that tells one.

    Examples:
        >>> split_of(PurePosixPath("annotations/instances_val2017.json"))
        'validation'
    """
    for part in reversed(path.parts):
        found = SPLIT_WORD.search(part.lower())
        if found is not None:
            return SPLIT_FOLDERS[found[1]]
    return None


def _read_path(path: PurePosixPath) -> _File:
    split = role = None
    where = ""
    kept = []
    for part in path.parent.parts:
        meaning = _meaning(part)
        if meaning is None:
            kept.append(part)
            continue
        split = meaning[0] or split
        if meaning[1] is not None:
            role, where = meaning[1], part
    return _File(path, split, role, "/".join([*kept, id_of(path)]), where)


def _meaning(folder: str) -> tuple[str | None, str | None] | None:
    """Return the split and role that a folder's name tells; None where it is another name."""
    text = re.sub(r"^(train|val|test)(?=(annot|images?|imgs?|masks?|labels?)$)", r"\1_", folder)
    words = [word for word in re.split(r"[_\-. ]+", text.lower()) if word]
    split = role = None
    for word in words:
        if word in SPLIT_FOLDERS and split is None:
            split = SPLIT_FOLDERS[word]
        elif word in IMAGE_FOLDERS and role is None:
            role = IMAGE
        elif word in MASK_FOLDERS and role is None:
            role = MASK
        elif word not in FILLERS:
            return None
    return None if split is None and role is None else (split, role)


def _by_endings(files: list[_File]) -> list[_File]:
    """Give the role of a mask to files that are called like another one, and `_mask` or so."""
    keys = {(file.split, file.path.parent, file.key) for file in files if file.role != MASK}
    result = []
    for file in files:
        partner = None
        if file.role != MASK:
            for stem, ending in _without_ending(file.key):
                if any((file.split, file.path.parent, stem + e) in keys for e in IMAGE_ENDINGS):
                    partner = _File(file.path, file.split, MASK, file.key, f"*{ending}")
        result.append(partner or file)
    return result


def _without_ending(key: str) -> Iterable[tuple[str, str]]:
    for ending in MASK_ENDINGS:
        if key.endswith(ending) and len(key) > len(ending):
            yield key.removesuffix(ending), ending


def _splits(tree: FileTree, files: list[_File]) -> dict[str, list[_File]]:
    splits: dict[str | None, list[_File]] = {}
    for file in files:
        splits.setdefault(file.split, []).append(file)
    rest = splits.pop(None, None)
    named = {split: part for split, part in splits.items() if split is not None}
    if rest is None:
        return named
    # `train/` beside `masks/`, or `images/` beside `test_masks/`: halves of pairs.
    if TRAINING in named:
        raise BadData(
            f"{tree.root} holds {named[TRAINING][0].path} of training and {rest[0].path} of no"
            " split; move the latter away, or say which to read by --images and --masks"
        )
    return {TRAINING: rest, **named}


def _pair(tree: FileTree, split: str, files: list[_File], complete: bool) -> tuple[Item, ...]:
    images: dict[str, _File] = {}
    families: dict[str, dict[str, _File]] = {}
    for file in files:
        into = images
        if file.role == MASK:
            into = families.setdefault(file.where, {})
        if file.key in into:
            raise BadData(
                f"{tree.root} holds {_two_names(into[file.key].path, file.path)}; remove one, or"
                " say which to read by --images and --masks"
            )
        into[file.key] = file
    if not images:
        first = files[0].path
        raise BadData(
            f"{tree.root} holds masks ({first}) and no image of {split}; expected images/NAME.png"
            f" beside {first.parent}/NAME.png, or --images and --masks"
        )
    if len(families) > 1:
        both = " and ".join(f"{where} ({len(m)} files)" for where, m in families.items())
        globs = ", or ".join(_as_glob(next(iter(m.values())).path) for m in families.values())
        raise BadData(
            f"{tree.root}: masks of {split} may be {both}; choose by --images '...{{id}}...' and"
            f" --masks, here {globs}"
        )
    if not families:
        return tuple(Item(key, tree.root / file.path) for key, file in images.items())
    ((where, masks),) = families.items()
    named = _keys_of_images(images, masks)
    if complete:
        _check_pairs(tree, images, named, where)
    return tuple(
        Item(
            key,
            tree.root / file.path,
            tree.root / named[key].path if key in named else None,
        )
        for key, file in images.items()
    )


def _keys_of_images(images: Mapping[str, _File], masks: Mapping[str, _File]) -> dict[str, _File]:
    """Return masks by the keys of their images, where endings differ."""
    if images.keys() & masks.keys():
        return dict(masks)
    best = dict(masks)
    for ending in MASK_ENDINGS:
        for image_ending in IMAGE_ENDINGS:
            renamed = {
                key.removesuffix(ending) + image_ending if key.endswith(ending) else key: file
                for key, file in masks.items()
            }
            if len(renamed) == len(masks) and len(renamed.keys() & images.keys()) > len(
                best.keys() & images.keys()
            ):
                best = renamed
    return best


def _check_pairs(
    tree: FileTree, images: Mapping[str, _File], masks: Mapping[str, _File], where: str
) -> None:
    image_folder = next(iter(images.values())).where or "the folder"
    for names, has, lacks in (
        (images.keys() - masks.keys(), image_folder, where),
        (masks.keys() - images.keys(), where, image_folder),
    ):
        if names:
            first = ", ".join(sorted(names)[:MAX_SHOWN])
            example = next(iter(masks.values())).path
            raise BadData(
                f"{tree.root}: names in {has}/ that are not in {lacks}/: {len(names)} (first:"
                f" {first}); expected pairs of equal names (or ending in _mask, _label, _L, _gt);"
                " list the images to read by --ids, or pair them by --images and --masks, such as"
                f" {_as_glob(example)}"
            )


def _images_alone(
    tree: FileTree, files: list[_File], paired: Mapping[str, tuple[Item, ...]]
) -> Layout:
    _check_no_other_labels(tree, files)
    if len(paired) > 1:
        raise BadData(
            f"{tree.root} holds images of {', '.join(paired)} and no masks; expected masks beside"
            " the training images, or the folder of one set of images"
        )
    folders = sorted({str(file.path.parent) for file in files if file.role is None})
    if len(folders) > 1:
        raise BadData(
            f"{tree.root} holds images in {len(folders)} folders ({', '.join(folders[:MAX_SHOWN])})"
            " and no masks, like a set for classification; expected masks, or images alone by"
            f" --images '**/{{id}}{files[0].path.suffix}'"
        )
    (items,) = paired.values()
    return Layout("images", f"{format_count(len(items), 'image')} and no masks", {TEST: items})


def _check_no_other_labels(tree: FileTree, files: list[_File]) -> None:
    """Refuse images whose labels are boxes, or masks that lie in files of another kind."""
    read = {file.path for file in files}
    for path in tree.files:
        meanings = [_meaning(part) for part in path.parent.parts]
        if path not in read and any(meaning and meaning[1] == MASK for meaning in meanings):
            kind = ", boxes for detection" if path.suffix in (".txt", ".xml") else ""
            raise BadData(
                f"{tree.root / path.parent} holds {path.name}{kind}; expected a mask per image"
                f" ({', '.join(MASK_SUFFIXES)})"
            )
    for folder in tree.root.iterdir():
        meaning = _meaning(folder.name) if folder.is_dir() else None
        if meaning is not None and meaning[1] == MASK:
            raise BadData(
                f"{folder} holds no mask for {files[0].path}; expected pairs of equal names, or no"
                f" folder {folder.name}/ where there are no masks"
            )


def _two_names(first: PurePosixPath, second: PurePosixPath) -> str:
    if first.parent == second.parent:
        return f"{first.name} and {second.name}"
    return f"{first} and {second}"


def _as_glob(path: PurePosixPath) -> str:
    ending = next((ending for _, ending in _without_ending(path.stem)), "")
    return f"'{(path.parent / ('{id}' + ending + path.suffix)).as_posix()}'"


def _why(files: list[_File]) -> str:
    roles: dict[str, PurePosixPath] = {}
    for file in files:
        roles.setdefault(file.role or IMAGE, file.path)
    image, mask = (_as_glob(roles[role]) for role in (IMAGE, MASK))
    splits = sorted({file.path.parts[0] for file in files if file.split})
    by_split = f", splits in {', '.join(splits)}" if splits else ""
    return f"images such as {image} pair with masks such as {mask}{by_split}"


def _ordered(paired: Mapping[str, tuple[Item, ...]]) -> dict[str, tuple[Item, ...]]:
    return {s: paired[s] for s in (TRAINING, VALIDATION, TEST) if s in paired}
