"""Layouts without mask files: COCO and tables of runs."""

import json

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
             BadLabels, "corners far outside of any image"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_drawn_is_refused(self, tmp_path, objects, options, error, words):
        with pytest.raises(error, match=words) as refusal:
            load_dataset(coco_folder(tmp_path, objects), layout=LayoutOptions(**options))
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize(
        ("outline", "words"),
        [
            ({"size": [4, 6], "counts": [1.9, 22.1]}, "lengths of runs that are no whole numbers"),
            ({"size": [4, 6], "counts": [25, -1]}, "lengths of runs that are no whole numbers"),
            ({"size": [4, 6], "counts": [5]}, "runs of 5 pixels in an image of 24"),
            ({"size": [4, 6], "counts": [2**70, 24]}, "runs of 1180591620717411303448 pixels in"),
            # The sum is 24 in numbers of 64 bits.
            ({"size": [4, 6], "counts": [2**62] * 4 + [24]}, "runs of 18446744073709551640 pixels"),
            ({"size": [4, 6], "counts": "z" * 40}, "counts that are no compressed runs"),
            ({"size": [4, 6], "counts": "P" * 40}, "counts that are no compressed runs"),
            ({"size": [4, 6]}, "an outline cannot be drawn"),
            ({"counts": [24]}, r"runs of None; its image is \(4, 6\)"),
            (SQUARE[0], "expected x and y in turn, found 1"),
            ([[1, 2, 3]], r"expected x and y in turn, found \[1, 2, 3\]"),
            ("x", "expected x and y in turn, found 'x'"),
            (5, "an outline cannot be drawn"),
            ([[1e300, 0, -1e300, 5, 1, 9]], "corners far outside of any image"),
            ([[10**400, 0, 1, 5, 1, 9]], "an outline cannot be drawn"),
        ],
    )
    def test_an_outline_that_is_none_is_refused(self, outline, words):
        objects = [{"segmentation": outline, "category_id": 3}]
        with pytest.raises(BadLabels, match=f"^a: .*{words}"):
            coco.draw(objects, [3], "refuse", "a", SIZE)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"annotations": None}, "annotations is None; expected a list of objects"),
            ({"annotations": ["x"]}, "annotations holds 'x'; expected image_id and category_id"),
            ({"annotations": [{"image_id": 0}]}, "category_id is missing or of another type"),
            ({"annotations": [{"image_id": 0, "category_id": [3]}]}, "category_id is missing or"),
            ({"annotations": [{"image_id": 0, "category_id": "3"}]}, "category_id is missing or"),
            ({"annotations": [{"id": 1, "image_id": 9, "category_id": 3, "segmentation": SQUARE}]},
             "object 1 is of image 9, which `images` lacks"),
            ({"categories": {"3": "cat"}}, r"categories is \{'3': 'cat'\}; expected a list"),
            ({"categories": [{"id": 3.7, "name": "cat"}]}, "id is missing or of another type"),
            ({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]},
             "categories has id 3 twice; expected distinct ids"),
            ({"categories": [{"id": i, "name": str(i)} for i in range(300)]},
             "has 300 categories; expected at most 254"),
            ({"images": [], "annotations": []}, "lists no images; expected one at least"),
            ({"images": "x"}, "images is 'x'; expected a list of objects"),
            ({"images": [{"id": 0}]}, "file_name is missing or of another type"),
            ({"images": [{"id": 0, "file_name": "a.png"}] * 2}, "images has id 0 twice"),
        ],
    )  # fmt: skip
    def test_a_malformed_file_is_refused(self, tmp_path, changes, words):
        root = coco_folder(tmp_path, [(3, SQUARE, {})])
        path = root / "annotations" / "instances_train2017.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        with pytest.raises(BadData, match=rf"instances_train2017\.json:? .*{words}") as refusal:
            load_dataset(root, layout=LayoutOptions(uncovered="background"))
        assert "\n" not in str(refusal.value)

    def test_files_of_one_split_or_of_other_categories_are_refused(self, tmp_path):
        root = coco_folder(tmp_path, [(3, SQUARE, {})])
        path = root / "annotations" / "instances_train2017.json"
        document = json.loads(path.read_text())
        second = path.with_name("instances_val2017.json")
        second.write_text(json.dumps(document | {"categories": [{"id": 3, "name": "cow"}]}))
        with pytest.raises(BadData, match=r"val2017\.json has other categories than .*train2017"):
            load_dataset(root, layout=LayoutOptions(uncovered="background"))
        second.rename(path.with_name("more_train.json"))
        with pytest.raises(BadData, match=r"holds COCO files .* of training; keep one"):
            load_dataset(root, layout=LayoutOptions(uncovered="background"))

    def test_other_json_files_are_passed_over(self, tmp_path):
        root = coco_folder(tmp_path, [(3, SQUARE, {}), (9, [[4, 3, 6, 3, 6, 4, 4, 4]], {})])
        (root / "notes.json").write_text("{")
        (root / "list.json").write_text("[]")
        assert "training" in load_dataset(root, layout=LayoutOptions(uncovered="background"))

    def test_a_file_for_each_image_is_no_coco(self, tmp_path):
        image(tmp_path, "images/a.png")
        for index in range(coco.MAX_FILES + 1):
            (tmp_path / f"{index}.json").write_text("{}")
        assert load_dataset(tmp_path)["test"].ids == ("a",)

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
            (f"a.png,{9**30} 2\nb.png,\n", BadLabels, "expected pairs of first pixel and length"),
            ("a.png,1 2,5 1\nb.png,\n", BadData, r"train\.csv, line 2: 3 fields; expected 2"),
            ("a.png,1 2\nb.png\n", BadData, r"train\.csv, line 3: 1 field; expected 2"),
            ("a.png,\nb.png,nan\n", BadData, "holds no runs; expected one object in one image"),
        ],
    )
    def test_tables_that_do_not_fit_the_images_are_refused(self, tmp_path, rows, error, words):
        with pytest.raises(error, match=words):
            load_dataset(self.folder(tmp_path, f"ImageId,EncodedPixels\n{rows}"))

    @pytest.mark.parametrize(
        ("rows", "error", "words"),
        [
            ("a.png,1,1 2\na.png,2,2 1\nb.png,1,\n", BadLabels, "runs of two classes overlap"),
            ("a.png,1,1 2\na.png,,4 1\nb.png,1,\n", BadData, "runs without a class; expected one"),
        ],
    )
    def test_classes_of_runs_must_be_said_and_distinct(self, tmp_path, rows, error, words):
        with pytest.raises(error, match=words):
            load_dataset(self.folder(tmp_path, f"ImageId,ClassId,EncodedPixels\n{rows}"))

    def test_two_tables_are_refused(self, tmp_path):
        table = "ImageId,EncodedPixels\na.png,1 2\nb.png,\n"
        root = self.folder(tmp_path, table)
        (root / "more.csv").write_text(table)
        with pytest.raises(BadData, match=r"tables of runs more\.csv and train\.csv; keep the one"):
            load_dataset(root)

    @pytest.mark.parametrize("name", ["notes.csv", "sample_submission.csv"])
    def test_other_tables_are_passed_over_whatever_they_hold(self, tmp_path, name):
        root = self.folder(tmp_path, "ImageId,EncodedPixels\na.png,1 2\nb.png,\n")
        if name == "notes.csv":
            (root / name).write_bytes(b"Ort,H\xf6he\nM\xfcnchen\n")
        else:
            (root / name).write_text("ImageId,EncodedPixels\nc.png,1 1\n")
        assert sorted(load_dataset(root)) == ["test", "training"]
