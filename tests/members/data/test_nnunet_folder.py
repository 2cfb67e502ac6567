"""nnU-Net's raw folders, with images of one file per channel and with volumes."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from evaluation.core.errors import BadData, BadLabels
from members.data.load_dataset import load_dataset

CASES = ("p1", "p2")
VOLUME = np.arange(24.0).reshape(2, 4, 3) % 2


def image_folder(root, labels, channels=("0000", "0001"), ending=".png"):
    """Two cases of images, 4 x 6, whose channels count upwards."""
    names = [f"imagesTr/{case}_{channel}" for case in CASES for channel in channels]
    for index, name in enumerate([*names, *(f"labelsTr/{case}" for case in CASES)]):
        file = root / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        mask = np.eye(4, 6, dtype=np.uint8)
        Image.fromarray(mask if "labels" in name else np.full_like(mask, index)).save(file)
    (root / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ending}))
    return root


class TestImages:
    @pytest.mark.parametrize(
        "labels",
        [
            {"background": 0, "tumour": 1, "ignore": 2},
            {"tumour": 1.0, "background": "0"},
            {"0": "background", "1": "tumour"},
        ],
    )
    @pytest.mark.parametrize("ending", [".png", None])
    def test_channels_are_stacked_and_cases_are_groups(self, tmp_path, labels, ending):
        data = load_dataset(image_folder(tmp_path, labels, ending=ending))["training"]
        assert data.ids == data.groups.tolist() == CASES or data.groups.tolist() == list(CASES)
        assert data.images[:, :, 0, 0].tolist() == [[0, 1], [2, 3]]
        assert data.classes.names == ("background", "tumour")
        assert (2 in data.classes.unlabelled) == ("ignore" in labels)

    @pytest.mark.parametrize(
        ("labels", "words"),
        [
            (["a", "b"], "has no labels; expected names and numbers of the classes"),
            ({}, "has no labels; expected"),
            ({"a": 0, "b": [1, 2]}, "regions that overlap; expected one number per class"),
            ({"a": 0, "b": 1.7}, "labels are no whole numbers from 0"),
            ({"a": 0, "b": True}, "labels are no whole numbers from 0"),
            ({"a": 0, "b": "x"}, "labels are no whole numbers from 0"),
            ({"a": 0, "b": float("inf")}, "labels are no whole numbers from 0"),
            ({"a": 0, "b": 1, "c": 1}, "stored value 1 stands for two classes"),
            ({"0": "a", "1": "a"}, "class name 'a' is given twice"),
            ({"a": 0, "b": 1, "ignore": 1}, "'ignore' has the label of a class"),
            ({"a": 0, "b": 300}, "stored value 300; expected a whole number, 0 to 255"),
        ],
    )
    def test_labels_that_name_no_classes_are_refused(self, tmp_path, labels, words):
        with pytest.raises(BadData, match=words):
            load_dataset(image_folder(tmp_path, labels))

    @pytest.mark.parametrize(
        ("lost", "words"),
        [
            ("imagesTr/p2_0001.png", "'p2' has channels 0000; expected 0000, 0001, as others have"),
            ("labelsTr/p2.png", r"labelsTr/p2\.png is missing; expected a mask for each case"),
        ],
    )
    def test_a_case_that_lacks_a_file_is_refused(self, tmp_path, lost, words):
        root = image_folder(tmp_path, {"a": 0, "b": 1})
        (root / lost).unlink()
        with pytest.raises(BadData, match=words):
            load_dataset(root)

    def test_folders_without_cases_are_refused(self, tmp_path):
        (tmp_path / "imagesTr").mkdir()
        document = {"labels": {"a": 0, "b": 1}}
        (tmp_path / "dataset.json").write_text(json.dumps(document))
        with pytest.raises(BadData, match="imagesTr holds no file; expected CASE_0000"):
            load_dataset(tmp_path)
        (tmp_path / "dataset.json").write_text(json.dumps(document | {"file_ending": ".tif"}))
        with pytest.raises(BadData, match=r"imagesTr holds no CASE_0000\.tif; expected one per"):
            load_dataset(tmp_path)

    def test_test_images_need_no_masks(self, tmp_path):
        root = image_folder(tmp_path, {"a": 0, "b": 1}, channels=("0000",))
        (root / "imagesTs").mkdir()
        (root / "imagesTr" / "p2_0000.png").rename(root / "imagesTs" / "p2_0000.png")
        sets = load_dataset(root)
        assert (sets["training"].ids, sets["test"].ids) == (("p1",), ("p2",))
        assert sets["test"].masks is None


class FakeVolume:
    """What nibabel opens: the axes and the values of a file, read when they are indexed."""

    def __init__(self, file):
        with open(file, "rb") as content:  # noqa: PTH123
            self.dataobj = np.load(content)
        self.shape = self.dataobj.shape


class CutShort(FakeVolume):
    """A file whose header can be read and whose values cannot."""

    @property
    def dataobj(self):
        raise EOFError("the file ended before its end-of-stream marker")

    @dataobj.setter
    def dataobj(self, values):
        pass

    shape = (2, 4, 3)

    def __init__(self, file):
        pass


@pytest.fixture
def nibabel(monkeypatch):
    """A stand-in: nibabel is an extra, which the tests do not install."""
    module = SimpleNamespace(load=FakeVolume)
    monkeypatch.setitem(sys.modules, "nibabel", module)
    return module


def volume_folder(root, **volumes):
    """One case of volumes; `images` and `masks` of its file names."""
    for name, values in volumes.items():
        file = root / ("labelsTr" if name == "p1" else "imagesTr") / f"{name}.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as content:
            np.save(content, values)
    (root / "dataset.json").write_text('{"labels": {"a": 0, "b": 1}}')
    return root


@pytest.mark.usefixtures("nibabel")
class TestVolumes:
    def test_volumes_are_read_slice_by_slice(self, tmp_path):
        root = volume_folder(tmp_path, p1_0000=VOLUME, p1_0001=VOLUME + 5, p1=VOLUME)
        data = load_dataset(root)["training"]
        assert data.ids == ("p1_0000", "p1_0001", "p1_0002")
        assert data.groups.tolist() == ["p1"] * 3
        assert data.images.dtype == np.float32
        np.testing.assert_array_equal(data.images[2, 1], VOLUME[..., 2] + 5)
        np.testing.assert_array_equal(data.target()[1], VOLUME[..., 1])

    @pytest.mark.parametrize("slices", [VOLUME[..., 0], VOLUME[..., :1]])
    def test_an_image_of_two_axes_is_one_slice(self, tmp_path, slices):
        root = volume_folder(tmp_path, p1_0000=slices, p1=VOLUME[..., 0])
        data = load_dataset(root)["training"]
        assert data.ids == ("p1",)
        np.testing.assert_array_equal(data.target()[0], VOLUME[..., 0])

    @pytest.mark.parametrize(
        ("volumes", "error", "words"),
        [
            ({"p1": VOLUME[..., :2]}, BadData,
             r"p1\.nii\.gz has shape \(2, 4, 2\); expected \(2, 4, 3\), as .*p1_0000"),
            ({"p1_0000": VOLUME[..., :2]}, BadData, r"p1\.nii\.gz has shape \(2, 4, 3\)"),
            ({"p1_0001": VOLUME[:1]}, BadData, r"p1_0001\.nii\.gz has shape \(1, 4, 3\); expected"),
            ({"p1_0000": VOLUME[..., None]}, BadData, "expected two or three axes"),
            ({"p1_0000": VOLUME.astype(complex)}, BadData, "holds complex128; expected numbers"),
            ({"p1": VOLUME * 1.5}, BadLabels, "other than whole numbers 0 to 255"),
            ({"p1": VOLUME * np.nan}, BadLabels, "other than whole numbers 0 to 255"),
            ({"p1": VOLUME - 1}, BadLabels, "other than whole numbers 0 to 255"),
            ({"p1": VOLUME * 300}, BadLabels, "other than whole numbers 0 to 255"),
        ],
    )  # fmt: skip
    def test_volumes_that_do_not_fit_are_refused(self, tmp_path, volumes, error, words):
        root = volume_folder(tmp_path, **({"p1_0000": VOLUME, "p1": VOLUME} | volumes))
        with pytest.raises(error, match=words):
            load_dataset(root)

    def test_a_damaged_file_is_named(self, tmp_path, nibabel):
        root = volume_folder(tmp_path, p1_0000=VOLUME, p1=VOLUME)
        nibabel.load = CutShort
        with pytest.raises(BadData, match=r"p1_0000\.nii\.gz is no readable .*\(the file ended"):
            load_dataset(root)
        nibabel.load = FakeVolume
        (root / "imagesTr" / "p1_0000.nii.gz").write_bytes(b"x")
        with pytest.raises(BadData, match=r"p1_0000\.nii\.gz is no readable NIfTI file .* restore"):
            load_dataset(root)


def test_nifti_without_nibabel_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(BadData, match=r"needs nibabel; install it by `pip install 'ens\[nifti"):
        load_dataset(volume_folder(tmp_path, p1_0000=VOLUME, p1=VOLUME))
