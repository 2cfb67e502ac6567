"""Folders of images and masks: pairs are read, malformed ones refused with the reason."""

import numpy as np
import pytest
from PIL import Image

from evaluation.core.errors import BadData, BadLabels
from members.data import image_folder
from members.data.load_dataset import load_dataset

GREY, RGB = np.zeros((6, 8), np.uint8), np.zeros((6, 8, 3), np.uint8)
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
        ({}, {}, BadData, "images holds no image; expected images/NAME.png"),
        ({"a": GREY, "b": RGB}, {"a": MASK, "b": MASK}, BadData, "holds grey and RGB images"),
        ({"a": GREY}, {"a": RGB}, BadLabels, "a.png has mode RGB; expected class indices"),
        (
            {"a": np.zeros((6, 8, 4), np.uint8)},
            {"a": MASK},
            BadData,
            "has mode RGBA; expected 8-bit",
        ),
    ],
    ids=["nothing", "two kinds", "a mask in colours", "transparent"],
)
def test_folders_that_cannot_be_read_are_refused(tmp_path, images, masks, error, words):
    with pytest.raises(error, match=words):
        load_dataset(folder(tmp_path, images, masks))


def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folder, "MAX_PIXELS", 47)
    pairs = folder(tmp_path, {"a": GREY}, {"a": MASK})
    with pytest.raises(BadData, match="8 x 6 pixels; cut it into tiles"):
        load_dataset(pairs)


def test_an_image_that_was_removed_is_called_missing(tmp_path):
    with pytest.raises(BadData, match=r"gone\.png is missing; expected an image"):
        image_folder.open_image(tmp_path / "gone.png")
