"""Random crops: every pixel in its place, rare classes found, small images extended."""

import numpy as np

from members.crops import RandomCrops


def crops_of(sizes, size, ignore=None):
    images = [(np.arange(2 * r * c) % 251).astype(np.uint8).reshape(2, r, c) for r, c in sizes]
    target = [(image[0] == 7).astype(np.uint8) for image in images]
    pixels = np.stack([np.bincount(one.ravel(), minlength=2) for one in target])
    crops = RandomCrops.create(images, target, size, pixels=pixels, ignore=ignore)
    return images, target, crops


def test_crops_of_images_of_several_sizes_have_one_size_and_match_their_target():
    images, _target, crops = crops_of([(20, 30), (8, 8), (40, 9)], (8, 8))
    cut, labels = crops([0, 1, 2, 0], np.random.default_rng(0))
    assert cut.shape == (4, 2, 8, 8)
    assert labels.shape == (4, 8, 8)
    np.testing.assert_array_equal(labels, cut[:, 0] == 7)
    np.testing.assert_array_equal(cut[1], images[1])


def test_a_rare_class_is_in_more_crops_than_by_chance():
    _, _, crops = crops_of([(60, 80)], (8, 8))
    rng = np.random.default_rng(0)
    found = np.mean([bool((crops([0], rng)[1] == 1).any()) for _ in range(300)])
    assert found > 0.4  # uniform crops: less than .3


def test_what_lies_beyond_a_small_image_is_unlabelled():
    _, _, crops = crops_of([(5, 6)], (8, 10))
    cut, labels = crops([0], np.random.default_rng(0))
    assert (labels[0, 5:] == 255).all()
    assert (labels[0, :, 6:] == 255).all()
    np.testing.assert_array_equal(cut[0, :, 5:, :6], cut[0, :, 4:5, :6].repeat(3, axis=1))


def test_crops_are_determined_by_the_generator():
    _, _, crops = crops_of([(30, 30), (25, 40)], (16, 16))
    first, second = (crops([0, 1, 1], np.random.default_rng(3))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
