import pickle

import numpy as np
import pytest
from PIL import Image

from evaluation.core.classes import MARS, numbered
from evaluation.core.errors import BadData, BadLabels, BadSpec
from evaluation.core.label_options import LabelOptions
from members.data.load_dataset import load_dataset

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 10), np.uint8)
MASKS = RNG.integers(0, 5, (6, 8, 10), np.uint8)
MASKS[0, 0, 0] = 4
BOTH = np.stack([IMAGES, MASKS], axis=1)
GROUPS = np.array(["a", "a", "b", "b", "c", "c"])


def written(tmp_path, **arrays):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    return path


def training(tmp_path, **arrays):
    path = written(tmp_path, **arrays)
    return load_dataset(path)["training"]


def pairs(tmp_path, images, masks):
    for name, arrays in (("images", images), ("masks", masks)):
        (tmp_path / name).mkdir()
        for index, image in enumerate(arrays):
            Image.fromarray(image).save(tmp_path / name / f"p{index}.png")
    return tmp_path


class TestCompetitionFile:
    def test_a_competition_file_gives_training_and_test(self, tmp_path):
        path = written(tmp_path, training_set=BOTH, test_set=IMAGES[:2], training_group=GROUPS)
        sets = load_dataset(path)
        assert sorted(sets) == ["test", "training"]
        np.testing.assert_array_equal(sets["training"].images[:, 0], IMAGES)
        np.testing.assert_array_equal(sets["training"].target(), MASKS)
        np.testing.assert_array_equal(sets["training"].groups, GROUPS)
        np.testing.assert_array_equal(sets["test"].images[:, 0], IMAGES[:2])
        assert sets["training"].ids[:2] == ("train-00000", "train-00001")
        assert sets["test"].ids == ("test-00000", "test-00001")
        assert sets["test"].masks is None
        assert sets["training"].classes == sets["test"].classes == MARS

    def test_a_competition_file_needs_no_groups(self, tmp_path):
        sets = load_dataset(written(tmp_path, training_set=BOTH, test_set=IMAGES))
        assert sets["training"].groups is None

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"training_set": IMAGES}, r"expected \(N, 2, H, W\), image and mask"),
            ({"training_set": BOTH, "test_set": IMAGES[:, :4]}, r"expected \(M, 8, 10\)"),
            ({"training_set": BOTH.astype(float)}, "float64; expected uint8"),
            ({"training_set": BOTH.astype(int) - 300}, "expected 0 to 255"),
            ({"training_set": BOTH.astype(int) + 200}, "expected 0 to 255"),
            ({"training_set": BOTH, "training_group": GROUPS[:3]}, "expected 6 strings"),
            ({"training_set": BOTH, "training_groups": GROUPS}, "'training_groups'; expected"),
        ],
    )
    def test_a_malformed_competition_file_is_refused(self, tmp_path, arrays, words):
        with pytest.raises(BadData, match=words):
            load_dataset(written(tmp_path, **arrays))


class TestGeneralFile:
    @pytest.mark.parametrize(
        ("images", "channels"),
        [
            (IMAGES, 1),
            (IMAGES[..., None], 1),
            (IMAGES[:, None], 1),
            (np.stack([IMAGES] * 3, axis=-1), 3),
            (np.stack([IMAGES] * 3, axis=1), 3),
        ],
        ids=["N H W", "N H W 1", "N 1 H W", "N H W 3", "N 3 H W"],
    )
    def test_a_general_file_has_any_layout_of_channels(self, tmp_path, images, channels):
        data = training(tmp_path, images=images, masks=MASKS)
        assert data.images.shape == (6, channels, 8, 10)
        for channel in range(channels):
            np.testing.assert_array_equal(data.images[:, channel], IMAGES)

    def test_a_general_file_without_masks_is_a_test_set(self, tmp_path):
        sets = load_dataset(written(tmp_path, images=IMAGES))
        assert list(sets) == ["test"]
        assert sets["test"].ids[0] == "own-00000"

    def test_ids_are_the_sources(self, tmp_path):
        source = np.array(list("uvwxyz"))
        data = training(tmp_path, images=IMAGES, masks=MASKS, source=source)
        assert data.ids == tuple("uvwxyz")

    def test_sources_that_repeat_are_numbered(self, tmp_path):
        source = np.array(list("uuvvvw"))
        data = training(tmp_path, images=IMAGES, masks=MASKS, source=source)
        assert data.ids[1:4] == ("u-00001", "v-00000", "v-00001")

    def test_groups_may_be_numbers(self, tmp_path):
        path = written(tmp_path, images=IMAGES, masks=MASKS, group=np.arange(6) // 2)
        assert np.asarray(load_dataset(path)["training"].groups).tolist() == list("001122")

    def test_integers_within_a_byte_are_accepted(self, tmp_path):
        path = written(tmp_path, images=IMAGES.astype(np.int64), masks=MASKS.astype(np.int32))
        assert load_dataset(path)["training"].target().dtype == np.uint8

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"images": IMAGES[0]}, r"expected \(N, H, W\), "),
            ({"images": np.zeros((2, 3, 8, 3), np.uint8)}, "with up to 32 channels C"),
            ({"images": IMAGES / 255}, "float64; expected uint8, 0 to 255"),
            ({"images": IMAGES, "mask": MASKS}, "'mask'; expected 'masks'; rename it"),
            ({"images": IMAGES, "masks": MASKS, "groups": GROUPS}, "expected 'group'"),
            ({"photos": IMAGES}, "holds photos; expected a .npz with training_set"),
            ({"images": IMAGES, "source": np.zeros(6)}, "expected 6 strings or whole numbers"),
        ],
    )
    def test_a_malformed_general_file_is_refused(self, tmp_path, arrays, words):
        with pytest.raises(BadData, match=words):
            load_dataset(written(tmp_path, **arrays))

    def test_masks_of_another_size_are_refused(self, tmp_path):
        with pytest.raises(BadLabels, match="of the same images"):
            load_dataset(written(tmp_path, images=IMAGES, masks=MASKS[:, :4]))


class TestClassNames:
    def test_classes_without_names_are_numbered_and_all_scored(self, tmp_path):
        classes = training(tmp_path, images=IMAGES, masks=MASKS).classes
        assert (classes.names, classes.ignore) == (("0", "1", "2", "3", "4"), None)

    def test_the_file_may_name_its_classes(self, tmp_path):
        names = np.array(["sky", "rock", "dust", "sand", "ice", "gravel"])
        classes = training(tmp_path, images=IMAGES, masks=MASKS, classes=names).classes
        assert (classes.names, classes.ignore) == (tuple(names.tolist()), None)

    def test_the_file_may_name_its_ignored_class(self, tmp_path):
        arrays = {"images": IMAGES, "masks": MASKS, "classes": np.array(list("abcde"))}
        assert training(tmp_path, **arrays, ignore=np.array("e")).classes.ignore == 4
        assert training(tmp_path, **arrays, ignore=np.array("")).classes.ignore is None
        with pytest.raises(BadData, match="ignore is 'f'; expected one of a, b, c, d, e"):
            training(tmp_path, **arrays, ignore=np.array("f"))

    def test_the_names_of_ai4mars_tell_its_ignored_class(self, tmp_path):
        names = np.array(MARS.names)
        assert training(tmp_path, images=IMAGES, masks=MASKS, classes=names).classes == MARS

    def test_unlabelled_pixels_count_for_no_class(self, tmp_path):
        masks = np.where(MASKS > 2, 255, MASKS).astype(np.uint8)
        data = training(tmp_path, images=IMAGES, masks=masks)
        assert len(data.classes) == 3

    def test_class_names_of_the_caller_take_precedence(self, tmp_path):
        path = written(tmp_path, images=IMAGES, masks=MASKS, classes=np.array(list("uvwxyz")))
        own = LabelOptions(tuple("abcdef"), ignore="f")
        classes = load_dataset(path, labels=own)["training"].classes
        assert (classes.names, classes.ignore) == (tuple("abcdef"), 5)

    def test_too_few_class_names_are_refused(self, tmp_path):
        path = written(tmp_path, images=IMAGES, masks=MASKS)
        with pytest.raises(BadLabels, match=r"masks hold 2, 3, 4; expected 0 to 1, or 255"):
            load_dataset(path, labels=LabelOptions(("a", "b")))


class TestStoredValues:
    """Masks whose values are no class indices, or could be several things."""

    def test_unlabelled_values_are_mapped(self, tmp_path):
        path = written(tmp_path, images=IMAGES, masks=MASKS)
        data = load_dataset(path, labels=LabelOptions(unlabelled=0))["training"]
        assert (data.classes.names, data.classes.values) == (("1", "2", "3", "4"), (1, 2, 3, 4))
        np.testing.assert_array_equal(data.target(), np.where(MASKS == 0, 255, MASKS - 1))

    @pytest.mark.parametrize("foreground", [0, 1, 128, 255])
    def test_a_foreground_becomes_class_one(self, tmp_path, foreground):
        inside = MASKS > 2
        background = 0 if foreground else 255
        masks = np.where(inside, foreground, background).astype(np.uint8)
        path = written(tmp_path, images=IMAGES, masks=masks)
        data = load_dataset(path, labels=LabelOptions(foreground=foreground))["training"]
        np.testing.assert_array_equal(data.target(), inside)
        np.testing.assert_array_equal(data.classes.stored(data.target()), masks)
        assert (data.classes.foreground, data.classes.ignore) == (1, None)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ((0, 255), "hold 0 and 255; pass --foreground 255 if .* or --unlabelled 255"),
            ((7, 255), "hold 7 and 255; pass --foreground 255"),
            ((255, 255), "hold only 255; pass --foreground 255"),
            ((0, 128), "hold 0, 128; pass --foreground 128 if .* --classes 129 if"),
        ],
    )
    def test_masks_of_which_nothing_is_known_are_refused(self, tmp_path, values, words):
        masks = np.where(MASKS > 2, *values).astype(np.uint8)
        with pytest.raises(BadLabels, match=words):
            training(tmp_path, images=IMAGES, masks=masks)

    @pytest.mark.parametrize("known", [{}, {"classes": np.array(["ground", "cell"])}])
    @pytest.mark.parametrize("labels", [LabelOptions(), LabelOptions(2), LabelOptions(("a", "b"))])
    def test_two_classes_stored_as_0_and_255_are_asked_about(self, tmp_path, labels, known):
        masks = np.where(MASKS > 2, 255, 0).astype(np.uint8)
        path = written(tmp_path, images=IMAGES, masks=masks, **known)
        with pytest.raises(BadLabels, match="0 and 255; pass --foreground 255 if"):
            load_dataset(path, labels=labels)

    def test_a_later_set_of_0_and_255_is_asked_about(self, tmp_path):
        path = written(tmp_path, images=IMAGES, masks=np.where(MASKS > 2, 255, 0).astype(np.uint8))
        contract = numbered(2, ignore=None)
        with pytest.raises(BadLabels, match="0 and 255; pass --foreground 255 if"):
            load_dataset(path, contract=contract)
        said = load_dataset(path, labels=LabelOptions(unlabelled=255), contract=contract)
        assert set(np.unique(said["training"].target())) == {0, 255}

    @pytest.mark.parametrize("known", [{}, {"classes": np.array(["ground", "cell"])}])
    @pytest.mark.parametrize("labels", [LabelOptions(), LabelOptions(2), LabelOptions(("a", "b"))])
    def test_a_foreground_of_1_in_some_masks_and_255_in_others_is_asked_about(
        self, tmp_path, labels, known
    ):
        masks = (MASKS > 2).astype(np.uint8)
        masks[:2] *= 255
        held = [int((mask == value).any()) for value in (255, 1) for mask in masks]
        words = f"255 without 1 is in {sum(held[:6])} of 6 masks, 1 without 255 in {sum(held[6:])}"
        path = written(tmp_path, images=IMAGES, masks=masks, **known)
        for contract in (None, numbered(2, ignore=None)):
            if contract is None or not (labels or known):
                with pytest.raises(BadLabels, match=words):
                    load_dataset(path, labels=labels, contract=contract)
        said = load_dataset(path, labels=labels.updated(LabelOptions(unlabelled=255)))
        assert set(np.unique(said["training"].target())) == {0, 1, 255}

    def test_masks_of_0_and_1_with_255_beside_them_are_not_asked_about(self, tmp_path):
        masks = (MASKS > 2).astype(np.uint8)
        masks[0, 0, :2] = 1, 255
        masks[1] = np.where(masks[1] == 1, 255, 0)
        assert training(tmp_path, images=IMAGES, masks=masks).classes.unlabelled == (255,)

    def test_masks_of_unlabelled_pixels_alone_are_refused(self, tmp_path):
        path = written(tmp_path, images=IMAGES, masks=np.full_like(MASKS, 255))
        with pytest.raises(BadLabels, match=r"no pixel of the masks is scored: they hold 255"):
            load_dataset(path, labels=LabelOptions(unlabelled=255))

    def test_a_later_set_inherits_classes_and_values(self, tmp_path):
        path = written(tmp_path, images=IMAGES, masks=MASKS)
        contract = LabelOptions(tuple("wxyz"), unlabelled=0, ignore=1).resolve({0, 1, 2, 3, 4})
        path = written(tmp_path, images=IMAGES, masks=np.where(MASKS > 2, 0, MASKS))
        data = load_dataset(path, contract=contract)["training"]
        assert data.classes == contract
        assert set(np.unique(data.target())) == {0, 1, 255}

    @pytest.mark.parametrize(
        "labels",
        [
            LabelOptions(4),
            LabelOptions(tuple("abcde")),
            LabelOptions(ignore=0),
            LabelOptions(unlabelled=9),
            LabelOptions(foreground=9),
        ],
    )
    def test_options_that_contradict_the_training_set_are_refused(self, tmp_path, labels):
        path = written(tmp_path, images=IMAGES, masks=MASKS)
        with pytest.raises(BadSpec, match="the training set has 5 classes"):
            load_dataset(path, labels=labels, contract=numbered(5, ignore=None))

    def test_a_later_set_that_names_other_classes_is_refused(self, tmp_path):
        path = written(tmp_path, training_set=BOTH)
        with pytest.raises(BadSpec, match="its classes are background, soil"):
            load_dataset(path, contract=numbered(5, ignore=None))


class TestPngPairs:
    def test_pairs_are_matched_by_name(self, tmp_path):
        data = load_dataset(pairs(tmp_path, IMAGES, MASKS))["training"]
        assert data.ids == tuple(f"p{index}" for index in range(6))
        np.testing.assert_array_equal(data.images[:, 0], IMAGES)
        np.testing.assert_array_equal(data.target(), MASKS)

    def test_colour_is_kept_channel_first(self, tmp_path):
        colour = np.stack([IMAGES, IMAGES // 2, IMAGES // 3], axis=-1)
        data = load_dataset(pairs(tmp_path, colour, MASKS))["training"]
        np.testing.assert_array_equal(data.images, np.moveaxis(colour, -1, 1))

    def test_palette_masks_are_read_as_indices(self, tmp_path):
        folder = pairs(tmp_path, IMAGES, MASKS)
        for index, mask in enumerate(MASKS):
            image = Image.fromarray(mask)
            image.putpalette([255, 0, 0, 0, 255, 0] * 128)
            image.save(folder / "masks" / f"p{index}.png")
        np.testing.assert_array_equal(load_dataset(folder)["training"].target(), MASKS)

    def test_a_folder_without_masks_is_a_test_set(self, tmp_path):
        folder = pairs(tmp_path, IMAGES, [])
        (folder / "masks").rmdir()
        assert list(load_dataset(folder)) == ["test"]

    @pytest.mark.parametrize("lacking", ["images", "masks"])
    def test_a_name_without_its_pair_is_refused(self, tmp_path, lacking):
        folder = pairs(tmp_path, IMAGES, MASKS)
        (folder / lacking / "p3.png").unlink()
        with pytest.raises(BadData, match=rf"are not in {lacking}/: 1 \(first: p3\)"):
            load_dataset(folder)

    def test_several_sizes_are_kept(self, tmp_path):
        images, masks = [IMAGES[0], IMAGES[1, :4]], [MASKS[0], MASKS[1, :4]]
        folder = pairs(tmp_path, images, masks)
        assert str(load_dataset(folder)["training"].extent) == "2 sizes, 4x10 to 8x10"

    def test_a_mask_of_another_size_than_its_image_is_refused(self, tmp_path):
        with pytest.raises(BadLabels, match=r"mask of 'p0' is \(4, 10\), its image \(8, 10\)"):
            load_dataset(pairs(tmp_path, IMAGES[:1], MASKS[:1, :4]))

    def test_sixteen_bits_are_kept(self, tmp_path):
        wide = IMAGES.astype(np.uint16) * 16
        data = load_dataset(pairs(tmp_path, wide, MASKS))["training"]
        assert data.images.dtype == np.uint16
        np.testing.assert_array_equal(data.images[:, 0], wide)

    def test_a_truncated_image_is_refused(self, tmp_path):
        folder = pairs(tmp_path, IMAGES, MASKS)
        file = folder / "images" / "p2.png"
        file.write_bytes(file.read_bytes()[:60])
        with pytest.raises(BadData, match=r"p2\.png is no readable image"):
            load_dataset(folder)


class TestImagesAlone:
    def test_a_stack_is_numbered_after_its_file(self, tmp_path):
        np.save(tmp_path / "new.npy", IMAGES)
        data = load_dataset(tmp_path / "new.npy")["test"]
        np.testing.assert_array_equal(data.images[:, 0], IMAGES)
        assert data.ids[:2] == ("new-00000", "new-00001")
        assert data.masks is None

    def test_a_stack_of_another_shape_is_refused(self, tmp_path):
        np.save(tmp_path / "new.npy", IMAGES[0])
        with pytest.raises(BadData, match=r"new\.npy: images have shape \(8, 10\)"):
            load_dataset(tmp_path / "new.npy")

    def test_a_folder_of_png_and_jpeg_is_read_by_name(self, tmp_path):
        for name, image in zip(("b.png", "a.jpg", "c.JPEG"), IMAGES, strict=False):
            Image.fromarray(image).save(tmp_path / name)
        (tmp_path / "notes.txt").write_text("not an image")
        data = load_dataset(tmp_path)["test"]
        assert data.ids == ("a", "b", "c")
        np.testing.assert_array_equal(data.images[1, 0], IMAGES[0])

    def test_two_files_of_one_name_are_refused(self, tmp_path):
        for name in ("a.png", "a.jpg"):
            Image.fromarray(IMAGES[0]).save(tmp_path / name)
        with pytest.raises(BadData, match=r"holds a\.jpg and a\.png; remove one"):
            load_dataset(tmp_path)


class TestRefusals:
    def test_a_missing_path_is_named(self, tmp_path):
        with pytest.raises(BadData, match=r"nowhere is missing; expected a \.npz"):
            load_dataset(tmp_path / "nowhere")

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        with pytest.raises(BadData, match="holds nothing; expected images/ beside masks/"):
            load_dataset(tmp_path)

    def test_a_truncated_file_is_refused(self, tmp_path):
        path = written(tmp_path, images=IMAGES)
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(BadData, match=r"own\.npz is no readable \.npz"):
            load_dataset(path)

    @pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
    def test_a_damaged_file_is_refused(self, tmp_path, place):
        path = tmp_path / "own.npz"
        np.savez_compressed(path, images=IMAGES, masks=MASKS)
        content = bytearray(path.read_bytes())
        start = int(place * len(content))
        content[start : start + 40] = bytes(40)
        path.write_bytes(content)
        with pytest.raises(BadData, match=r"own\.npz"):
            load_dataset(path)

    def test_python_objects_are_never_unpickled(self, tmp_path):
        objects = np.array([_Trap(tmp_path), None], dtype=object)
        path = written(tmp_path, images=objects)
        with pytest.raises(BadData, match="never unpickled"):
            load_dataset(path)
        assert not (tmp_path / "sprung").exists()

    def test_a_bare_pickle_is_refused(self, tmp_path):
        path = tmp_path / "own.npz"
        path.write_bytes(pickle.dumps(_Trap(tmp_path)))
        with pytest.raises(BadData, match=r"no readable \.npz"):
            load_dataset(path)
        assert not (tmp_path / "sprung").exists()

    def test_another_suffix_is_refused(self, tmp_path):
        (tmp_path / "x.tif").write_bytes(b"II*")
        with pytest.raises(BadData, match=r"x\.tif is no \.npz or \.npy file"):
            load_dataset(tmp_path / "x.tif")


class _Trap:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (open, (str(self.folder / "sprung"), "w"))


def test_a_competition_file_may_hold_no_test_images(tmp_path):
    file = written(tmp_path, training_set=BOTH, test_set=IMAGES[:0])
    assert set(load_dataset(file)) == {"training"}
