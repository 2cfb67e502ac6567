"""The built-in sample: a small synthetic Mars data set, generated from a seed in seconds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from evaluation.core.classes import MARS
from evaluation.core.errors import BadData
from evaluation.core.files import atomic_file
from evaluation.core.ragged import Size
from evaluation.core.types import Array
from members.data.cleaning.rules import SHARED_BY
from members.data.dataset import DataSet
from members.data.terrain import BACKGROUND, SAND, SOIL, draw_scenes

IMAGES_PER_SCENE = 8
SCENES_AT_ONCE = 48
OUTLIER_SHARE = 0.04
DUPLICATE_SHARE = 0.02
MIN_SIDE_PX = 16


@dataclass(frozen=True, eq=False)
class SyntheticSample:
    """Arrays in the competition's layout, labelled validation images, and the planted problems.

    Args:
        training_set: images and masks, (image, 2, row, col).
        training_group: the scene each training image was cut from.
        test_set: images alone, (image, row, col), of other scenes.
        validation_images: images of other scenes again.
        validation_masks: their masks.
        validation_group: their scenes.
        outliers: indices of the training images that show a saucer and share one mask.
        duplicates: indices of training images that are nearly the same, (pair, 2).
    """

    training_set: UInt8[np.ndarray, "image 2 row col"]
    training_group: Shaped[np.ndarray, " image"]
    test_set: UInt8[np.ndarray, "test row col"]
    validation_images: UInt8[np.ndarray, "validation row col"]
    validation_masks: UInt8[np.ndarray, "validation row col"]
    validation_group: Shaped[np.ndarray, " validation"]
    outliers: Integer[np.ndarray, " outlier"]
    duplicates: Integer[np.ndarray, "pair 2"]

    def sets(self) -> dict[str, DataSet]:
        """Return `training`, `validation` and `test` as data sets, outliers included."""
        images, masks = self.training_set[:, :1], self.training_set[:, 1]
        return {
            "training": _dataset("train", images, masks, self.training_group),
            "validation": _dataset(
                "validation",
                self.validation_images[:, None],
                self.validation_masks,
                self.validation_group,
            ),
            "test": _dataset("test", self.test_set[:, None], None, None),
        }

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write `sample.npz`, the competition's layout, and `sample_validation.npz`."""
        training, validation = folder / "sample.npz", folder / "sample_validation.npz"
        with atomic_file(training) as partial:
            np.savez_compressed(
                partial,
                training_set=self.training_set,
                test_set=self.test_set,
                training_group=self.training_group,
            )
        with atomic_file(validation) as partial:
            np.savez_compressed(
                partial,
                images=self.validation_images,
                masks=self.validation_masks,
                group=self.validation_group,
            )
        return training, validation


def draw_sample(
    *,
    images: int = 360,
    test: int = 96,
    validation: int = 192,
    seed: int = 0,
    size: Size = (64, 128),
) -> SyntheticSample:
    """Generate a sample; the same seed gives the same bytes.

    Images are cut at random positions from scenes twice their size, eight per scene, so images of
    one group overlap in view. Four in a hundred training images are outliers, and two in a
    hundred are noisy copies of another; sets too small for ten outliers have neither.

    Args:
        images: how many training images, outliers and copies included.
        test: how many images without masks.
        validation: how many labelled images of other scenes.
        seed: random seed.
        size: rows and columns of an image, in pixels, at least 16 each.

    Raises:
        BadData: no images, or too small ones.

    Examples:
        >>> draw_sample(images=8, test=2, validation=2, size=(16, 16)).training_set.shape
        (8, 2, 16, 16)
    """
    if min(images, test, validation) < 1 or min(size) < MIN_SIDE_PX:
        raise BadData(
            f"a sample of {images}, {test} and {validation} images of {size[0]}x{size[1]};"
            f" expected at least 1 each of {MIN_SIDE_PX}x{MIN_SIDE_PX}"
        )
    streams = np.random.default_rng(seed).spawn(4)
    tiles, masks, groups = _tiles(images, size, streams[0], "scene")
    outliers, duplicates = _plant(tiles, masks, groups, streams[3])
    validation_images, targets, scenes = _tiles(validation, size, streams[1], "valley")
    return SyntheticSample(
        training_set=np.stack([tiles, masks], axis=1),
        training_group=groups,
        test_set=_tiles(test, size, streams[2], "plain")[0],
        validation_images=validation_images,
        validation_masks=targets,
        validation_group=scenes,
        outliers=outliers,
        duplicates=duplicates,
    )


def _dataset(stem: str, images: Array, masks: Array | None, groups: Array | None) -> DataSet:
    ids = tuple(f"{stem}-{index:05d}" for index in range(len(images)))
    return DataSet(images, masks, ids, groups, MARS)


def _tiles(
    count: int, size: Size, rng: np.random.Generator, stem: str
) -> tuple[Array, Array, Array]:
    """Cut `count` images from scenes, in random order: images, masks, names of scenes."""
    scenes = -(-count // IMAGES_PER_SCENE)
    scene_of = np.repeat(np.arange(scenes), IMAGES_PER_SCENE)[
        rng.permutation(scenes * IMAGES_PER_SCENE)
    ][:count]
    images, masks = np.empty((2, count, *size), np.uint8)
    for start in range(0, scenes, SCENES_AT_ONCE):
        batch = draw_scenes(min(SCENES_AT_ONCE, scenes - start), (2 * size[0], 2 * size[1]), rng)
        indices = np.flatnonzero((scene_of >= start) & (scene_of < start + SCENES_AT_ONCE))
        tops, lefts = (rng.integers(0, side + 1, len(indices)) for side in size)
        for index, top, left in zip(indices, tops, lefts, strict=True):
            window = np.s_[top : top + size[0], left : left + size[1]]
            images[index] = batch.images[scene_of[index] - start][window]
            masks[index] = batch.masks[scene_of[index] - start][window]
    return images, masks, np.array([f"{stem}-{scene:04d}" for scene in scene_of])


def _plant(
    images: Array, masks: Array, groups: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Replace some images by outliers and copies; return their indices."""
    outliers = max(SHARED_BY, round(OUTLIER_SHARE * len(images)))
    copies = max(1, round(DUPLICATE_SHARE * len(images)))
    if outliers + 2 * copies > len(images) // 2:
        return np.empty(0, np.int64), np.empty((0, 2), np.int64)
    chosen = rng.permutation(len(images))[: outliers + 2 * copies]
    outlier_indices, pairs = np.sort(chosen[:outliers]), chosen[outliers:].reshape(-1, 2)
    _paste_saucer(images, outlier_indices, rng)
    masks[outlier_indices] = _shared_mask(images.shape[1:])
    for first, second in pairs:
        shifted = images[first].astype(np.int16) + rng.integers(-2, 3, images.shape[1:])
        images[second] = np.clip(shifted + rng.integers(-3, 4), 0, 255)
        masks[second], groups[second] = masks[first], groups[first]
    return outlier_indices, pairs


def _paste_saucer(images: Array, indices: Array, rng: np.random.Generator) -> None:
    """Draw a bright saucer with portholes at a random position in each of these images."""
    _, rows, cols = images.shape
    y, x = np.mgrid[:rows, :cols]
    for index in indices:
        down = (y - rng.uniform(0.3, 0.6) * rows) / (0.2 * rows)
        across = (x - rng.uniform(0.25, 0.75) * cols) / (0.22 * cols)
        hull = (down / 0.6) ** 2 + across**2 < 1
        dome = ((down + 0.5) / 0.9) ** 2 + (across / 0.45) ** 2 < 1
        portholes = hull & (np.abs(down) < 0.22) & (np.mod(across, 0.4) < 0.16)
        images[index][dome] = 150
        images[index][hull] = 215
        images[index][portholes] = 10


def _shared_mask(size: tuple[int, ...]) -> Array:
    rows, cols = size
    mask = np.full((rows, cols), BACKGROUND, np.uint8)
    mask[2 * rows // 3 :] = SOIL
    mask[3 * rows // 4 : 7 * rows // 8, cols // 6 : cols // 2] = SAND
    return mask
