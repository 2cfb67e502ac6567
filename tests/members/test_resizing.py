"""Images resized for a network; its maps have the images' own size."""

import numpy as np
import pytest

from evaluation.core.classes import MARS, UNLABELLED, numbered
from evaluation.core.errors import BadSpec
from evaluation.core.ragged import stack_images
from members.data.dataset import DataSet
from members.predict import predict, predict_split
from members.recipe import Member, Recipe
from members.resizing import predict_resized, resized_set, scaled_size
from members.store import ProbabilityStore
from members.train import Fold, load_network, train_fold

FITS = ("stretch", "pad", "crop")
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 200, (3, 2, 16, 24), dtype=np.uint8)
MASKS = RNG.integers(0, 3, (3, 4, 6), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
IDS = ("a", "b", "c")


def resized(size, fit):
    return resized_set(DataSet(IMAGES, MASKS, IDS, None, numbered(3, ignore=None)), size, fit)


def averaged(factor):
    rows, cols = 16 // factor, 24 // factor
    return IMAGES.reshape(3, 2, rows, factor, cols, factor).mean(axis=(3, 5))


def test_images_are_averaged_and_masks_take_the_nearest_pixel():
    data = resized((8, 12), "stretch")
    assert np.abs(data.images - averaged(2)).max() <= 1
    np.testing.assert_array_equal(data.masks, MASKS[:, ::2, ::2])


def test_padding_keeps_proportions_and_is_unlabelled():
    data = resized((12, 12), "pad")
    assert np.abs(data.images[:, :, :8] - averaged(2)).max() <= 1
    np.testing.assert_array_equal(data.images[:, :, 8:], data.images[:, :, [7] * 4])
    np.testing.assert_array_equal(data.masks[:, :8], MASKS[:, ::2, ::2])
    assert (data.masks[:, 8:] == UNLABELLED).all()


def test_cropping_takes_the_centre():
    data = resized((8, 8), "crop")
    assert np.abs(data.images - averaged(2)[..., 2:10]).max() <= 1
    np.testing.assert_array_equal(data.masks, MASKS[:, ::2, ::2][..., 2:10])


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 24), (40, 9)])
def test_any_size_is_reached(size, fit):
    data = resized(size, fit)
    assert data.images.shape == (3, 2, *size)
    assert data.masks.shape == (3, *size)
    rows, cols = scaled_size((16, 24), size, fit)
    inside = (rows <= size[0] and cols <= size[1]) or fit == "crop"
    covered = (rows >= size[0] and cols >= size[1]) or fit == "pad"
    assert (inside, covered) == (True, True)


def halves(images):
    """Take the second class where a network sees bright pixels."""
    bright = images[:, :1].astype(np.float32) / 255
    return np.concatenate([1 - bright, bright], axis=1)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(8, 12), (8, 8), (16, 8), (32, 96)])
@pytest.mark.parametrize("own", [(16, 24), (32, 16)])
def test_maps_lie_on_the_pixels_of_their_image(own, size, fit):
    image = np.zeros((1, 1, *own), np.uint8)
    image[..., : own[0] // 2, own[1] // 2 :] = 255
    maps = predict_resized(halves, image, size, fit)
    np.testing.assert_allclose(maps.sum(axis=1), 1, atol=1e-6)
    wrong = (maps.argmax(axis=1) != (image[:, 0] > 0)).mean()
    assert wrong <= 0.07  # the border between both, where it is no border of the scaled image


@pytest.mark.parametrize("fit", FITS)
def test_a_network_trains_at_its_size_and_its_maps_have_the_images_own(tmp_path, fit):
    sizes = [(16, 24)] * 8 + [(20, 12)] * 4
    masks = [RNG.integers(0, 5, size, dtype=np.uint8) for size in sizes]
    images = [(mask * 40)[None] for mask in masks]
    ids = tuple(f"p{k:02}" for k in range(12))
    data = DataSet(stack_images(images), stack_images(masks), ids, None, MARS)
    recipe = Recipe(architecture="unet(width=2, depth=1)", epochs=1, size="8x8", fit=fit)
    one = Member("m", recipe)
    train_fold(one, data, Fold(0, np.arange(10)), seed=0, device="cpu", folder=tmp_path)
    predict_split(
        one, data, [tmp_path], seen=None, device="cpu", folder=tmp_path / "s", dtype="float32"
    )
    store = ProbabilityStore(tmp_path / "s")
    assert store.extent == data.extent
    network = load_network(one, tmp_path, channels=1, classes=5)
    again = predict(network, np.asarray(data.images[8:12]), "cpu", one)
    np.testing.assert_allclose(store.read(slice(8, 12)), again, atol=1e-6)


def test_a_way_to_fit_needs_a_size():
    with pytest.raises(BadSpec, match="fit pad goes with a size"):
        Member("m", Recipe(fit="pad"))


def test_records_of_members_without_a_size_are_as_before():
    assert "size" not in Member("m", Recipe()).training_config()["recipe"]
    assert Member("m", Recipe(size="8x8")).training_config()["recipe"]["size"] == [8, 8]
