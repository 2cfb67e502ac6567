"""Images of any channels and of 8, 16 or 32 bits: kept as stored, refused where a step cannot."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from ensemble.pipeline.data.prepare import check_same_kind
from ensemble.pipeline.members.train import check_trainable
from ensemble.pipeline.run.experiment import Experiment, check_chains
from ensemble.pixel_context import grey
from evaluation.core.classes import numbered
from evaluation.core.errors import BadData
from members.augmentations import AUGMENTATIONS, EIGHT_BITS
from members.augmentations.augment import check_depth
from members.data.dataset import DataSet, resize_image
from members.data.image_files import read_image
from members.data.load_dataset import load_dataset
from members.recipe import Member, Recipe
from postproc.chain import parse_chain
from postproc.postprocess import postprocess

RNG = np.random.default_rng(0)
SHAPE = (8, 10)
MASKS = (np.arange(80, dtype=np.uint8).reshape(SHAPE) % 3)[None].repeat(6, 0)


def drawn(dtype, channels):
    pixels = RNG.integers(0, 4096, (*SHAPE, channels)) / (1 if dtype != np.uint8 else 17)
    return pixels.astype(dtype)


def data_of(dtype, channels):
    images = np.stack([np.moveaxis(drawn(dtype, channels), -1, 0)] * 6)
    return DataSet(images, MASKS, tuple("abcdef"), None, numbered(3, ignore=None))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [2, 4, 5, 13])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_of_a_tiff_are_read_as_stored(tmp_path, dtype, channels, planar):
    pixels = drawn(dtype, channels)
    stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, planarconfig=planar, photometric="minisblack")
    read = read_image(tmp_path / "a.tif")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)


def test_alpha_of_a_tiff_is_still_alpha(tmp_path):
    pixels = drawn(np.uint8, 4)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(BadData, match="is transparent in places"):
        read_image(tmp_path / "a.tif")
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pixels[..., :3])


def test_a_damaged_or_stacked_tiff_of_bands_is_refused(tmp_path):
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", drawn(np.uint8, 5), **options)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:-90])
    with pytest.raises(BadData, match=r"a\.tif is no readable image"):
        read_image(tmp_path / "a.tif")
    for _ in range(2):
        tifffile.imwrite(tmp_path / "b.tif", drawn(np.uint8, 5), **options, append=True)
    with pytest.raises(BadData, match="holds 2 images"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((6, 5, 8, 10), 5), ((6, 8, 10, 5), 5), ((6, 8, 10, 13), 13), ((6, 3, 8, 10), 3)],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_of_any_channels_and_type_are_kept(tmp_path, shape, channels, dtype):
    np.savez(tmp_path / "a.npz", images=np.ones(shape, dtype), masks=MASKS)
    data = load_dataset(tmp_path / "a.npz")["training"]
    assert (data.images.dtype, data.images.shape) == (dtype, (6, channels, 8, 10))


def test_an_array_whose_channels_could_be_two_axes_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.ones((6, 5, 8, 10), np.uint8))
    with pytest.raises(BadData, match="and H and W of the masks or above"):
        load_dataset(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_resizing_averages_every_type(dtype):
    image = drawn(dtype, 1)[..., 0]
    small = resize_image(image, (4, 5))
    mean = image.astype(np.float64).reshape(4, 2, 5, 2).mean(axis=(1, 3))
    assert small.dtype == dtype
    assert np.abs(small - mean).max() <= 1


def test_images_of_another_type_or_number_of_channels_do_not_join_a_run():
    training = data_of(np.uint16, 4)
    for new, words in ((data_of(np.uint8, 4), "of uint8; expected uint16"),
                       (data_of(np.uint16, 3), "of 3 channels; expected 4")):  # fmt: skip
        with pytest.raises(BadData, match=words):
            check_same_kind(new, training, "validation")


def test_images_of_several_types_in_one_folder_are_refused(tmp_path):
    for name, dtype in (("a", np.uint8), ("b", np.uint16)):
        Image.fromarray(drawn(dtype, 1)[..., 0]).save(tmp_path / f"{name}.png")
    with pytest.raises(BadData, match="differ in type: a uint8, b uint16"):
        load_dataset(tmp_path)


def test_every_other_augmentation_takes_any_type():
    """Against itself on 8 bits: values a hundred times as large come out so."""
    import torch

    images = torch.from_numpy(RNG.integers(0, 256, (6, 5, 16, 16), np.uint8))
    masks = torch.from_numpy(RNG.integers(0, 3, (6, 16, 16), np.uint8))
    for name in sorted(set(AUGMENTATIONS) - {*EIGHT_BITS, "offline"}):
        augment = AUGMENTATIONS.build(name)
        expected, _ = augment(images.clone(), masks.clone(), np.random.default_rng(1))
        result, _ = augment(images.float() * 100, masks.clone(), np.random.default_rng(1))
        assert (result / 100 - expected.float()).abs().max() <= 0.51, name


@pytest.mark.parametrize("spec", [*EIGHT_BITS, "offline(augmentations=[flips, noise], copies=2)"])
def test_augmentations_of_grey_levels_refuse_other_types_before_training(spec):
    recipe = Recipe(architecture="unet(width=2, depth=2)", augment=("flips", spec))
    member = Member("a", recipe)
    with pytest.raises(BadData, match="needs images of 8 bits, these are uint16"):
        check_trainable([member], data_of(np.uint16, 3), "float16")
    check_depth(recipe.augment, "uint8")


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 3), (np.uint8, 5)])
@pytest.mark.parametrize("step", ["crf(iterations=1)", "superpixel_vote"])
def test_steps_that_read_images_refuse_other_types_before_work(dtype, channels, step):
    data = data_of(dtype, channels)
    words = "for step .* leave it out, or convert the images"
    experiment = Experiment(chains={"c": f"blur|{step}"})
    with pytest.raises(BadData, match=words):
        check_chains(experiment, data.classes, data.images)
    check_chains(Experiment(chains={"c": "mode_filter(size=3)"}), data.classes, data.images)


def test_chains_without_such_a_step_take_images_of_any_type():
    from members.maps import ArrayMaps

    maps = ArrayMaps("maps", np.full((6, 3, *SHAPE), 1 / 3, np.float32))
    chain = parse_chain("mode_filter(size=3)", classes=3, ignore=None)
    assert len(list(postprocess(maps, chain, images=data_of(np.uint16, 4).images))) == 1


def test_intensities_run_from_0_to_1_whatever_the_bits():
    image = np.array([[[[0, 255]]]], np.uint8)
    assert grey(image).ravel().tolist() == [0, 1]
    assert grey(image.astype(np.uint16) * 257).ravel().tolist() == [0, 1]
    with pytest.raises(BadData, match="8 or 16 bits, these are float32"):
        grey(image.astype(np.float32))
