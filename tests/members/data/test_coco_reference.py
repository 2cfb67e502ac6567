"""COCO outlines and runs decoded as pycocotools decodes them, where that is installed."""

import numpy as np
import pytest

from evaluation.core.classes import UNLABELLED
from members.data import coco

reference = pytest.importorskip(
    "pycocotools.mask", reason="pycocotools is not installed: pip install 'ens[dev]'"
)

# Its arrays know no copy= yet, which NumPy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (24, 31)
RNG = np.random.default_rng(5)


def polygon():
    """Return a star of three to nine corners, x and y in turn."""
    centre, count = RNG.uniform(4, 20, 2), int(RNG.integers(3, 10))
    angles = np.sort(RNG.uniform(0, 2 * np.pi, count))
    radii = RNG.uniform(2, 12, count)
    corners = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return corners.clip(0, [SIZE[1], SIZE[0]]).ravel().tolist()


def drawn(*segmentations, crowd=(), categories=None):
    objects = [
        {"segmentation": s, "category_id": 1 + (categories or [0] * 9)[k], "iscrowd": k in crowd}
        for k, s in enumerate(segmentations)
    ]
    return coco.draw(objects, [1, 2], "last", "a", SIZE)


def pycocotools_mask(segmentation):
    if isinstance(segmentation, list):
        return reference.decode(reference.merge(reference.frPyObjects(segmentation, *SIZE)))
    if isinstance(segmentation["counts"], list):
        segmentation = reference.frPyObjects(segmentation, *SIZE)
    return reference.decode(segmentation)


def uncompressed(mask):
    """Return lengths of runs, off and on in turn, column by column."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": list(SIZE), "counts": [0, *lengths] if flat[0] else lengths}


def random_mask():
    return np.asfortranarray(RNG.random(SIZE) < RNG.uniform(0.1, 0.9), np.uint8)


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_decoded_alike_compressed_or_not(seed):
    mask = random_mask()
    compressed = {"size": list(SIZE), "counts": reference.encode(mask)["counts"].decode()}
    for segmentation in (compressed, uncompressed(mask)):
        np.testing.assert_array_equal(drawn(segmentation), mask)
        np.testing.assert_array_equal(pycocotools_mask(segmentation), mask)


def on_outline(mask):
    """Mark pixels whose neighbourhood holds pixels inside and outside."""
    padded = np.pad(mask, 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return windows.min(axis=(2, 3)) != windows.max(axis=(2, 3))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_joined_polygons_differ_by_pixels_of_the_outline_alone(parts):
    for _ in range(30):
        segmentation = [polygon() for _ in range(parts)]
        ours, theirs = drawn(segmentation) > 0, pycocotools_mask(segmentation) > 0
        different = ours != theirs
        assert not (different & ~on_outline(theirs) & ~on_outline(ours)).any()


def test_polygons_on_the_grid_are_filled_alike():
    segmentation = [[2, 3, 9, 3, 9, 8, 2, 8], [15, 1, 20, 1, 20, 22, 15, 22]]
    np.testing.assert_array_equal(drawn(segmentation), pycocotools_mask(segmentation))


def test_objects_of_one_class_are_joined_and_a_crowd_gives_way_to_objects():
    first, second, crowd = random_mask(), random_mask(), random_mask()
    result = drawn(*map(uncompressed, (first, second, crowd)), crowd=(2,))
    joined = (first | second).astype(bool)
    np.testing.assert_array_equal(result == 1, joined)
    np.testing.assert_array_equal(result == UNLABELLED, crowd.astype(bool) & ~joined)
