"""Images of several sizes read as a list of them would."""

import numpy as np
import pytest

from evaluation.core.errors import BadData
from evaluation.core.files import create_stack, open_stack
from evaluation.core.ragged import Extent, Ragged, map_stack

SIZES = ((2, 3), (2, 3), (4, 2), (2, 3), (5, 1), (5, 1))
IMAGES = [
    np.random.default_rng(number).integers(0, 255, (2, *size)) for number, size in enumerate(SIZES)
]
RAGGED = Ragged([np.stack(IMAGES[:2]), IMAGES[2][None], IMAGES[3][None], np.stack(IMAGES[4:])])


@pytest.mark.parametrize(
    "key",
    [
        *(slice(0, 2), slice(1, 4), slice(None), slice(None, None, -1), slice(0, 6, 2)),
        *(slice(4, 6), slice(3, 3), slice(9, 12)),
        *([5, 0, 2], [], [True, False, True, False, False, True]),
    ],
    ids=str,
)
def test_any_selection_gives_the_images_of_a_list(key):
    index = key if isinstance(key, slice) else np.array(key, None if len(key) else np.intp)
    expected = np.arange(len(IMAGES))[index]
    chosen = RAGGED[index]
    assert len(chosen) == len(expected)
    for image, number in zip(chosen, expected, strict=True):
        np.testing.assert_array_equal(image, IMAGES[number])


@pytest.mark.parametrize("image", [0, 3, 5, -1, np.int64(2)])
def test_one_image_has_its_own_size(image):
    np.testing.assert_array_equal(RAGGED[image], IMAGES[image])
    with pytest.raises(IndexError):
        RAGGED[len(IMAGES)]


def test_an_extent_has_no_image_beyond_its_last():
    assert RAGGED.extent.size_of(5) == (5, 1)
    for image in (6, -1):
        with pytest.raises(IndexError, match=f"image {image} of 6"):
            RAGGED.extent.size_of(image)


def test_images_of_several_sizes_never_become_one_array():
    with pytest.raises(TypeError, match=r"images of 3 sizes, .*; work on one size at a time"):
        np.asarray(RAGGED)


def test_a_function_of_the_images_keeps_their_sizes():
    doubled = map_stack(lambda images: 2 * images, RAGGED)
    assert doubled.extent == RAGGED.extent
    np.testing.assert_array_equal(doubled[4], 2 * IMAGES[4])
    np.testing.assert_array_equal(map_stack(np.negative, RAGGED[:2]), -RAGGED[:2])


@pytest.mark.parametrize("sizes", [SIZES, SIZES[:2]])
def test_a_stack_on_disk_gives_what_was_flushed_and_refuses_another_extent(tmp_path, sizes):
    file, extent = tmp_path / "stack.npy", Extent.of_sizes(sizes)
    stack = create_stack(file, dtype=np.int64, extent=extent, channels=(2,))
    for image in range(len(sizes)):
        stack[image : image + 1] = IMAGES[image][None]
    stack.flush()
    read = open_stack(file, extent, (2,))
    for image in range(len(sizes)):
        np.testing.assert_array_equal(read[image], IMAGES[image])
    with pytest.raises(BadData, match=r"has shape \(.*\); expected \(.*,\); write it again"):
        open_stack(file, Extent.of_sizes([*sizes, (3, 3)]), (2,))


def test_flushing_arrays_in_memory_leaves_their_values():
    before = [np.array(image) for image in RAGGED]
    RAGGED.flush()
    for image, expected in zip(RAGGED, before, strict=True):
        np.testing.assert_array_equal(image, expected)
