"""Folders of images and masks: pairs are read, malformed ones refused with the reason."""

from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from evaluation.core.errors import BadData, BadLabels
from members.data.load_dataset import load_dataset
from tests.members.data.png_files import write_png

GREY = np.zeros((6, 8), np.uint8)
RGB = np.dstack([GREY, GREY + 1, GREY + 2])
MASK = np.eye(6, 8, dtype=np.uint8)


def folder(path, images, masks):
    for name, arrays in (("images", images), ("masks", masks)):
        (path / name).mkdir()
        for stem, array in arrays.items():
            Image.fromarray(array).save(path / name / f"{stem}.png")
    return path


def test_pairs_are_read_by_name(tmp_path):
    pairs = folder(tmp_path, {"b": GREY + 1, "a": GREY}, {"a": MASK, "b": 1 - MASK})
    read = load_dataset(pairs)["training"]
    assert read.ids == ("a", "b")
    np.testing.assert_array_equal(read.images[:, 0, 0, 0], [0, 1])
    np.testing.assert_array_equal(read.target(), [MASK, 1 - MASK])


@pytest.mark.parametrize(
    ("images", "masks", "error", "words"),
    [
        ({}, {}, BadData, "holds nothing; expected images/ beside masks/"),
        ({"a": GREY, "b": RGB}, {"a": MASK, "b": MASK}, BadData, "holds grey and RGB images"),
        ({"a": GREY}, {"a": RGB}, BadLabels, "a.png has mode RGB; expected class indices"),
        (
            {"a": np.zeros((6, 8, 4), np.uint8)},
            {"a": MASK},
            BadData,
            "is transparent in places",
        ),
    ],
    ids=["nothing", "two kinds", "a mask in colours", "transparent"],
)
def test_folders_that_cannot_be_read_are_refused(tmp_path, images, masks, error, words):
    with pytest.raises(error, match=words):
        load_dataset(folder(tmp_path, images, masks))


def test_an_image_is_turned_as_it_is_viewed_to_fit_its_mask(tmp_path):
    """A photo taken with the camera upside down: label 2 was drawn on what is bright."""
    stored = np.full((6, 8), 220, np.uint8)
    stored[3:] = 30
    labels = np.where(np.arange(6)[:, None] < 3, 1, 2) * np.ones((1, 8), int)
    exif = Image.Exif()
    exif[274] = 3
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    Image.fromarray(stored).save(tmp_path / "images" / "a.jpg", exif=exif, quality=100)
    write_png(tmp_path / "masks" / "a.png", labels, 2)
    data = load_dataset(tmp_path)["training"]
    np.testing.assert_array_equal(data.target()[0], labels)
    assert abs(data.images[0, 0][labels == 2].mean() - 220) < 2


def test_a_mask_that_was_drawn_on_the_unturned_image_is_explained(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    pairs = folder(tmp_path, {}, {"a": MASK})
    Image.fromarray(GREY).save(pairs / "images" / "a.jpg", exif=exif)
    words = r"is \(6, 8\), its image \(8, 6\) after turning by its EXIF orientation 6"
    with pytest.raises(BadLabels, match=words):
        load_dataset(pairs)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.PNG", "a.PNG"),
        ("a.TIFF", "a.png"),
        ("a.bmp", "a.tif"),
        ("a.webp", "a.bmp"),
        ("a.npy", "a.npy"),
        (normalize("NFC", "é.png"), normalize("NFD", "é.png")),
        (normalize("NFD", "é.jpg"), normalize("NFC", "é.png")),
    ],
)
def test_pairs_of_every_format_and_spelling_are_read(tmp_path, image, mask):
    for name, file, array in (("images", image, GREY), ("masks", mask, MASK)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / file
        np.save(path, array) if file.endswith("npy") else Image.fromarray(array).save(path)
    data = load_dataset(tmp_path)["training"]
    assert data.ids == (normalize("NFC", image.split(".")[0]),)
    np.testing.assert_array_equal(data.target()[0], MASK)


def test_every_image_of_a_folder_is_read_or_named(tmp_path):
    for name in ("a.png", "b.jpg", "c.tif", "d.bmp", "e.webp", "f.JPEG", "g.TIF"):
        Image.fromarray(RGB).save(tmp_path / name)
    assert "".join(load_dataset(tmp_path)["test"].ids) == "abcdefg"
    Image.fromarray(RGB).save(tmp_path / "h.gif")
    with pytest.raises(BadData, match=r"1 files or folders .* left out \(first: h\.gif\)"):
        load_dataset(tmp_path)


def test_grey_images_that_are_stored_as_colours_are_grey_among_grey_ones(tmp_path):
    shades = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    Image.fromarray(shades).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([shades] * 3)).save(tmp_path / "b.webp", lossless=True)
    np.testing.assert_array_equal(load_dataset(tmp_path)["test"].images, [[shades]] * 2)


@pytest.mark.parametrize("where", ["images", "masks"])
def test_nothing_is_left_out_of_pairs(tmp_path, where):
    pairs = folder(tmp_path, {"a": GREY}, {"a": MASK})
    Image.fromarray(GREY).save(pairs / where / "b.gif")
    with pytest.raises(BadData, match=rf"{where} holds 1 files .* left out \(first: b\.gif\)"):
        load_dataset(pairs)


def test_opaque_alpha_is_dropped(tmp_path):
    opaque = np.dstack([RGB, np.full((6, 8), 255, np.uint8)])
    assert load_dataset(folder(tmp_path, {"a": opaque}, {"a": MASK}))["training"].channels == 3
