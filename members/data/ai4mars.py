"""The AI4Mars tree: full NavCam images of Curiosity, cut into labelled tiles.

Labels there are 0 soil, 1 bedrock, 2 sand, 3 big rock and 255 where unlabelled; here 255 becomes
0, background, and each other label goes up by one.

Source: Swan et al., "AI4MARS: A Dataset for Terrain-Aware Autonomous Driving on Mars", CVPR
Workshops 2021, and the data set's own folders.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from evaluation.core.classes import MARS, UNLABELLED
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.files import atomic_file
from evaluation.core.progress import progress
from evaluation.core.ragged import Size
from evaluation.core.types import Array
from members.data.dataset import StoredSet, resize_image, resize_mask
from members.data.image_files import (
    MASK_SUFFIXES,
    list_files,
    read_image_uint8,
    read_mask,
    to_grey,
)
from members.data.npz_files import number_repeats

IMAGES = Path("images/edr")
ROVER_MASKS = Path("images/mxy")
RANGE_MASKS = Path("images/rng-30m")
LABELS = Path("labels/train")
BACKGROUND = 0
NUM_TERRAINS = len(MARS) - 1

# NLB_471625303EDR_F0442336NCAM00353M1: camera, clock, product EDR, then F, site (3) and drive (4).
NAME = re.compile(r"(?P<camera>[A-Z]{2}[A-Z_]_?\d{9})EDR_(?P<rest>(?P<group>[A-Z][0-9A-Z]{7})\w*)")


@dataclass(frozen=True)
class TileOptions:
    """How tiles are cut from images.

    Args:
        scale: tile pixels per image pixel, over 0 and up to 1.
        tile: rows and columns of a tile, in pixels.
        max_null: tiles with more than this share of unlabelled pixels are dropped.
        rover_mask: whether pixels that show the rover become background.
        range_mask: whether pixels farther than 30 m away become background.
    """

    scale: Fraction = Fraction(1, 4)
    tile: Size = (64, 128)
    max_null: float = 0.75
    rover_mask: bool = True
    range_mask: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.scale <= 1:
            raise BadData(f"scale {self.scale}; expected over 0 and up to 1, such as 1/4")
        if min(self.tile) < 1:
            raise BadData(f"tile {self.tile[0]}x{self.tile[1]}; expected at least 1x1")
        if not 0 <= self.max_null <= 1:
            raise BadData(f"largest unlabelled share {self.max_null}; expected 0 to 1")


@dataclass(frozen=True)
class _Tiles:
    images: Array
    masks: Array
    source: str
    group: str


def find_tree(path: Path) -> Path | None:
    """Return the folder that holds `images/edr` and `labels/train`: `path`, or `msl` in it."""
    for folder in (path, path / "msl"):
        if (folder / LABELS).is_dir() and (folder / IMAGES).is_dir():
            return folder
    return None


def import_ai4mars(
    folder: Path,
    out: Path,
    *,
    scale: Fraction | float = Fraction(1, 4),
    tile: Size = (64, 128),
    max_null: float = 0.75,
    rover_mask: bool = True,
    range_mask: bool = True,
) -> int:
    """Write a tree's tiles as a general `.npz`: images, masks, group, source, classes.

    Images are reduced by area and labels by the nearest pixel; tiles are cut from the top left
    corner, and what is left over at the right and bottom is dropped. The group is site and drive.

    Args:
        folder: the tree, or its `msl`.
        out: the `.npz` to write.
        scale: see `TileOptions`, like the options after it.
        tile: rows and columns.
        max_null: a share.
        rover_mask: applied or not.
        range_mask: applied or not.

    Returns:
        How many tiles were written.

    Raises:
        BadData: no such tree, a label without its image, a damaged file, or no tile left.
        BadLabels: a label outside 0 to 3 and 255.
    """
    if out.suffix != ".npz":
        raise BadData(f"{out} cannot be written; expected a name that ends in .npz")
    options = TileOptions(Fraction(scale), tile, max_null, rover_mask, range_mask)
    images, masks, groups, sources = _read_tiles(folder, options)
    with atomic_file(out) as partial:
        np.savez_compressed(
            partial,
            images=images,
            masks=masks,
            group=groups,
            source=sources,
            classes=np.array(MARS.names),
            ignore=np.array(MARS.names[BACKGROUND]),
        )
    return len(images)


def read(path: Path, options: TileOptions | None = None) -> dict[str, StoredSet]:
    """Read a tree's tiles as a labelled set; ids are source and number.

    Raises:
        BadData: see `import_ai4mars`.
    """
    images, masks, groups, sources = _read_tiles(path, options or TileOptions())
    ids = number_repeats([str(source) for source in sources])
    return {"training": StoredSet(images[:, None], masks, ids, groups, MARS)}


def group_of(name: str) -> str:
    """Return site and drive from an image's name: images from one place show the same terrain.

    Raises:
        BadData: another kind of name.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise BadData(
            f"image {name!r} has no site and drive in its name; expected a name like"
            " NLB_471625303EDR_F0442336NCAM00353M1"
        )
    return match["group"]


def _read_tiles(path: Path, options: TileOptions) -> tuple[Array, Array, Array, Array]:
    folder = find_tree(path)
    if folder is None:
        raise BadData(f"{path} lacks {IMAGES} or {LABELS}; expected an AI4Mars tree or its msl")
    parts = [part for part in _iterate_tiles(folder, options) if len(part.images)]
    if not parts:
        raise BadData(
            f"{folder} gave no tile with at most {options.max_null:.0%} unlabelled; allow more or"
            " use smaller tiles"
        )
    images = np.concatenate([part.images for part in parts])
    masks = np.concatenate([part.masks for part in parts])
    lengths = [len(part.images) for part in parts]
    groups = np.repeat(np.array([part.group for part in parts]), lengths)
    return images, masks, groups, np.repeat(np.array([part.source for part in parts]), lengths)


def _iterate_tiles(folder: Path, options: TileOptions) -> Iterator[_Tiles]:
    labels = list_files(folder / LABELS, MASK_SUFFIXES)
    if not labels:
        raise BadData(f"{folder / LABELS} holds no .png file; expected labels of images")
    # The archive has more products than these, of images that nobody has labelled too.
    images = list_files(folder / IMAGES, check_rest=False)
    exclusions = [
        (product, list_files(folder / masks, MASK_SUFFIXES, check_rest=False))
        for enabled, masks, product in (
            (options.rover_mask, ROVER_MASKS, "MXY"),
            (options.range_mask, RANGE_MASKS, "RNG"),
        )
        if enabled and (folder / masks).is_dir()
    ]
    missing = [name for name in labels if name not in images]
    if missing:
        raise BadData(
            f"{len(missing)} labels in {folder} have no image in {IMAGES} (first:"
            f" {missing[0]}); expected images and labels of equal names"
        )
    for name, file in progress(labels.items(), "cutting tiles", len(labels)):
        # Not every image has these masks: where there is none, nothing is masked.
        named = [(files, name.replace("EDR_", f"{product}_", 1)) for product, files in exclusions]
        excluded = [files[key] for files, key in named if key in files]
        yield _cut_image(images[name], file, excluded, options)


def _cut_image(image: Path, label: Path, excluded: Sequence[Path], options: TileOptions) -> _Tiles:
    grey = to_grey(read_image_uint8(image))
    target = _read_target(label, grey.shape, excluded)
    size = (round(grey.shape[0] * options.scale), round(grey.shape[1] * options.scale))
    images = cut_tiles(resize_image(grey, size), options.tile)
    masks = cut_tiles(resize_mask(target, size), options.tile)
    keep = (masks == BACKGROUND).mean(axis=(1, 2)) <= options.max_null
    return _Tiles(images[keep], masks[keep], label.stem, group_of(label.stem))


def cut_tiles(image: Array, tile: Size) -> Array:
    """Cut an image (row, col) into tiles (tile, row, col), row by row; the rest is dropped.

    Examples:
        >>> cut_tiles(np.arange(6).reshape(2, 3), (1, 2)).tolist()
        [[[0, 1]], [[3, 4]]]
    """
    rows, cols = image.shape[0] // tile[0], image.shape[1] // tile[1]
    inside = image[: rows * tile[0], : cols * tile[1]]
    grid = inside.reshape(rows, tile[0], cols, tile[1]).swapaxes(1, 2)
    return grid.reshape(rows * cols, *tile)


def _read_target(label: Path, shape: tuple[int, ...], excluded: Sequence[Path]) -> Array:
    target = _read_grey(label, shape)
    unknown = np.unique(target[(target >= NUM_TERRAINS) & (target != UNLABELLED)])
    if len(unknown):
        raise BadLabels(
            f"{label} holds {unknown[:3].tolist()}; expected 0 to {NUM_TERRAINS - 1}, or"
            f" {UNLABELLED}"
        )
    target = np.where(target == UNLABELLED, BACKGROUND, target + 1).astype(np.uint8)
    for mask in excluded:
        target[_read_grey(mask, shape) > 0] = BACKGROUND
    return target


def _read_grey(file: Path, shape: tuple[int, ...]) -> Array:
    grey = read_mask(file, first_channel=True)
    if grey.shape != shape:
        raise BadData(f"{file} is {grey.shape}, its image {shape}; expected the same size")
    return grey
