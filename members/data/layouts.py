"""Layouts of data sets on disk: which mask, split and group an image has.

A recogniser (`members.data.recognise`) finds a `Layout`; `read_layout` reads its files. Paths may
hold anything, so nothing is guessed: whoever finds two readings refuses with both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadLabels, BadSpec, shorten
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.ragged import Size, stack_images
from evaluation.core.text_files import read_lines
from evaluation.core.types import Array
from members.data.colour_masks import read_mask_or_colours
from members.data.dataset import StoredSet
from members.data.group_names import group_names, group_table
from members.data.image_files import exif_orientation, id_of, is_in_colours, read_image

TRAINING, VALIDATION, TEST = "training", "validation", "test"
SPLITS = (TRAINING, VALIDATION, TEST)
MAX_SHOWN = 3

Drawn: TypeAlias = Callable[[Size], Array]
"""Draws the stored values of a mask, uint8 (row, col), of an image's size."""


@dataclass(frozen=True)
class Item:
    """One image of a layout.

    Args:
        name: path of the image without the folders and endings that tell split and role, such as
            `aachen/aachen_000000_000019`.
        image: its file, one file per channel, or a function that returns (row, col) or (row, col,
            channel).
        mask: file of stored values, or what draws them; None where the image is unlabelled.
        group: what the layout knows to belong together, such as a drive or a patient.
    """

    name: str
    image: Path | tuple[Path, ...] | Callable[[], Array]
    mask: Path | Drawn | None = None
    group: str | None = None


@dataclass(frozen=True)
class Layout:
    """A data set on disk, recognised.

    Args:
        name: one of `recognise.LAYOUTS`; `images` without masks, `globs` by `--images`.
        why: what it was recognised by.
        splits: the images of `training`, `validation` and `test`; what is there.
        known: the classes, where the layout tells them.
        colours: names and colours of masks in colours, where a file of the layout lists them.
    """

    name: str
    why: str
    splits: Mapping[str, tuple[Item, ...]]
    known: Classes | None = None
    colours: LabelOptions = field(default_factory=LabelOptions)

    def without_masks(self) -> "Layout":
        """Return the layout of the images alone."""
        splits = {
            split: tuple(replace(item, mask=None) for item in items)
            for split, items in self.splits.items()
        }
        return replace(self, splits=splits)


@dataclass(frozen=True)
class LayoutOptions:
    """What a user says about how a data set lies on disk; None leaves it to the data.

    Args:
        layout: the only layout to look for.
        images: glob of the images below the data set's folder, with `{id}` for what image and mask
            have in common.
        masks: glob of the masks.
        ids: text file with the images to read, one id, name or path per line.
        group_by: regular expression on names whose first (or named) group is the image's group, or
            `FILE.csv:COLUMN`.
        overlap: where COCO objects of several classes overlap: `refuse`, `smallest` or `last` wins.
        uncovered: what COCO pixels are that no object covers: `background` or `unlabelled`.
    """

    layout: str | None = None
    images: str | None = None
    masks: str | None = None
    ids: str | None = None
    group_by: str | None = None
    overlap: str | None = None
    uncovered: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        if self.masks is not None and self.images is None:
            raise BadSpec("--masks goes with --images: give globs for both, with {id} in them")
        for option, pattern in (("--images", self.images), ("--masks", self.masks)):
            if pattern is not None and "{id}" not in pattern:
                raise BadSpec(
                    f"{option} {shorten(pattern)}; expected {{id}} where the name of the image"
                    " stands, such as 'scans/{id}.tif'"
                )
        for option, value, known in (
            ("--overlap", self.overlap, ("refuse", "smallest", "last")),
            ("--uncovered", self.uncovered, ("background", "unlabelled")),
        ):
            if value is not None and value not in known:
                raise BadSpec(f"{option} {shorten(value)}; known: {', '.join(known)}")

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return self != LayoutOptions()

    @property
    def group_table(self) -> tuple[Path, str] | None:
        """File and column of a table of groups; None where they come from names."""
        return None if self.group_by is None else group_table(self.group_by)

    def updated(self, newer: "LayoutOptions") -> "LayoutOptions":
        """Return these options with what is said by newer ones replaced."""
        return replace(self, **{k: v for k, v in asdict(newer).items() if v is not None})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], where: str) -> "LayoutOptions":
        """Return the options of a mapping, as in an experiment's `layout`.

        Raises:
            BadSpec: unknown keys, or values that are no text.
        """
        known = [option.name for option in fields(cls)]
        for key, value in document.items():
            if key not in known:
                raise BadSpec(f"{where}: unknown key {shorten(key)}; known: {', '.join(known)}")
            if value is not None and not isinstance(value, str):
                raise BadSpec(f"{where}: {key} is {shorten(value)}; expected text")
        try:
            return cls(**document)
        except BadSpec as error:
            raise BadSpec(f"{where}: {error}") from None


DEFAULT_LAYOUT = LayoutOptions()


def read_layout(
    layout: Layout, labels: LabelOptions = NOTHING_SAID, group_by: str | None = None
) -> dict[str, StoredSet]:
    """Read the images and masks of a layout.

    Args:
        layout: what a recogniser found.
        labels: colours there are those of masks in colours.
        group_by: see `LayoutOptions`.

    Returns:
        The splits, by name; a split is labelled where all its images have masks.

    Raises:
        BadData: damaged files, images of several kinds, or images without masks.
        BadLabels: masks that hold no class indices, or are of another size than their image.
        BadSpec: groups that cannot be told.
    """
    table = labels if labels.colours else layout.colours
    known = layout.known
    if _are_in_colours(layout) and known is None and isinstance(table.names, tuple):
        known = table.without_data()
    sets = {}
    for split, items in layout.splits.items():
        _check_all_or_none(items, split)
        images = [_read_image(item) for item in items]
        masks = None
        if items[0].mask is not None:
            sizes = [image.shape[-2:] for image in images]
            masks = stack_images(
                [_read_mask(item, size, table) for item, size in zip(items, sizes, strict=True)]
            )
        groups = _groups(items, group_by)
        sets[split] = StoredSet(
            stack_images(_one_kind(images, items)), masks, _ids(items), groups, known
        )
    return sets


def chosen_ids(layout: Layout, path: Path) -> Layout:
    """Return a layout of the images that a file lists, in one set.

    A line holds an id, a name or the path of an image, and perhaps more words, such as the path of
    its mask.

    Raises:
        BadData: the file cannot be read, is empty, or lists what the layout lacks.
    """
    lines = read_lines(path, "a text file with one id per line")
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not wanted:
        raise BadData(f"{path} lists no ids; expected one per line")
    by_name: dict[str, list[Item]] = {}
    for items in layout.splits.values():
        for item, name in zip(items, _ids(items), strict=True):
            for key in {name, item.name, item.name.rpartition("/")[2]}:
                by_name.setdefault(key, []).append(item)
    chosen: dict[int, Item] = {}
    for line in wanted:
        found = _listed(line, by_name)
        if found is None:
            raise BadData(
                f"{path} lists {shorten(line)}, which the data lack; expected ids such as"
                f" {next(iter(by_name), 'none')!r}"
            )
        if len(found) > 1:
            raise BadData(
                f"{path} lists {shorten(line)}, which {len(found)} images are called; write"
                f" {found[0].name!r} or {found[1].name!r}"
            )
        chosen[id(found[0])] = found[0]
    items = tuple(chosen.values())
    split = TRAINING if any(item.mask is not None for item in items) else TEST
    return replace(layout, splits={split: items})


def _listed(line: str, by_name: Mapping[str, list[Item]]) -> list[Item] | None:
    first = line.split()[0]
    for text in (line, first):
        path = Path(text.lstrip("/"))
        stem = id_of(path)
        for key in (text, path.with_name(stem).as_posix(), stem):
            if key in by_name:
                return by_name[key]
    return None


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _groups(items: Sequence[Item], group_by: str | None) -> Array | None:
    if group_by is not None:
        return group_names([item.name for item in items], group_by)
    if all(item.group is None for item in items):
        return None
    return np.array([item.group or item.name for item in items], np.str_)


def _ids(items: Sequence[Item]) -> tuple[str, ...]:
    """Return the last parts of names where they differ, else whole names, without slashes."""
    short = tuple(_short(item.name) for item in items)
    if len(set(short)) == len(short):
        return short
    return tuple(item.name.replace("/", "-") for item in items)


def _are_in_colours(layout: Layout) -> bool:
    """Tell whether the masks of a layout are in colours; all of them must be, or none."""
    files = [i.mask for items in layout.splits.values() for i in items if isinstance(i.mask, Path)]
    kinds = {is_in_colours(file): file for file in reversed(files)}
    if len(kinds) > 1:
        raise BadLabels(
            f"{kinds[True]} is in colours and {kinds[False]} holds one value per pixel; expected"
            " class indices in all, or colours in all: choose by --ids or --masks"
        )
    return True in kinds


def _check_all_or_none(items: Sequence[Item], split: str) -> None:
    lacking = [item.name for item in items if item.mask is None]
    if lacking and len(lacking) < len(items):
        raise BadData(
            f"{len(lacking)} of {len(items)} {split} images have no mask (first:"
            f" {', '.join(lacking[:MAX_SHOWN])}); add the masks, or list the images to read by"
            " --ids"
        )


def _read_image(item: Item) -> Array:
    """Return (channel, row, col)."""
    if callable(item.image):
        pixels = item.image()
    elif isinstance(item.image, Path):
        pixels = read_image(item.image)
    else:
        channels = [read_image(file) for file in item.image]
        if len({(c.shape, c.dtype) for c in channels}) > 1 or channels[0].ndim > 2:
            raise BadData(
                f"the files of {item.name!r} differ in size or type; expected one channel each"
            )
        return np.stack(channels)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _read_mask(item: Item, size: Size, table: LabelOptions) -> Array:
    assert item.mask is not None
    if isinstance(item.mask, Path):
        mask = read_mask_or_colours(item.mask, table.colours)
    else:
        mask = item.mask(size)
    if mask.shape != size:
        turned = ""
        if isinstance(item.image, Path):
            orientation = exif_orientation(item.image)
            turned = f" after turning by its EXIF orientation {orientation}" * (orientation > 1)
        raise BadLabels(
            f"the mask of {item.name!r} is {mask.shape}, its image {size}{turned}; expected the"
            " same size"
        )
    return mask


def _one_kind(images: Sequence[Array], items: Sequence[Item]) -> list[Array]:
    """Return images of one number of channels and type; grey ones stored as colours are grey."""
    images = list(images)
    channels = {len(image) for image in images}
    if channels == {1, 3} and not any(
        len(image) == 3 and (image != image[:1]).any() for image in images
    ):
        images = [image[:1] for image in images]
    for what, kinds in (
        ("channels", [len(image) for image in images]),
        ("type", [str(image.dtype) for image in images]),
    ):
        if len(set(kinds)) > 1:
            other = next(i for i, kind in enumerate(kinds) if kind != kinds[0])
            if {*kinds} == {1, 3}:
                raise BadData(
                    f"the folder holds grey and RGB images ({items[0].name}, {items[other].name});"
                    " expected one kind: convert some, or choose by --ids"
                )
            raise BadData(
                f"images differ in {what}: {items[0].name} {kinds[0]}, {items[other].name}"
                f" {kinds[other]}; expected one kind: convert some, or choose by --ids"
            )
    return images
