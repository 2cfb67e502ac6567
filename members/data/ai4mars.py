"""The AI4Mars tree: full NavCam images of Curiosity, cut into labelled tiles.

Labels there are 0 soil, 1 bedrock, 2 sand, 3 big rock and 255 where nobody drew; here 255 becomes
0, background, and each other label goes up by one.

Source: Swan et al., "AI4MARS: A Dataset for Terrain-Aware Autonomous Driving on Mars", CVPR
Workshops 2021, and the data set's own folders.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from evaluation.core.classes import MARS, UNLABELLED, Classes
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.files import atomic_file
from evaluation.core.progress import progress
from evaluation.core.types import Array
from members.data.dataset import DataSet, Size, resize_image, resize_mask
from members.data.image_folder import open_image
from members.data.npz_files import distinct

IMAGES = Path("images/edr")
ROVER_MASKS = Path("images/mxy")
RANGE_MASKS = Path("images/rng-30m")
LABELS = Path("labels/train")
BACKGROUND = 0
TERRAINS = len(MARS) - 1

# NLB_471625303EDR_F0442336NCAM00353M1: camera, clock, product EDR, then F, site (3) and drive (4).
NAME = re.compile(r"(?P<camera>[A-Z]{2}[A-Z_]_?\d{9})EDR_(?P<rest>(?P<group>[A-Z][0-9A-Z]{7})\w*)")


@dataclass(frozen=True)
class Cut:
    """How tiles are cut from images.

    Args:
        scale: tile pixels an image pixel, over 0 and up to 1.
        tile: rows and columns of a tile, in pixels.
        max_null: tiles with more than this share of unlabelled pixels are dropped.
        rover_mask: whether pixels that show the rover become background.
        range_mask: whether pixels further than 30 m away become background.
    """

    scale: Fraction = Fraction(1, 4)
    tile: Size = (64, 128)
    max_null: float = 0.75
    rover_mask: bool = True
    range_mask: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
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


def root(path: Path) -> Path | None:
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
        scale: see `Cut`, like the options after it.
        tile: rows and columns of a tile, in pixels.
        max_null: largest unlabelled share of a tile.
        rover_mask: whether the rover becomes background.
        range_mask: whether what is further than 30 m away becomes background.

    Returns:
        How many tiles were written.

    Raises:
        BadData: no such tree, a label without its image, a damaged file, or no tile left.
        BadLabels: a label outside 0 to 3 and 255.
    """
    if out.suffix != ".npz":
        raise BadData(f"{out} cannot be written; expected a name that ends in .npz")
    cut = Cut(Fraction(scale), tile, max_null, rover_mask, range_mask)
    images, masks, groups, sources = _joined(folder, cut)
    with atomic_file(out) as partial:
        np.savez_compressed(
            partial,
            images=images,
            masks=masks,
            group=groups,
            source=sources,
            classes=np.array(MARS.names),
        )
    return len(images)


def read(path: Path, classes: Classes | None, cut: Cut | None = None) -> dict[str, DataSet]:
    """Read a tree's tiles as a labelled set; ids are source and number.

    Raises:
        BadData: see `import_ai4mars`.
    """
    images, masks, groups, sources = _joined(path, Cut() if cut is None else cut)
    ids = distinct([str(source) for source in sources])
    data = DataSet(images[:, None], masks, ids, groups, MARS if classes is None else classes)
    return {"training": data}


def group_of(name: str) -> str:
    """Return site and drive of an image's name: images from one place look at the same ground.

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


def _joined(path: Path, cut: Cut) -> tuple[Array, Array, Array, Array]:
    folder = root(path)
    if folder is None:
        raise BadData(f"{path} lacks {IMAGES} or {LABELS}; expected an AI4Mars tree or its msl")
    parts = [part for part in _tiles(folder, cut) if len(part.images)]
    if not parts:
        raise BadData(
            f"{folder} gave no tile with at most {cut.max_null:.0%} unlabelled; allow more or use"
            " smaller tiles"
        )
    images = np.concatenate([part.images for part in parts])
    masks = np.concatenate([part.masks for part in parts])
    lengths = [len(part.images) for part in parts]
    groups = np.repeat(np.array([part.group for part in parts]), lengths)
    return images, masks, groups, np.repeat(np.array([part.source for part in parts]), lengths)


def _tiles(folder: Path, cut: Cut) -> Iterator[_Tiles]:
    labels = sorted((folder / LABELS).glob("*.png"))
    if not labels:
        raise BadData(f"{folder / LABELS} holds no .png file; expected labels of images")
    images = {file.stem: file for file in (folder / IMAGES).iterdir()}
    lacking = [file.stem for file in labels if file.stem not in images]
    if lacking:
        raise BadData(
            f"{len(lacking)} labels in {folder} have no image in {IMAGES} (first:"
            f" {lacking[0]}); expected images and labels of equal names"
        )
    for file in progress(labels, "cutting tiles", len(labels)):
        yield _cut(folder, images[file.stem], file, cut)


def _cut(folder: Path, image: Path, label: Path, cut: Cut) -> _Tiles:
    grey = np.asarray(open_image(image).convert("L"))
    target = _target(folder, label, grey.shape, cut)
    size = (round(grey.shape[0] * cut.scale), round(grey.shape[1] * cut.scale))
    images = tiled(resize_image(grey, size), cut.tile)
    masks = tiled(resize_mask(target, size), cut.tile)
    kept = (masks == BACKGROUND).mean(axis=(1, 2)) <= cut.max_null
    return _Tiles(images[kept], masks[kept], label.stem, group_of(label.stem))


def tiled(image: Array, tile: Size) -> Array:
    """Cut one image (row, col) into tiles (tile, row, col), row by row; the rest is dropped."""
    rows, cols = image.shape[0] // tile[0], image.shape[1] // tile[1]
    inside = image[: rows * tile[0], : cols * tile[1]]
    grid = inside.reshape(rows, tile[0], cols, tile[1]).swapaxes(1, 2)
    return grid.reshape(rows * cols, *tile)


def _target(folder: Path, label: Path, shape: tuple[int, ...], cut: Cut) -> Array:
    target = _grey(label, shape)
    strange = np.unique(target[(target >= TERRAINS) & (target != UNLABELLED)])
    if len(strange):
        raise BadLabels(
            f"{label} holds {strange[:3].tolist()}; expected 0 to {TERRAINS - 1}, or {UNLABELLED}"
        )
    target = np.where(target == UNLABELLED, BACKGROUND, target + 1).astype(np.uint8)
    for wanted, masks, product in (
        (cut.rover_mask, ROVER_MASKS, "MXY"),
        (cut.range_mask, RANGE_MASKS, "RNG"),
    ):
        mask = folder / masks / f"{label.stem.replace('EDR_', f'{product}_', 1)}.png"
        # Not every image has these masks: where there is none, nothing is masked.
        if wanted and mask.is_file():
            target[_grey(mask, shape) > 0] = BACKGROUND
    return target


def _grey(file: Path, shape: tuple[int, ...]) -> Array:
    grey = np.asarray(open_image(file))
    if grey.ndim == 3:
        grey = grey[..., 0]
    if grey.shape != shape:
        raise BadData(f"{file} is {grey.shape}, its image {shape}; expected the same size")
    return grey
