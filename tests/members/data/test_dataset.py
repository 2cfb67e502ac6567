from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.classes import MARS, UNLABELLED, Classes
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.ragged import Extent, Ragged
from members.data.dataset import DataSet, StoredSet, read_classes, write_classes


def data_set(count=4, channels=1, labelled=True, grouped=True, **changes):
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {
        "images": rng.integers(0, 256, (count, channels, 8, 9), np.uint8),
        "masks": rng.integers(0, 5, (count, 8, 9), np.uint8) if labelled else None,
        "ids": tuple(f"p{index}" for index in range(count)),
        "groups": np.array([f"g{index // 2}" for index in range(count)]) if grouped else None,
        "classes": MARS,
    }
    return DataSet(**(parts | changes))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.sampled_from([1, 3]), st.booleans(), st.booleans())
def test_a_saved_set_is_read_back_as_it_was(tmp_path_factory, count, channels, masks, groups):
    data = data_set(count, channels, masks, groups)
    folder = tmp_path_factory.mktemp("data") / "oof"
    data.save(folder)
    back = DataSet.load(folder, MARS)
    np.testing.assert_array_equal(back.images, data.images)
    assert (back.masks is None) == (not masks)
    assert (back.groups is None) == (not groups)
    if masks:
        np.testing.assert_array_equal(back.masks, data.masks)
    if groups:
        np.testing.assert_array_equal(back.groups, data.groups)
    assert back.ids == data.ids
    assert (back.channels, back.extent) == (channels, Extent.uniform(count, (8, 9)))


def several_sizes(channels=1, dtype=np.uint8):
    rng = np.random.default_rng(0)
    sizes = [(2, (8, 9)), (1, (3, 4)), (1, (20, 5))]
    images = [rng.integers(0, 256, (n, channels, *size)).astype(dtype) for n, size in sizes]
    masks = [rng.integers(0, 5, (n, *size), np.uint8) for n, size in sizes]
    return {"images": Ragged(images), "masks": Ragged(masks)}


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (4, np.uint16), (13, np.float32)])
def test_a_set_of_several_sizes_is_read_back_as_it_was(tmp_path, channels, dtype):
    data = data_set(**several_sizes(channels, dtype))
    data.save(tmp_path / "oof")
    back = DataSet.load(tmp_path / "oof", MARS)
    assert (back.extent, back.ids, back.channels) == (data.extent, data.ids, channels)
    for name in ("images", "masks"):
        for old, new in zip(getattr(data, name), getattr(back, name), strict=True):
            np.testing.assert_array_equal(old, new)
    part = back.take(np.array([True, False, True, False]))
    assert part.extent.sizes == [(8, 9), (3, 4)]
    np.testing.assert_array_equal(part.images[1], data.images[2])


def test_a_mask_of_another_size_than_its_image_is_refused():
    parts = several_sizes()
    masks = Ragged([*parts["masks"].parts[:2], np.zeros((1, 5, 20), np.uint8)])
    with pytest.raises(BadLabels, match="of the same images"):
        data_set(images=parts["images"], masks=masks)


def test_an_image_without_a_group_is_its_own_group():
    assert data_set().group_names().tolist() == ["g0", "g0", "g1", "g1"]
    assert data_set(grouped=False).group_names().tolist() == ["p0", "p1", "p2", "p3"]


def test_ids_with_commas_quotes_and_lines_survive(tmp_path):
    ids = ("a,b", 'say "x"', "two\nlines", "Ü")
    data_set(ids=ids).save(tmp_path / "oof")
    assert DataSet.load(tmp_path / "oof", MARS).ids == ids


def test_a_loaded_set_stays_on_disk(tmp_path):
    data_set().save(tmp_path / "oof")
    back = DataSet.load(tmp_path / "oof", MARS)
    assert isinstance(back.images, np.memmap)
    assert isinstance(back.masks, np.memmap)


def test_classes_next_to_the_folder_are_read(tmp_path):
    classes = Classes(("a", "b", "c", "d", "e"), ignore=2)
    data_set(classes=classes).save(tmp_path / "oof")
    write_classes(tmp_path / "classes.json", classes)
    assert (
        DataSet.load(tmp_path / "oof").classes == classes == read_classes(tmp_path / "classes.json")
    )


def test_classes_that_lack_something_are_refused(tmp_path):
    (tmp_path / "classes.json").write_text('{"names": ["a", "b"]}')
    with pytest.raises(BadData, match=r"lack names, ignore or colours; restore"):
        read_classes(tmp_path / "classes.json")


@pytest.mark.parametrize(
    "indices", [[2, 0], slice(1, 3), np.array([True, False, True, False])], ids=str
)
def test_take_keeps_images_masks_ids_and_groups_together(indices):
    data, places = data_set(), np.arange(4)[indices]
    taken = data.take(indices)
    assert taken.ids == tuple(f"p{place}" for place in places)
    np.testing.assert_array_equal(taken.images, data.images[places])
    np.testing.assert_array_equal(taken.target(), data.target()[places])
    np.testing.assert_array_equal(taken.groups, data.groups[places])


def test_taking_no_images_is_refused():
    with pytest.raises(BadData, match=r"shape \(0, 1, 8, 9\)"):
        data_set().take([])


def test_target_of_an_unlabelled_set_is_refused():
    with pytest.raises(BadData, match="have no masks; expected a labelled set"):
        data_set(labelled=False).target()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": np.zeros((4, 1, 8, 9), np.int32)}, "images are int32; expected uint8"),
        ({"images": np.zeros((4, 8, 9), np.uint8)}, r"expected \(image, channel, row, col\)"),
        ({"ids": ("a", "b", "c")}, "3 ids for 4 images"),
        ({"ids": ("a", "b", "c", "a")}, "'a' is duplicated"),
        ({"ids": ("a", "", "c", "d")}, "image 1 has an empty id"),
        ({"groups": np.array(["a", "b"])}, "expected 4 strings"),
        ({"groups": np.arange(4)}, "expected 4 strings"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(BadData, match=words):
        data_set(**changes)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (np.full((4, 8, 9), 5, np.uint8), r"mask of 'p0' holds \[5\]; expected 0 to 4, or 255"),
        (np.zeros((4, 9, 8), np.uint8), "of the same images"),
        (np.zeros((4, 8, 9), np.int64), "masks are int64; expected uint8"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, words):
    with pytest.raises(BadLabels, match=words):
        data_set(masks=masks)


def test_a_label_outside_the_classes_is_named_with_its_image_in_any_block():
    masks = np.zeros((70, 8, 9), np.uint8)
    masks[66, 3, 3] = 254
    with pytest.raises(BadLabels, match=r"'p66' holds \[254\]"):
        data_set(70, masks=masks)


def test_unlabelled_pixels_are_no_class():
    assert data_set(masks=np.full((4, 8, 9), UNLABELLED, np.uint8)).masks is not None


class TestDamagedFolder:
    @pytest.mark.parametrize("name", ["images.npy", "index.csv"])
    def test_a_missing_file_is_named(self, tmp_path, name):
        data_set().save(tmp_path / "oof")
        (tmp_path / "oof" / name).unlink()
        with pytest.raises(BadData, match=f"{name} is missing"):
            DataSet.load(tmp_path / "oof", MARS)

    def test_truncated_images_are_refused(self, tmp_path):
        data_set().save(tmp_path / "oof")
        file = tmp_path / "oof" / "images.npy"
        file.write_bytes(file.read_bytes()[:-40])
        with pytest.raises(BadData, match=r"images\.npy is no readable"):
            DataSet.load(tmp_path / "oof", MARS)

    @pytest.mark.parametrize("text", ["", "name\na\n", "id,group\na\n", "id\na,b\n"])
    def test_a_malformed_index_is_refused(self, tmp_path, text):
        data_set().save(tmp_path / "oof")
        (tmp_path / "oof" / "index.csv").write_text(text)
        with pytest.raises(BadData, match=r"index\.csv cannot be read"):
            DataSet.load(tmp_path / "oof", MARS)

    def test_saving_over_a_set_leaves_nothing_of_the_old_one(self, tmp_path):
        data_set().save(tmp_path / "oof")
        data_set(labelled=False).save(tmp_path / "oof")
        assert DataSet.load(tmp_path / "oof", MARS).masks is None
        assert [path.name for path in tmp_path.iterdir()] == ["oof"]


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (np.full((2, 4, 6), 30, np.uint8), "the mask of 'a' holds 30; expected 10, 20"),
        (np.full((3, 4, 6), 10, np.uint8), "masks are uint8 of 3 images; expected uint8 of 2"),
        (np.full((2, 4, 6), 10, np.int32), "masks are int32 of 2 images; expected uint8 of 2"),
    ],
)
def test_masks_that_do_not_store_the_classes_are_refused(masks, words):
    classes = Classes(("x", "y"), values=(10, 20))
    stored = StoredSet(np.zeros((2, 1, 4, 6), np.uint8), masks, ("a", "b"))
    with pytest.raises(BadLabels, match=words):
        stored.mapped(classes)
