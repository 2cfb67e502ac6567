"""Data sets saved by Hugging Face `datasets`, by a stand-in: the library is an extra."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.core.errors import BadData, BadLabels
from members.data.load_dataset import load_dataset

IMAGE = np.zeros((4, 6, 3), np.uint8)
MASK = np.eye(4, 6, dtype=int)


class Rows(list[dict[str, Any]]):
    """Rows with columns, of which one column can be had alone."""

    @property
    def column_names(self):
        return tuple(self[0]) if self else ("image",)

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


class Undecodable(dict[str, Any]):
    def __getitem__(self, key):
        raise OSError("cannot identify image file")


def row(image=IMAGE, mask=MASK, **more):
    return {"image": image, **({} if mask is None else {"annotation": mask}), **more}


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Pretend that these rows of each split, or of the only one, were saved."""

    def save(rows=None, **splits):
        name = "dataset_dict.json" if splits else "dataset_info.json"
        for file in (name, "state.json"):
            (tmp_path / file).write_text("{}")
        opened = {name: Rows(rows) for name, rows in splits.items()} if splits else Rows(rows)
        stand_in = SimpleNamespace(load_from_disk=lambda _: opened)
        monkeypatch.setitem(sys.modules, "datasets", stand_in)
        return tmp_path

    return save


def test_splits_are_read(saved):
    sets = load_dataset(saved(train=[row(), row()], validation=[row()], test=[row(mask=None)]))
    assert list(sets) == ["training", "validation", "test"]
    assert sets["training"].ids == ("train-00000", "train-00001")
    assert sets["training"].images.shape == (2, 3, 4, 6)
    np.testing.assert_array_equal(sets["training"].target()[1], MASK)
    assert sets["test"].masks is None


def test_one_set_is_for_training_where_it_has_masks_and_named_by_its_column(saved):
    rows = [row(Image.fromarray(IMAGE), id="x"), row(id="y")]
    assert load_dataset(saved(rows))["training"].ids == ("x", "y")
    assert list(load_dataset(saved([row(mask=None)]))) == ["test"]


@pytest.mark.parametrize(
    ("splits", "error", "words"),
    [
        ({"train": [row()], "extra": [row()]}, BadData, "has a split 'extra'; expected train, val"),
        ({"train": []}, BadData, "holds no images; expected rows in a split"),
        ({"train": [{"x": 1}]}, BadData, "split 'train' has columns x; expected one of image, pix"),
        ({"train": [row(mask=None, label=MASK, mask_=1) | {"labels": MASK}]}, BadData,
         "and at most one of label, annotation"),
        ({"train": [row(Image.new("RGBA", (6, 4)))]}, BadData, "image 0 has mode RGBA; expected"),
        ({"train": [row(np.zeros((4, 6), int))]}, BadData, r"image 0 is int64 of shape \(4, 6\)"),
        ({"train": [row(mask=IMAGE)]}, BadLabels, r"annotation 0 is uint8 of shape \(4, 6, 3\)"),
        ({"train": [row(mask=MASK * 256)]}, BadLabels, "annotation 0 holds 256; expected values"),
        ({"train": [row(mask=MASK - 1)]}, BadLabels, "annotation 0 holds -1; expected values"),
        ({"train": [Undecodable(row())]}, BadData, r"cannot be decoded \(cannot identify image"),
    ],
)  # fmt: skip
def test_rows_that_are_no_images_and_masks_are_refused(saved, splits, error, words):
    with pytest.raises(error, match=words):
        load_dataset(saved(**splits))


def test_masks_stored_with_loss_are_refused(saved, tmp_path):
    Image.fromarray(MASK.astype(np.uint8)).save(tmp_path / "m.jpg")
    with Image.open(tmp_path / "m.jpg") as mask, pytest.raises(BadLabels, match=r"loss \(JPEG\)"):
        load_dataset(saved(train=[row(mask=mask)]))


def test_a_damaged_folder_and_a_missing_library_are_named(tmp_path, monkeypatch):
    (tmp_path / "dataset_dict.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_from_disk=open))
    with pytest.raises(BadData, match=r"cannot be read by Hugging Face datasets \(.*save it again"):
        load_dataset(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadData, match=r"pip install 'ens\[huggingface\]'"):
        load_dataset(tmp_path)
