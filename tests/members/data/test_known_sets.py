"""Pascal VOC, Cityscapes, ADE20K and CamVid: what their own files say, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from evaluation.core.errors import BadData
from members.data.load_dataset import load_dataset
from members.data.recognise import recognise

SHAPE = (4, 6)
MASK = np.arange(24, dtype=np.uint8).reshape(SHAPE) % 3
NO_TEXT = b"b\xe9ton\n"
CAMVID = ("images/0016E5_00390.png", "labels/0016E5_00390.png")
ADE20K = ("images/ADE_train_00000001.png", "annotations/ADE_train_00000001.png")


def write(root, *files, **texts):
    """Write images, masks (by their folder) and texts, whose `__` are slashes and `_txt` .txt."""
    for name in files:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        is_mask = any(word in name for word in ("Segm", "labels/", "annotations/", "gtFine"))
        Image.fromarray(MASK if is_mask else MASK + 9).save(file)
    for name, text in texts.items():
        file = root / f"{name.replace('__', '/')}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def voc(root, *names, **texts):
    files = [f"JPEGImages/{name}.png" for name in names]
    lists = {f"ImageSets__Segmentation__{name}": text for name, text in texts.items()}
    return write(root, *files, *(f"SegmentationClass/{name}.png" for name in names), **lists)


def ade20k_table(names):
    rows = [f"{value}\t0.1\t1\t1\t{name}, other words" for value, name in enumerate(names, 1)]
    return "\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows])


class TestPascalVoc:
    @pytest.mark.parametrize(
        ("lists", "words"),
        [
            ({"train": "a\nzz\ny\n"}, r"train\.txt lists 2 images that JPEGImages/ lacks \(first"),
            ({"train": "a\nb\n", "val": "c\na\n"},
             r"val\.txt lists 'a', and so does train\.txt; expected each image in one of them"),
            ({"train": "\n"}, "no image is listed in ImageSets/Segmentation/, or has a mask"),
            ({"train": NO_TEXT}, r"train\.txt cannot be read .*; expected one image per line"),
            ({"train": "d\n"}, "1 of 1 training images lack .* a mask in SegmentationClass/"),
        ],
    )  # fmt: skip
    def test_lists_that_do_not_fit_the_images_are_refused(self, tmp_path, lists, words):
        root = write(voc(tmp_path, "a", "b", "c", **lists), "JPEGImages/d.png")
        with pytest.raises(BadData, match=words):
            load_dataset(root)

    def test_test_images_need_no_masks(self, tmp_path):
        root = write(voc(tmp_path, "a", train="a\n", test="d\n"), "JPEGImages/d.png")
        sets = load_dataset(root)
        assert {name: data.ids for name, data in sets.items()} == {
            "training": ("a",),
            "test": ("d",),
        }
        assert sets["test"].masks is None

    def test_two_sets_below_a_folder_are_refused(self, tmp_path):
        voc(tmp_path / "VOC2007", "a")
        voc(tmp_path / "VOC2012", "a")
        with pytest.raises(BadData, match="sets in VOC2007 and VOC2012; give one of these folders"):
            load_dataset(tmp_path)

    def test_classes_are_those_of_the_folders_own_list(self, tmp_path):
        root = write(voc(tmp_path, "a"), class_names="__ignore__\nsky\nroad\n\ncar\n")
        assert load_dataset(root)["training"].classes.names == ("sky", "road", "car")


def test_the_names_of_ade20k_come_from_its_table_and_repeated_ones_get_their_number(tmp_path):
    names = [f"n{value}" for value in range(1, 151)]
    names[4] = names[2] = "door"
    root = write(tmp_path, *ADE20K, objectInfo150=ade20k_table(names))
    data = load_dataset(root)["training"]
    assert data.classes.names[:6] == ("n1", "n2", "door", "n4", "door 5", "n6")
    (root / "objectInfo150.txt").write_text(ade20k_table(names[:9]))
    assert load_dataset(root)["training"].classes.names[:2] == ("1", "2")


class TestCamVid:
    def test_classes_come_from_the_list_of_codes_one_per_line(self, tmp_path):
        root = write(tmp_path, *CAMVID, codes="Sky\nTraffic light\n\nRoad\n")
        data = load_dataset(root)["training"]
        assert data.classes.names == ("Sky", "Traffic light", "Road")
        assert recognise(root).why.endswith("the groups; classes of codes.txt")

    def test_classes_come_from_a_table_of_colours(self, tmp_path):
        colours = np.array([[0, 0, 0], [64, 0, 0], [0, 64, 0]], np.uint8)
        root = write(tmp_path, *CAMVID, label_colors="0 0 0 Void\n64 0 0 Road\n0 64 0 Car\n")
        Image.fromarray(colours[MASK]).save(root / CAMVID[1])
        data = load_dataset(root)["training"]
        assert data.classes.names == ("Void", "Road", "Car")
        np.testing.assert_array_equal(data.target()[0], MASK)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (CAMVID, "codes"),
        (CAMVID, "label_colors"),
        (ADE20K, "objectInfo150"),
        (("JPEGImages/a.png", "SegmentationClass/a.png"), "class_names"),
    ],
)
def test_a_list_of_classes_that_is_no_text_is_named(tmp_path, files, name):
    root = write(tmp_path, *files, **{name: NO_TEXT})
    with pytest.raises(Exception, match=rf"{name}\.txt cannot be read .*, in UTF-8") as refusal:
        load_dataset(root)
    assert "\n" not in str(refusal.value)


class TestCityscapes:
    IMAGE = "leftImg8bit/{}/bonn_000000_000019_leftImg8bit.png"

    @pytest.mark.parametrize(
        ("folder", "words"),
        [
            ("demo/bonn", "expected leftImg8bit/SPLIT/CITY, where SPLIT is train, val or test"),
            ("", "expected leftImg8bit/SPLIT/CITY"),
            ("train/bonn", "has no mask gtFine/train/bonn/bonn_000000_000019_gtFine_labelIds.png"),
        ],
    )
    def test_images_without_a_split_or_a_mask_are_refused(self, tmp_path, folder, words):
        with pytest.raises(BadData, match=words):
            load_dataset(write(tmp_path, self.IMAGE.format(folder)))

    def test_test_images_alone_are_a_test_set(self, tmp_path):
        root = write(tmp_path, self.IMAGE.format("test/bonn"))
        assert load_dataset(root)["test"].ids == ("bonn_000000_000019",)
        assert "without masks" in recognise(root).why

    def test_an_empty_folder_of_its_name_is_no_cityscapes(self, tmp_path):
        (tmp_path / "leftImg8bit").mkdir()
        assert recognise(write(tmp_path, "a.png")).name == "images"


def test_empty_folders_of_mmsegmentation_are_no_data_set(tmp_path):
    for name in ("img_dir", "ann_dir"):
        (tmp_path / name).mkdir()
    with pytest.raises(BadData, match="holds nothing; expected images/ beside masks/"):
        load_dataset(tmp_path)
