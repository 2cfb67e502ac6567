"""Data sets that are recognised by their folders and names, whose classes and groups are known.

Sources: the development kits of Pascal VOC 2012, Cityscapes (`labels.py`) and ADE20K (MIT Scene
Parsing), and CamVid as prepared for SegNet.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadData, format_count
from evaluation.core.text_files import read_lines
from members.data import folder_pairs
from members.data.file_tree import FileTree
from members.data.image_files import IMAGE_SUFFIXES, MASK_SUFFIXES, id_of
from members.data.layouts import MAX_SHOWN, TEST, TRAINING, VALIDATION, Item, Layout, LayoutOptions

DRIVE = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d+(?:_\w+)?")
CAMVID_COLOURS = {
    "Sky": "#808080",
    "Building": "#800000",
    "Pole": "#c0c080",
    "Road": "#804080",
    "Pavement": "#3c28de",
    "Tree": "#808000",
    "SignSymbol": "#c08080",
    "Fence": "#404080",
    "Car": "#400080",
    "Pedestrian": "#404000",
    "Bicyclist": "#0080c0",
}
CAMVID = Classes(
    tuple(CAMVID_COLOURS),
    colours=tuple(CAMVID_COLOURS.values()),
    unlabelled=(len(CAMVID_COLOURS), UNLABELLED),
)

CITYSCAPES_LABELS = {
    "road": (7, "#804080"),
    "sidewalk": (8, "#f423e8"),
    "building": (11, "#464646"),
    "wall": (12, "#66669c"),
    "fence": (13, "#be9999"),
    "pole": (17, "#999999"),
    "traffic light": (19, "#faaa1e"),
    "traffic sign": (20, "#dcdc00"),
    "vegetation": (21, "#6b8e23"),
    "terrain": (22, "#98fb98"),
    "sky": (23, "#4682b4"),
    "person": (24, "#dc143c"),
    "rider": (25, "#ff0000"),
    "car": (26, "#00008e"),
    "truck": (27, "#000046"),
    "bus": (28, "#003c64"),
    "train": (31, "#005064"),
    "motorcycle": (32, "#0000e6"),
    "bicycle": (33, "#770b20"),
}
CITYSCAPES_IDS = 34
VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
VOC_ID = re.compile(r"\d{4}_\d{6}")
VOC_LISTS = {"train": TRAINING, "val": VALIDATION, "test": TEST}
ADE20K_ID = re.compile(r"ADE_(train|val)_\d{8}")
ADE20K_CLASSES = 150


def cityscapes(tree: FileTree, _: LayoutOptions) -> Layout | None:
    """Recognise `leftImg8bit/SPLIT/CITY` beside `gtFine/SPLIT/CITY`; the city is the group.

    Masks of trainIds are taken where every image has one, else those of labelIds: both hold the
    same 19 classes. The masks of `test` are placeholders and are left out.
    """
    if not tree.has_folder("leftImg8bit"):
        return None
    masks = {file.as_posix(): tree.root / file for file in tree.files if file.parts[0] == "gtFine"}
    splits: dict[str, list[Item]] = {}
    images = [file for file in tree.images if file.parts[0] == "leftImg8bit"]
    kinds = ("labelTrainIds", "labelIds")
    kind = next((k for k in kinds if _city_masks(images, masks, k)), None)
    for file in images:
        folder = file.parts[1] if len(file.parts) > 2 else ""
        split = {"train": TRAINING, "val": VALIDATION, "test": TEST}.get(folder)
        if split is None:
            raise BadData(
                f"{tree.root / file}: expected leftImg8bit/SPLIT/CITY, where SPLIT is train, val or"
                " test; move it, or leave it out by --ids"
            )
        name = file.stem.removesuffix("_leftImg8bit")
        mask = None
        if split != TEST:
            if kind is None:
                raise BadData(
                    f"{tree.root / file} has no mask {_city_mask(file, kinds[1])}; expected one of"
                    " labelIds or labelTrainIds for every image of train and val"
                )
            mask = masks[_city_mask(file, kind)]
        group = name.partition("_")[0]
        splits.setdefault(split, []).append(Item(name, tree.root / file, mask, group))
    if not splits:
        return None
    found = f"beside gtFine/, masks of {kind}" if kind else "without masks"
    why = f"leftImg8bit/ {found}; 19 classes, the rest unlabelled"
    known = _cityscapes_classes(kind or kinds[0])
    return Layout("cityscapes", why, {s: tuple(items) for s, items in splits.items()}, known)


def _city_masks(images: Sequence[PurePosixPath], masks: dict[str, Path], kind: str) -> bool:
    wanted = [_city_mask(file, kind) for file in images if file.parts[1] != "test"]
    return bool(wanted) and all(mask in masks for mask in wanted)


def _city_mask(image: PurePosixPath, kind: str) -> str:
    name = image.stem.removesuffix("_leftImg8bit")
    return PurePosixPath("gtFine", *image.parts[1:-1], f"{name}_gtFine_{kind}.png").as_posix()


def _cityscapes_classes(kind: str) -> Classes:
    names, colours = tuple(CITYSCAPES_LABELS), tuple(c for _, c in CITYSCAPES_LABELS.values())
    if kind == "labelTrainIds":
        return Classes(names, colours=colours)
    values = tuple(value for value, _ in CITYSCAPES_LABELS.values())
    rest = tuple(value for value in range(CITYSCAPES_IDS) if value not in values)
    return Classes(names, colours=colours, values=values, unlabelled=(*rest, UNLABELLED))


def pascal_voc(tree: FileTree, _: LayoutOptions) -> Layout | None:
    """Recognise `JPEGImages` beside `SegmentationClass`, split by `ImageSets/Segmentation`.

    The 21 classes are those of VOC where the ids look like its own (`2007_000032`), or those of
    `class_names.txt`; 255 is unlabelled.
    """
    folders = {file.parent for file in tree.images if file.parent.name == "JPEGImages"}
    roots = [
        f.parent for f in folders if tree.has_folder((f.parent / "SegmentationClass").as_posix())
    ]
    if len(roots) != 1:
        if len(roots) > 1:
            shown = " and ".join(sorted(map(str, roots)))
            raise BadData(
                f"{tree.root} holds Pascal VOC sets in {shown}; give one of these folders"
            )
        return None
    root = tree.root / roots[0]
    images = _by_id(tree, roots[0] / "JPEGImages", IMAGE_SUFFIXES)
    masks = _by_id(tree, roots[0] / "SegmentationClass", MASK_SUFFIXES)
    files = {
        split: root / "ImageSets" / "Segmentation" / f"{name}.txt"
        for name, split in VOC_LISTS.items()
    }
    lists = {split: file for split, file in files.items() if file.is_file()}
    listed = {split: _voc_list(file, images) for split, file in lists.items()}
    _check_disjoint(lists, listed)
    splits = _voc_splits(root, listed or {TRAINING: sorted(masks)}, images, masks)
    by = f"by {', '.join(f.name for f in lists.values())}" if lists else "no lists, all with masks"
    return Layout(
        "voc",
        f"JPEGImages/ beside SegmentationClass/ ({by}); 255 is unlabelled",
        splits,
        _voc_classes(root, list(masks)),
    )


def _by_id(tree: FileTree, folder: PurePosixPath, suffixes: Collection[str]) -> dict[str, Path]:
    files = [file for file in tree.images if file.parent == folder]
    return {id_of(file): tree.root / file for file in files if file.suffix.lower() in suffixes}


def _voc_splits(
    root: Path,
    listed: Mapping[str, Sequence[str]],
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
) -> dict[str, tuple[Item, ...]]:
    splits = {}
    for split, names in listed.items():
        lacking = [name for name in names if name not in images or name not in masks]
        if lacking and split != TEST:
            raise BadData(
                f"{root}: {len(lacking)} of {len(names)} {split} images lack an image in"
                f" JPEGImages/ or a mask in SegmentationClass/ (first: {lacking[0]}); expected both"
            )
        if names:
            splits[split] = tuple(Item(name, images[name], masks.get(name)) for name in names)
    if not splits:
        raise BadData(
            f"{root}: no image is listed in ImageSets/Segmentation/, or has a mask of its name in"
            " SegmentationClass/; expected one at least"
        )
    return splits


def _check_disjoint(lists: Mapping[str, Path], listed: Mapping[str, Sequence[str]]) -> None:
    """Refuse an image of two splits: scores on it would be those of an image trained on."""
    split_of: dict[str, str] = {}
    for split, names in listed.items():
        for name in names:
            other = split_of.setdefault(name, split)
            if other != split:
                raise BadData(
                    f"{lists[split]} lists {name!r}, and so does {lists[other].name}; expected each"
                    " image in one of them"
                )


def _voc_list(file: Path, images: dict[str, Path]) -> list[str]:
    lines = read_lines(file, "one image per line")
    names = [line.split()[0] for line in lines if line.strip()]
    missing = [name for name in names if name not in images]
    if missing:
        raise BadData(
            f"{file} lists {format_count(len(missing), 'image')} that JPEGImages/ lacks (first:"
            f" {', '.join(missing[:MAX_SHOWN])}); add them or correct the list"
        )
    return names


def _voc_classes(root: Path, ids: Sequence[str]) -> Classes | None:
    own = root / "class_names.txt"
    if own.is_file():
        lines = [line.strip() for line in read_lines(own, "one class name per line")]
        return Classes(tuple(line for line in lines if line and line != "__ignore__"))
    if not all(VOC_ID.fullmatch(name) for name in ids):
        return None
    return Classes(VOC_NAMES, colours=tuple(_voc_colour(i) for i in range(len(VOC_NAMES))))


def _voc_colour(index: int) -> str:
    """Return VOC's colour: bit 3 k + c of the index is bit 7 - k of channel c."""
    channels = [sum(((index >> (3 * k + c)) & 1) << (7 - k) for k in range(3)) for c in range(3)]
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def ade20k(tree: FileTree, options: LayoutOptions) -> Layout | None:
    """Recognise pairs called `ADE_train_00000001`: 150 classes, 0 is unlabelled."""
    layout = _pairs_named(tree, options, ADE20K_ID)
    if layout is None:
        return None
    names = [str(value) for value in range(1, ADE20K_CLASSES + 1)]
    table = next((tree.root / f for f in tree.files if f.name == "objectInfo150.txt"), None)
    if table is not None:
        rows = [line.split("\t") for line in read_lines(table, "ADE20K's table of classes")]
        listed = [row[-1].split(",")[0].strip() for row in rows if row[0].strip().isdecimal()]
        if len(listed) == ADE20K_CLASSES:
            taken: set[str] = set()
            names = [
                name if name not in taken and not taken.add(name) else f"{name} {value}"  # type: ignore[func-returns-value]
                for value, name in enumerate(listed, 1)
            ]
    known = Classes(
        tuple(names), values=tuple(range(1, ADE20K_CLASSES + 1)), unlabelled=(0, UNLABELLED)
    )
    why = f"{layout.why}; names of ADE20K, 150 classes, 0 is unlabelled"
    return replace(layout, name="ade20k", why=why, known=known)


def camvid(tree: FileTree, options: LayoutOptions) -> Layout | None:
    """Recognise frames called after CamVid's four drives, which are the groups.

    Masks are those prepared for SegNet, 0 to 10 and 11 for void; with a table of colours
    (`label_colors.txt`) or codes (`codes.txt`) beside them, what that says.
    """
    layout = _pairs_named(tree, options, DRIVE)
    if layout is None:
        return None
    splits = {
        split: tuple(replace(item, group=_drive(item.name)) for item in items)
        for split, items in layout.splits.items()
    }
    codes = tree.root / "codes.txt"
    known: Classes | None = CAMVID
    says = "11 classes as prepared for SegNet, 11 is void; --classes says otherwise"
    if codes.is_file():
        lines = read_lines(codes, "one class name per line")
        names = tuple(line.strip() for line in lines if line.strip())
        known, says = Classes(names), "classes of codes.txt"
    elif tree.colour_table is not None:
        known, says = None, "classes of its table of colours"
    why = f"{layout.why}; names of CamVid's drives, which are the groups; {says}"
    return replace(layout, name="camvid", why=why, splits=splits, known=known)


def _drive(name: str) -> str:
    return name.rpartition("/")[2].partition("_")[0]


def _pairs_named(tree: FileTree, options: LayoutOptions, pattern: re.Pattern[str]) -> Layout | None:
    """Return a folder's pairs where every image is called so."""
    if not tree.images or not all(pattern.fullmatch(id_of(file)) for file in tree.images):
        return None
    return folder_pairs.recognise(tree, options)


def mmsegmentation(tree: FileTree, options: LayoutOptions) -> Layout | None:
    """Recognise `img_dir/SPLIT` beside `ann_dir/SPLIT`."""
    if not (tree.has_folder("img_dir") and tree.has_folder("ann_dir")):
        return None
    layout = folder_pairs.recognise(tree, options)
    if layout is None:
        return None
    return replace(layout, name="mmseg", why=f"img_dir/ beside ann_dir/: {layout.why}")
