"""Layouts without mask files: COCO, tables of runs, nnU-Net and Hugging Face."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluation.core.errors import BadData, BadLabels
from members.data import coco
from members.data.layouts import LayoutOptions
from members.data.load_dataset import load_dataset

SIZE = (4, 6)
SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]  # columns 1 to 3, rows 1 and 2
CORNER = [[0, 0, 2, 0, 2, 2, 0, 2]]  # overlaps it in the pixel (1, 1)


def image(root, name, value=7):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(SIZE, value, np.uint8)).save(file)


def coco_folder(root, objects, name="annotations/instances_train2017.json", files=("a.png",)):
    for file in files:
        image(root, f"train2017/{file}")
    document = {
        "images": [{"id": i, "file_name": file} for i, file in enumerate(files)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": 0, "category_id": category, "segmentation": outline, **more}
            for i, (category, outline, more) in enumerate(objects)
        ],
    }
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return root


class TestCoco:
    def test_objects_of_one_class_are_joined_and_crowds_unlabelled(self, tmp_path):
        crowd = {"size": list(SIZE), "counts": [20, 4]}  # the last column
        root = coco_folder(tmp_path, [(9, SQUARE, {}), (9, CORNER, {}), (3, crowd, {"iscrowd": 1})])
        data = load_dataset(root, layout=LayoutOptions(uncovered="background"))["training"]
        expected = [
            [2, 2, 0, 0, 0, 255],
            [2, 2, 2, 2, 0, 255],
            [0, 2, 2, 2, 0, 255],
            [0, 0, 0, 0, 0, 255],
        ]
        assert data.classes.names == ("background", "cat", "dog")
        np.testing.assert_array_equal(data.target()[0], expected)

    def test_what_no_object_covers_may_be_unlabelled(self, tmp_path):
        root = coco_folder(tmp_path, [(9, CORNER, {}), (3, [[4, 2, 6, 2, 6, 4, 4, 4]], {})])
        data = load_dataset(root, layout=LayoutOptions(uncovered="unlabelled"))["training"]
        assert data.classes.names == ("cat", "dog")
        assert data.target()[0, 0, :3].tolist() == [1, 1, 255]

    @pytest.mark.parametrize(("overlap", "label"), [("smallest", 1), ("last", 2)])
    def test_overlapping_classes_are_resolved_as_said(self, tmp_path, overlap, label):
        root = coco_folder(tmp_path, [(3, CORNER, {}), (9, SQUARE, {})])
        options = LayoutOptions(uncovered="background", overlap=overlap)
        assert load_dataset(root, layout=options)["training"].target()[0, 1, 1] == label

    @pytest.mark.parametrize(
        ("objects", "options", "error", "words"),
        [
            ([(3, SQUARE, {})], {}, BadData, "--uncovered background, or --uncovered unlabelled"),
            ([(3, CORNER, {}), (9, SQUARE, {})], {"uncovered": "background"}, BadLabels,
             "two classes overlap in 1 pixels; choose --overlap"),
            ([(3, [], {"bbox": [0, 0, 1, 1]})], {"uncovered": "background"}, BadData,
             "has a box and no outline, as for detection"),
            ([(4, SQUARE, {})], {"uncovered": "background"}, BadData, "of category 4, which"),
            ([(3, {"size": [4, 5], "counts": [20]}, {})], {"uncovered": "background"}, BadLabels,
             r"runs of \[4, 5\]; its image is \(4, 6\)"),
            ([(3, [["x"]], {})], {"uncovered": "background"}, BadLabels, "cannot be drawn"),
            ([(3, [[0, 0, float("inf"), 1, float("nan"), 3]], {})], {"uncovered": "background"},
             BadLabels, "corners that are not finite"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_drawn_is_refused(self, tmp_path, objects, options, error, words):
        with pytest.raises(error, match=words) as refusal:
            load_dataset(coco_folder(tmp_path, objects), layout=LayoutOptions(**options))
        assert "\n" not in str(refusal.value)

    def test_files_tell_their_split_and_images_may_be_missing(self, tmp_path):
        root = coco_folder(tmp_path, [(3, SQUARE, {}), (9, [[4, 3, 6, 3, 6, 4, 4, 4]], {})])
        coco_folder(root, [(9, SQUARE, {})], "annotations/instances_val2017.json", ["b.png"])
        options = LayoutOptions(uncovered="background")
        assert list(load_dataset(root, layout=options)) == ["training", "validation"]
        (root / "train2017" / "b.png").unlink()
        with pytest.raises(BadData, match=r"names b\.png, and there is no file of that name"):
            load_dataset(root, layout=options)

    def test_a_polygon_holds_the_pixels_whose_centres_it_holds(self):
        corners = np.array([[0.2, 0.1], [9.7, 3.3], [6.1, 9.9], [1.3, 7.2]])
        drawn = coco.fill(corners, (10, 12))
        from matplotlib.path import Path as Outline

        rows, cols = np.mgrid[:10, :12] + 0.5
        inside = Outline(corners).contains_points(np.stack([cols, rows], -1).reshape(-1, 2))
        np.testing.assert_array_equal(drawn, inside.reshape(10, 12))

    @given(st.lists(st.integers(0, 5000), min_size=1, max_size=12))
    def test_compressed_runs_are_decoded(self, counts):
        assert coco.decode(compressed(counts)) == counts


def compressed(counts):
    """Encode as pycocotools' `rleToString` does."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            code = value & 0x1F
            value >>= 5
            more = value != -1 if code & 0x10 else value != 0
            text += chr(48 + (code | 0x20 if more else code))
            if not more:
                break
    return text


class TestRunTables:
    def folder(self, root, table, *names):
        for name in names or ("train/a.png", "train/b.png", "test/c.png"):
            image(root, name)
        (root / "train.csv").write_text(table)
        return root

    def test_runs_go_by_columns_from_1_and_rows_of_one_image_are_joined(self, tmp_path):
        table = "ImageId,EncodedPixels\na.png,1 2\na.png,5 1\nb.png,\n"
        sets = load_dataset(self.folder(tmp_path, table))
        target = sets["training"].target()
        assert target[0, :, :2].T.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
        assert not target[1].any()
        assert sets["training"].classes.foreground == 1
        assert sets["test"].ids == ("c",)

    @pytest.mark.parametrize("combined", [False, True])
    def test_classes_come_from_a_column_or_from_the_name(self, tmp_path, combined):
        rows = ["a.png,2,1 1", "a.png,10,2 1", "b.png,2,"]
        if combined:
            rows = [row.replace(".png,", ".png_") for row in rows]
        head = "Image_Label,EncodedPixels" if combined else "ImageId,ClassId,EncodedPixels"
        data = load_dataset(self.folder(tmp_path, "\n".join([head, *rows])))["training"]
        assert data.classes.names == ("background", "2", "10")
        assert data.target()[0, :3, 0].tolist() == [1, 2, 0]

    @pytest.mark.parametrize(
        ("rows", "error", "words"),
        [
            ("a.png,1 2\n", BadData, r"b\.png has no row in train\.csv"),
            ("a.png,1 2\nb.png,\nz.png,1 1\n", BadData, r"lists 1 image that .* lacks \(first: z"),
            ("a.png,24 2\nb.png,\n", BadLabels, "run 24 2 leaves the image of 24 pixels"),
            ("a.png,0 2\nb.png,\n", BadLabels, "run 0 2 leaves"),
            ("a.png,1 2 3\nb.png,\n", BadLabels, "expected pairs of first pixel and length"),
        ],
    )
    def test_tables_that_do_not_fit_the_images_are_refused(self, tmp_path, rows, error, words):
        with pytest.raises(error, match=words):
            load_dataset(self.folder(tmp_path, f"ImageId,EncodedPixels\n{rows}"))


class TestNnunet:
    def folder(self, root, labels, names=("p1_0000", "p1_0001", "p2_0000", "p2_0001")):
        for index, name in enumerate(names):
            image(root, f"imagesTr/{name}.png", index)
        for case in ("p1", "p2"):
            image(root, f"labelsTr/{case}.png", 0)
            Image.fromarray(np.eye(4, 6, dtype=np.uint8)).save(root / f"labelsTr/{case}.png")
        document = {"labels": labels, "file_ending": ".png"}
        (root / "dataset.json").write_text(json.dumps(document))
        return root

    @pytest.mark.parametrize(
        "labels", [{"background": 0, "tumour": 1, "ignore": 2}, {"0": "background", "1": "tumour"}]
    )
    def test_channels_are_stacked_and_cases_are_groups(self, tmp_path, labels):
        data = load_dataset(self.folder(tmp_path, labels))["training"]
        assert data.ids == ("p1", "p2")
        assert data.images[:, :, 0, 0].tolist() == [[0, 1], [2, 3]]
        assert data.classes.names == ("background", "tumour")
        assert (2 in data.classes.unlabelled) == ("ignore" in labels)

    def test_missing_channels_and_regions_are_refused(self, tmp_path):
        root = self.folder(tmp_path, {"a": 0, "b": 1})
        (root / "imagesTr" / "p2_0001.png").unlink()
        with pytest.raises(BadData, match="'p2' has channels 0000; expected 0000, 0001"):
            load_dataset(root)
        self.folder(root, {"a": 0, "b": [1, 2]})
        with pytest.raises(BadData, match="regions that overlap"):
            load_dataset(root)

    def nifti(self, root):
        for name in ("imagesTr/p1_0000", "labelsTr/p1"):
            (root / name).parent.mkdir(parents=True)
            (root / f"{name}.nii.gz").write_bytes(b"x")
        (root / "dataset.json").write_text('{"labels": {"a": 0, "b": 1}}')
        return root

    def test_volumes_are_read_slice_by_slice(self, tmp_path, monkeypatch):
        """By a stand-in: nibabel is an extra, which the tests do not install."""
        volume = np.arange(24.0).reshape(2, 4, 3) % 2
        opened = SimpleNamespace(shape=volume.shape, dataobj=volume)
        monkeypatch.setitem(sys.modules, "nibabel", SimpleNamespace(load=lambda _: opened))
        data = load_dataset(self.nifti(tmp_path))["training"]
        assert data.ids == ("p1_0000", "p1_0001", "p1_0002")
        assert data.groups.tolist() == ["p1"] * 3
        assert data.images.dtype == np.float32
        np.testing.assert_array_equal(data.target()[1], volume[..., 1])

    def test_nifti_without_nibabel_names_the_extra(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "nibabel", None)
        with pytest.raises(BadData, match=r"needs nibabel; install it by `pip install 'ens\[nifti"):
            load_dataset(self.nifti(tmp_path))


class TestHuggingFace:
    class Rows(list[dict[str, np.ndarray]]):
        column_names: tuple[str, ...] = ()

    def rows(self, *, masks=True):
        row = {"image": np.zeros((4, 6, 3), np.uint8), "annotation": np.eye(4, 6, dtype=int)}
        rows = self.Rows([row, row])
        rows.column_names = ("image", "annotation") if masks else ("image",)
        return rows

    def test_saved_splits_are_read(self, tmp_path, monkeypatch):
        """By a stand-in: the library is an extra, which the tests do not install."""
        (tmp_path / "dataset_dict.json").write_text("{}")
        opened = {"train": self.rows(), "test": self.rows(masks=False)}
        stand_in = SimpleNamespace(load_from_disk=lambda _: opened)
        monkeypatch.setitem(sys.modules, "datasets", stand_in)
        sets = load_dataset(tmp_path)
        assert sets["training"].ids == ("train-00000", "train-00001")
        assert sets["training"].images.shape == (2, 3, 4, 6)
        assert sets["test"].masks is None

    def test_without_the_library_the_extra_is_named(self, tmp_path, monkeypatch):
        (tmp_path / "dataset_dict.json").write_text("{}")
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(BadData, match=r"pip install 'ens\[huggingface\]'"):
            load_dataset(tmp_path)
