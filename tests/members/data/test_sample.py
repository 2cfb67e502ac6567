from typing import Any

import numpy as np
import pytest

from evaluation.core.errors import BadData
from members.data.cleaning.rules import shared_masks
from members.data.dataset import class_pixels
from members.data.folds import split_folds
from members.data.load_dataset import load_dataset
from members.data.sample import draw_sample

SMALL: dict[str, Any] = {"images": 64, "test": 8, "validation": 8, "size": (16, 32)}


@pytest.fixture(scope="module")
def small():
    return draw_sample(**SMALL)


@pytest.fixture(scope="module")
def whole():
    return draw_sample()


def test_the_same_seed_gives_the_same_bytes(small):
    again = draw_sample(**SMALL)
    np.testing.assert_array_equal(again.training_set, small.training_set)
    np.testing.assert_array_equal(again.test_set, small.test_set)
    np.testing.assert_array_equal(again.outliers, small.outliers)
    other = draw_sample(**SMALL, seed=1)
    assert (other.training_set != small.training_set).any()


def test_the_planted_outliers_share_a_mask(small):
    (found,) = shared_masks(small.training_set[:, 1])
    np.testing.assert_array_equal(found, small.outliers)


def test_the_planted_copies_are_nearly_the_same_and_of_one_group(small):
    assert len(small.duplicates)
    for first, second in small.duplicates:
        a, b = small.training_set[[first, second]].astype(int)
        assert 0 < np.abs(a[0] - b[0]).max() <= 5
        np.testing.assert_array_equal(a[1], b[1])
        assert small.training_group[first] == small.training_group[second]


def test_no_scene_is_in_two_sets(small):
    assert not set(small.training_group) & set(small.validation_group)


def test_ids_of_the_sets_differ(small):
    names = [name for data in small.sets().values() for name in data.ids]
    assert len(set(names)) == len(names) == 80


def test_the_saved_files_load_as_the_sets(small, tmp_path):
    training, validation = small.save(tmp_path)
    sets, own = load_dataset(training), small.sets()
    np.testing.assert_array_equal(sets["training"].images, own["training"].images)
    np.testing.assert_array_equal(sets["training"].groups, own["training"].groups)
    np.testing.assert_array_equal(sets["test"].images, own["test"].images)
    np.testing.assert_array_equal(
        load_dataset(validation)["training"].target(), own["validation"].target()
    )


def test_a_set_too_small_for_outliers_has_none():
    tiny = draw_sample(images=10, test=1, validation=1, size=(16, 16))
    assert len(tiny.outliers) == len(tiny.duplicates) == 0
    assert tiny.training_set.shape == (10, 2, 16, 16)


@pytest.mark.parametrize("asked", [{"images": 0}, {"test": 0}, {"size": (8, 32)}], ids=str)
def test_no_images_or_too_small_ones_are_refused(asked):
    with pytest.raises(BadData, match="expected at least 1 each of 16x16"):
        draw_sample(**SMALL | asked)


@pytest.mark.slow
class TestTheWholeSample:
    def test_the_sample_has_the_class_shares_of_the_real_tiles(self, whole):
        pixels = class_pixels(whole.training_set[:, 1], 5).sum(axis=0)
        shares = pixels / pixels.sum()
        lowest, highest = (0.15, 0.2, 0.3, 0.05, 0.002), (0.3, 0.35, 0.5, 0.15, 0.01)
        assert (shares > lowest).all()
        assert (shares < highest).all()

    def test_the_sample_divides_into_folds_that_hold_every_class(self, whole):
        data = whole.sets()["training"]
        dealt = split_folds(data.target(), data.groups, 3, classes=data.classes, seed=0)
        assert np.bincount(dealt).min() > 100

    def test_the_sample_knows_its_outliers_and_copies(self, whole):
        (found,) = shared_masks(whole.training_set[:, 1])
        np.testing.assert_array_equal(found, whole.outliers)
        assert len(whole.duplicates) == 7

    def test_textures_distinguish_the_terrains_better_than_chance_but_not_well(self, whole):
        """One number an image's terrain, local contrast at a fine scale, separates in part."""
        contrast, terrain = local_contrast(whole.validation_images), whole.validation_masks
        means = [contrast[terrain == label].mean() for label in (1, 2, 3)]
        spread = [contrast[terrain == label].std() for label in (1, 2, 3)]
        assert max(means) > 1.3 * min(means)
        assert max(means) - min(means) < 4 * max(spread)


def local_contrast(images):
    steps = np.abs(np.diff(images.astype(float), axis=2, append=0))
    level = images.mean(axis=(1, 2), keepdims=True)
    return steps / level
