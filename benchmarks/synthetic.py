"""Synthetic probability maps, in memory and as stores."""

from pathlib import Path

import numpy as np

from evaluation.core.classes import numbered
from evaluation.core.ragged import Extent
from evaluation.core.types import Array, Labels, Map, Maps
from members.codecs import StoreDtype
from members.store import ProbabilityStore

CLASSES, ROWS, COLS = 5, 64, 128
COARSE_PX = 8


def draw_maps(rng: np.random.Generator, images: int) -> Map:
    """Draw maps of one member that are smooth, as those of networks: 5 x 64 x 128."""
    coarse = rng.normal(0, 3, (images, CLASSES, ROWS // COARSE_PX, COLS // COARSE_PX))
    scores = coarse.astype(np.float32).repeat(COARSE_PX, axis=2).repeat(COARSE_PX, axis=3)
    scores += rng.normal(0, 0.2, scores.shape).astype(np.float32)
    np.exp(scores, out=scores)
    maps: Map = scores / scores.sum(axis=1, keepdims=True)
    return maps


def draw_members(members: int, images: int) -> Maps:
    """Draw maps of several members."""
    rng = np.random.default_rng(0)
    return np.stack([draw_maps(rng, images) for _ in range(members)])


def create_store(folder: Path, images: int, dtype: StoreDtype) -> ProbabilityStore:
    """Create an empty store; a map takes 82 KB as float16, 41 KB as uint8."""
    return ProbabilityStore.create(
        folder,
        ids=[str(number) for number in range(images)],
        classes=numbered(CLASSES, ignore=0),
        extent=Extent.uniform(len([str(number) for number in range(images)]), (ROWS, COLS)),
        seen=None,
        dtype=dtype,
    )


def draw_maps_of(rng: np.random.Generator, target: Labels, classes: int) -> Map:
    """Draw maps that are smooth, and name the right class of two thirds of the cells or so."""
    scores = rng.normal(0, 1.5, (len(target), classes, *cell_shape(target.shape)))
    scores = cells(scores.astype(np.float32), target.shape)
    scores += 2 * (target[:, None] == np.arange(classes)[:, None, None])
    np.exp(scores, out=scores)
    maps: Map = scores / scores.sum(axis=1, keepdims=True)
    return maps


def cell_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of cells that cover an image."""
    return -(-shape[-2] // COARSE_PX), -(-shape[-1] // COARSE_PX)


def cells(coarse: Array, shape: tuple[int, ...]) -> Array:
    """Repeat the value of each cell over its pixels, cut to the size of an image."""
    fine = coarse.repeat(COARSE_PX, axis=-2).repeat(COARSE_PX, axis=-1)
    return fine[..., : shape[-2], : shape[-1]]
