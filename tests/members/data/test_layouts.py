"""Layouts on disk: each is read as it lies, and what has two readings is refused with both."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.core.errors import BadData, BadLabels, BadSpec
from evaluation.core.label_options import LabelOptions, read_colours
from members.data.group_names import group_names
from members.data.layouts import LayoutOptions
from members.data.load_dataset import load_dataset
from members.data.recognise import recognise

SHAPE = (4, 6)
MASK = np.arange(24, dtype=np.uint8).reshape(SHAPE) % 3


def write(root, *names, mask=MASK):
    """Write images and masks; what is called like a mask gets class indices."""
    for index, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        is_mask = any(word in name for word in ("mask", "label", "ann", "gt", "Segm", "_L", "_P"))
        pixels = mask if is_mask else np.full(SHAPE, index, np.uint8)
        if file.suffix in (".png", ".jpg", ".tif"):
            Image.fromarray(pixels).save(file)
        else:
            file.write_text("x")
    return root


def ids_of(root, **options):
    sets = load_dataset(root, layout=LayoutOptions(**options))
    return {name: data.ids for name, data in sets.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["images/a.jpg", "masks/a.png"], {"training": ("a",)}),
        (["imgs/a.jpg", "gt/a.png"], {"training": ("a",)}),
        (["JPEGImages/a.jpg", "labels/a.png"], {"training": ("a",)}),
        (["img/a.jpg", "annotations/a.png"], {"training": ("a",)}),
        (["a.png", "a_mask.png", "b.png", "b_mask.png"], {"training": ("a", "b")}),
        (["a.png", "a_L.png"], {"training": ("a",)}),
        (["a_sat.jpg", "a_mask.png"], {"training": ("a_sat",)}),
        (["images/a.jpg", "masks/a_label.png"], {"training": ("a",)}),
        (["images/a_img.jpg", "masks/a_gt.png"], {"training": ("a_img",)}),
        (["images/x/a.jpg", "images/y/a.jpg", "masks/x/a.png", "masks/y/a.png"],
         {"training": ("x-a", "y-a")}),
        (["images/x/a.jpg", "images/y/b.jpg", "masks/x/a.png", "masks/y/b.png"],
         {"training": ("a", "b")}),
        (["deep/images/a.jpg", "deep/masks/a.png"], {"training": ("a",)}),
        (["train/images/a.jpg", "train/masks/a.png", "val/images/b.jpg", "val/masks/b.png",
          "test/images/c.jpg"], {"training": ("a",), "validation": ("b",), "test": ("c",)}),
        (["images/train/a.jpg", "labels/train/a.png", "images/valid/b.jpg", "labels/valid/b.png"],
         {"training": ("a",), "validation": ("b",)}),
        (["train/a.jpg", "train_masks/a.png", "test/c.jpg"],
         {"training": ("a",), "test": ("c",)}),
        (["train/a.png", "trainannot/a.png", "val/b.png", "valannot/b.png"],
         {"training": ("a",), "validation": ("b",)}),
        (["images/a.jpg", "masks/a.png", "test/c.jpg"], {"training": ("a",), "test": ("c",)}),
        (["scene_L.png", "scene_R.png"], {"test": ("scene_L", "scene_R")}),
        (["images/a.png", "images/.b.gif", "images/a.pgw", "Thumbs.db"], {"test": ("a",)}),
    ],
)  # fmt: skip
def test_a_layout_is_read_as_it_lies(tmp_path, names, expected):
    root = write(tmp_path, *names)
    assert ids_of(root) == expected
    data = load_dataset(root)
    for split in set(expected) - {"test"}:
        np.testing.assert_array_equal(data[split].target()[0], MASK)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["images/a.png", "masks/a.png", "labels/a.png"], r"masks of training may be .* choose by"),
        (["images/a.png", "images/a_mask.png", "masks/a.png"], "masks of training may be"),
        (["images/a.png", "img/a.png", "masks/a.png"], r"holds images/a\.png and img/a\.png"),
        (["a.jpg", "a.png"], r"holds a\.jpg and a\.png; remove one"),
        (
            ["images/a.png", "images/b.png", "masks/a.png"],
            r"images/ that are not in masks/: 1 \(",
        ),
        (
            ["images/a.png", "masks/a.png", "masks/b.png"],
            r"masks/ that are not in images/: 1 \(",
        ),
        (
            ["images/a.png", "masks/zz.png"],
            r"expected pairs of equal names .* --images",
        ),
        (["masks/a.png"], r"holds masks \(masks/a\.png\) and no image"),
        (["cat/a.png", "dog/b.png"], "2 folders .cat, dog. and no masks, like a set for classif"),
        (["images/a.png", "labels/a.txt"], r"labels holds a\.txt, boxes for detection; expected"),
        (["train/a.png", "val/b.png"], "images of training, validation and no masks"),
        (["train/a.png", "train/a_mask.png", "b.png", "b_mask.png"], "of training and .* no split"),
        (["train/a.png", "val/b.png", "val/b_mask.png"], "none of training images"),
        (["images/a.png", "images/b.heic", "masks/a.png"], r"left out \(first: b\.heic\)"),
        (["notes.txt"], r"holds notes\.txt; expected images/ beside masks/"),
    ],
)
def test_what_cannot_be_read_in_one_way_is_refused_in_one_line(tmp_path, names, words):
    root = write(tmp_path, *names)
    with pytest.raises(BadData, match=words) as refusal:
        load_dataset(root)
    assert "\n" not in str(refusal.value)


def test_a_broken_link_among_the_images_is_refused(tmp_path):
    (write(tmp_path, "images/a.png") / "images" / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(BadData, match=r"b\.png is a broken link or no regular file"):
        load_dataset(tmp_path)


def test_a_folder_of_masks_that_holds_none_is_refused(tmp_path):
    root = write(tmp_path, "images/a.png")
    (root / "masks").mkdir()
    with pytest.raises(BadData, match=r"masks holds no mask for images/a\.png; expected pairs"):
        load_dataset(root)


def test_masks_that_are_jpeg_are_refused_with_the_reason(tmp_path):
    with pytest.raises(BadLabels, match="lossy compression, which changes class indices"):
        load_dataset(write(tmp_path, "images/a.jpg", "masks/a.jpg"))


class TestGlobs:
    @pytest.mark.parametrize(
        ("names", "images", "masks", "ids"),
        [
            (["scans/a_t1.png", "out/a-gt.png"], "scans/{id}_t1.png", "out/{id}-gt.png", ("a",)),
            (["s/a/image.png", "s/a/gt.png"], "s/{id}/image.png", "s/{id}/gt.png", ("a",)),
            (["x/a/a.png", "x/a/m/a.tif"], "*/{id}/{id}.png", "**/m/{id}.tif", ("a",)),
            (["a.jpg", "a.png"], "{id}.jpg", "{id}.png", ("a",)),
            (["q/b.png", "a.png"], "**/{id}.png", None, ("a", "b")),
        ],
    )
    def test_pairs_are_what_stands_at_id(self, tmp_path, names, images, masks, ids):
        root = write(tmp_path, *names)
        (found,) = ids_of(root, images=images, masks=masks).values()
        assert sorted(found) == list(ids)

    @pytest.mark.parametrize(
        ("images", "masks", "error", "words"),
        [
            ("i/*.png", None, BadSpec, r"expected \{id\} where the name"),
            (None, "m/{id}.png", BadSpec, "--masks goes with --images"),
            ("/i/{id}.png", None, BadSpec, "expected a glob below"),
            ("../{id}.png", None, BadSpec, "expected a glob below"),
            ("j/{id}.png", None, BadData, r"finds no file below .*, which holds 3 \(first file: i"),
            (
                "i/{id}.png",
                "m/{id}.png",
                BadData,
                r"1 ids have no mask \(first: b\) among 2",
            ),
            ("**/{id}.png", None, BadData, r"finds i/a\.png and m/a\.png for 'a'"),
        ],
    )
    def test_globs_that_pair_nothing_or_too_much_are_refused(
        self, tmp_path, images, masks, error, words
    ):
        root = write(tmp_path, "i/a.png", "i/b.png", "m/a.png")
        with pytest.raises(error, match=words):
            load_dataset(root, layout=LayoutOptions(images=images, masks=masks))

    def test_a_file_takes_no_globs(self, tmp_path):
        np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 6), np.uint8))
        with pytest.raises(BadSpec, match="choose in a folder"):
            load_dataset(tmp_path / "a.npz", layout=LayoutOptions(images="{id}.png"))


class TestIdLists:
    @pytest.mark.parametrize(
        "lines", ["b\na\n", "images/b.png masks/b.png\n/images/a.png masks/a.png", "b.png\n# x\na"]
    )
    def test_a_list_chooses_images_by_id_name_or_path_in_its_order(self, tmp_path, lines):
        root = write(tmp_path / "d", "images/a.png", "images/b.png", "images/c.png", "masks/a.png",
                     "masks/b.png")  # fmt: skip
        (tmp_path / "train.txt").write_text(lines)
        assert ids_of(root, ids=str(tmp_path / "train.txt")) == {"training": ("b", "a")}

    @pytest.mark.parametrize(
        ("lines", "words"),
        [
            ("a\nzz\n", "lists 'zz', which the data lack; expected ids such as"),
            ("", "lists no ids"),
            (None, r"train\.txt is missing; expected a text file with one id per line"),
            ("a\nc\n", r"1 of 2 training images have no mask \(first: c\)"),
            ("s\n", r"lists 's', which 2 images are called; write 'x/s' or 'y/s'"),
        ],
    )
    def test_a_list_that_does_not_fit_is_refused(self, tmp_path, lines, words):
        root = write(tmp_path / "d", "images/a.png", "images/c.png", "masks/a.png",
                     "images/x/s.png", "images/y/s.png")  # fmt: skip
        if lines is not None:
            (tmp_path / "train.txt").write_text(lines)
        with pytest.raises(BadData, match=words):
            ids_of(root, ids=str(tmp_path / "train.txt"))


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"overlap": "first"}, "--overlap 'first'; known: refuse, smallest, last"),
            ({"uncovered": "void"}, "--uncovered 'void'; known: background, unlabelled"),
            ({"masks": "m/{id}.png"}, "--masks goes with --images"),
            ({"layuot": "voc"}, "unknown key 'layuot'; known: layout, images"),
            ({"layout": 7}, "layout is 7; expected text"),
        ],
    )
    def test_options_of_an_experiment_are_checked_with_their_place(self, options, words):
        with pytest.raises(BadSpec, match=f"^'layout': {words}"):
            LayoutOptions.from_dict(options, "'layout'")

    def test_newer_options_replace_those_that_they_say(self):
        older = LayoutOptions.from_dict({"group_by": "t.csv:patient", "layout": None}, "'layout'")
        newer = older.updated(LayoutOptions(layout="pairs"))
        assert newer == LayoutOptions(layout="pairs", group_by="t.csv:patient")
        assert newer.group_table == (Path("t.csv"), "patient")
        assert LayoutOptions(group_by="^(.)").group_table is LayoutOptions().group_table is None
        assert bool(newer)
        assert not LayoutOptions()


class TestKinds:
    RGB = np.stack([MASK, MASK + 1, MASK + 2], axis=-1)

    @pytest.mark.parametrize(
        ("second", "words"),
        [
            (RGB, r"the folder holds grey and RGB images \(a, b\); expected one kind"),
            (MASK.astype(np.uint16), "images differ in type: a uint8, b uint16; expected one kind"),
            (np.dstack([RGB, MASK + 3, MASK + 4]), "images differ in channels: a 1, b 5; expected"),
        ],
    )
    def test_images_of_two_kinds_are_refused(self, tmp_path, second, words):
        for name, pixels in (("a", MASK), ("b", second)):
            np.save(tmp_path / f"{name}.npy", pixels)
        with pytest.raises(BadData, match=words):
            load_dataset(tmp_path)

    def test_grey_images_stored_as_colours_are_grey_beside_grey_ones(self, tmp_path):
        np.save(tmp_path / "a.npy", MASK)
        np.save(tmp_path / "b.npy", np.stack([MASK] * 3, axis=-1))
        images = load_dataset(tmp_path)["test"].images
        np.testing.assert_array_equal(images, np.stack([MASK, MASK])[:, None])

    @pytest.mark.parametrize("image", ["a.npy", "a.png"])
    def test_a_mask_of_another_size_is_refused(self, tmp_path, image):
        write(tmp_path, "images/x.png", "masks/a.png", mask=MASK.T.copy())
        (tmp_path / "images" / "x.png").rename(tmp_path / "images" / "a.png")
        if image == "a.npy":
            (tmp_path / "images" / "a.png").unlink()
            np.save(tmp_path / "images" / image, MASK)
        with pytest.raises(BadLabels, match=r"mask of 'a' is \(6, 4\), its image \(4, 6\); exp"):
            load_dataset(tmp_path)

    def test_an_image_turned_by_exif_says_so_where_its_mask_does_not_fit(self, tmp_path):
        write(tmp_path, "masks/a.png")
        (tmp_path / "images").mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(MASK).save(tmp_path / "images" / "a.png", exif=exif)
        with pytest.raises(BadLabels, match=r"\(6, 4\) after turning by its EXIF orientation 6"):
            load_dataset(tmp_path)

    def test_files_of_one_image_must_be_alike(self, tmp_path):
        files = {"0000": MASK, "0001": MASK[:2]}
        for channel, pixels in files.items():
            write(tmp_path, f"imagesTr/a_{channel}.png", "labelsTr/a.png")
            Image.fromarray(pixels).save(tmp_path / f"imagesTr/a_{channel}.png")
        (tmp_path / "dataset.json").write_text('{"labels": {"a": 0, "b": 1, "c": 2}}')
        with pytest.raises(BadData, match="the files of 'a' differ in size or type; expected one"):
            load_dataset(tmp_path)


class TestGroups:
    def test_groups_come_from_names_or_a_table(self, tmp_path):
        root = write(tmp_path / "d", "images/p1/a_1.png", "images/p2/b_2.png", "masks/p1/a_1.png",
                     "masks/p2/b_2.png")  # fmt: skip
        (tmp_path / "t.csv").write_text("name,patient\na_1.png,P\nb_2,Q\n")
        for spec, expected in (
            ("^([^/]+)/", ["p1", "p2"]),
            (r"(?P<who>[ab])_\d", ["a", "b"]),
            (f"{tmp_path}/t.csv:patient", ["P", "Q"]),
        ):
            data = load_dataset(root, layout=LayoutOptions(group_by=spec))["training"]
            assert data.groups.tolist() == expected

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("a_", "no group in parentheses"),
            ("(a", "no regular expression"),
            ("(a)_", r"no group for 1 of 2 images \(first: b_2\)"),
            ("t.csv:patient", r"t\.csv is missing; expected a CSV table"),
        ],
    )
    def test_groups_that_cannot_be_told_are_refused(self, spec, words):
        with pytest.raises(BadSpec, match=words):
            group_names(["a_1", "b_2"], spec)

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ("name,patient\na_1,P\n", r"t\.csv has no column 'site'; known: name, patient"),
            ("", r"t\.csv has no column 'site'; known: "),
            ("name,site\na_1,P\na_1.png,Q\nb_2,P\n", r"gives 'a_1' two groups in column 'site'"),
            ("name,site\na_1,P, Q\n", "line 2: 3 fields; expected 2"),
            ("name,site\na_1,P\nb_2,\n", r"no group for 1 of 2 images \(first: b_2\)"),
        ],
    )
    def test_tables_that_give_no_group_are_refused(self, tmp_path, table, words):
        (tmp_path / "t.csv").write_text(table)
        with pytest.raises(BadSpec, match=words):
            group_names(["a_1", "b_2"], f"{tmp_path}/t.csv:site")

    def test_files_of_arrays_are_grouped_by_their_ids(self, tmp_path):
        source = np.array(["a_1", "a_2", "b_1"])
        images = np.zeros((3, 4, 6), np.uint8)
        np.savez(tmp_path / "a.npz", images=images, source=source)
        data = load_dataset(tmp_path / "a.npz", layout=LayoutOptions(group_by="^(.)"))["test"]
        assert data.groups.tolist() == ["a", "a", "b"]


class TestKnownSets:
    def test_camvid_has_its_classes_void_and_drives(self, tmp_path):
        names = ("0001TP_006690", "0016E5_00390", "Seq05VD_f00030")
        mask = np.full(SHAPE, 11, np.uint8)
        mask[0, :2] = 0, 10
        write(tmp_path, *(f"train/images/{n}.png" for n in names), mask=mask)
        write(tmp_path, *(f"train/masks/{n}.png" for n in names), mask=mask)
        data = load_dataset(tmp_path)["training"]
        assert data.groups.tolist() == ["0001TP", "0016E5", "Seq05VD"]
        assert data.classes.names[::10] == ("Sky", "Bicyclist")
        assert data.target()[0, 0, :3].tolist() == [0, 10, 255]
        assert recognise(tmp_path).name == "camvid"

    @pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
    def test_cityscapes_has_19_classes_and_cities_whatever_its_masks(self, tmp_path, kind):
        mask = np.full(SHAPE, 4 if kind == "labelIds" else 255, np.uint8)
        mask[0, :2] = (7, 33) if kind == "labelIds" else (0, 18)
        stem = "aachen_000000_000019"
        write(tmp_path, f"leftImg8bit/train/aachen/{stem}_leftImg8bit.png")
        write(tmp_path, "leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png")
        write(tmp_path, f"gtFine/train/aachen/{stem}_gtFine_{kind}.png", mask=mask)
        write(tmp_path, f"gtFine/train/aachen/{stem}_gtFine_color.png", mask=mask)
        sets = load_dataset(tmp_path)
        training = sets["training"]
        assert (training.ids, training.groups.tolist()) == ((stem,), ["aachen"])
        assert training.target()[0, 0, :3].tolist() == [0, 18, 255]
        assert len(training.classes) == 19
        assert sets["test"].masks is None

    def test_pascal_voc_is_split_by_its_lists(self, tmp_path):
        root = tmp_path / "VOCdevkit" / "VOC2012"
        names = ("2007_000032", "2007_000033", "2007_000039")
        mask = np.full(SHAPE, 255, np.uint8)
        mask[0, :2] = 0, 20
        write(root, *(f"JPEGImages/{n}.jpg" for n in (*names, "2008_000001")))
        write(root, *(f"SegmentationClass/{n}.png" for n in names), mask=mask)
        write(root, *(f"SegmentationObject/{n}.png" for n in names))
        lists = root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("2007_000032\n2007_000039\n")
        (lists / "val.txt").write_text("2007_000033\n")
        sets = load_dataset(tmp_path)
        assert {name: data.ids for name, data in sets.items()} == {
            "training": ("2007_000032", "2007_000039"),
            "validation": ("2007_000033",),
        }
        assert sets["training"].target()[0, 0, :3].tolist() == [0, 20, 255]
        classes = sets["training"].classes
        assert (classes.names[1], classes.colours[1]) == ("aeroplane", "#800000")
        (lists / "train.txt").write_text("2008_000001\n")
        with pytest.raises(BadData, match="1 of 1 training images lack an image in"):
            load_dataset(tmp_path)

    def test_ade20k_leaves_0_unlabelled(self, tmp_path):
        mask = np.zeros(SHAPE, np.uint8)
        mask[0, :2] = 1, 150
        for kind, file in (("train", "training"), ("val", "validation")):
            write(tmp_path, f"images/{file}/ADE_{kind}_00000001.jpg")
            write(tmp_path, f"annotations/{file}/ADE_{kind}_00000001.png", mask=mask)
        sets = load_dataset(tmp_path)
        assert list(sets) == ["training", "validation"]
        assert sets["training"].target()[0, 0, :3].tolist() == [0, 149, 255]
        again = load_dataset(tmp_path, labels=LabelOptions(ignore="1"))["training"]
        assert (again.classes.ignore, again.classes.values[-1]) == (0, 150)

    def test_mmsegmentation_is_read_by_split(self, tmp_path):
        write(tmp_path, "img_dir/train/a.jpg", "img_dir/val/b.jpg")
        write(tmp_path, "ann_dir/train/a.png", "ann_dir/val/b.png")
        assert ids_of(tmp_path) == {"training": ("a",), "validation": ("b",)}
        assert recognise(tmp_path).name == "mmseg"

    def test_a_layout_may_be_chosen_by_name(self, tmp_path):
        write(tmp_path, "images/0016E5_00390.png", "masks/0016E5_00390.png")
        assert recognise(tmp_path, LayoutOptions(layout="pairs")).known is None
        with pytest.raises(BadSpec, match="--layout 'x'; known: nnunet"):
            recognise(tmp_path, LayoutOptions(layout="x"))
        with pytest.raises(BadData, match="and no layout 'voc'"):
            recognise(tmp_path, LayoutOptions(layout="voc"))


class TestColourMasks:
    COLOURS = np.array([[0, 0, 0], [128, 64, 128], [255, 0, 0]], np.uint8)
    TABLE = "name,r,g,b\nvoid,0,0,0\nroad,128,64,128\ncar,255,0,0\n"

    def folder(self, tmp_path, colours=COLOURS):
        root = write(tmp_path / "d", "images/a.png", "masks/a.png")
        Image.fromarray(colours[MASK]).save(root / "masks" / "a.png")
        return root

    @pytest.mark.parametrize("table", ["class_dict.csv", "given"])
    def test_colours_become_classes_by_a_table_of_the_user_or_the_data(self, tmp_path, table):
        root, labels = self.folder(tmp_path), LabelOptions()
        if table == "given":
            (tmp_path / "t.txt").write_text("void 0 0 0\nroad #804080\ncar 255 0 0\n")
            names, colours = read_colours(tmp_path / "t.txt")
            labels = LabelOptions(names, colours=colours)
        else:
            (root / table).write_text(self.TABLE)
        data = load_dataset(root, labels=labels)["training"]
        assert data.classes.names == ("void", "road", "car")
        np.testing.assert_array_equal(data.target()[0], MASK)

    def test_colours_without_a_table_or_outside_it_are_refused(self, tmp_path):
        root = self.folder(tmp_path)
        with pytest.raises(BadLabels, match=r"has mode RGB; .* a table of the colours \(--colours"):
            load_dataset(root)
        (root / "class_dict.csv").write_text(self.TABLE.replace("car,255", "car,254"))
        with pytest.raises(BadLabels, match=r"a\.png holds #ff0000 in 8 pixels; expected one of"):
            load_dataset(root)

    def test_a_table_that_gives_a_colour_to_two_classes_is_refused(self, tmp_path):
        root = self.folder(tmp_path)
        (root / "class_dict.csv").write_text(self.TABLE.replace("car,255", "car,0"))
        with pytest.raises(BadLabels, match="colour #000000 stands for two classes; expected dist"):
            load_dataset(root)

    def test_masks_of_indices_and_of_colours_in_one_set_are_refused(self, tmp_path):
        root = write(self.folder(tmp_path), "images/b.png", "masks/b.png")
        Image.fromarray(self.COLOURS[MASK]).save(root / "masks" / "a.png")
        with pytest.raises(BadLabels, match=r"is in colours and .* holds one value per pixel"):
            load_dataset(root)

    def test_three_equal_channels_are_one(self, tmp_path):
        root = self.folder(tmp_path, np.array([[0] * 3, [1] * 3, [2] * 3], np.uint8))
        np.testing.assert_array_equal(load_dataset(root)["training"].target()[0], MASK)
