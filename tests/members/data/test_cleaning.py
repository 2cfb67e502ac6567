"""Cleaning: what is dropped, why, and what stays."""

import base64
import io
from dataclasses import replace

import imagehash
import numpy as np
import pytest
from PIL import Image

from evaluation.core.classes import MARS, numbered
from evaluation.core.errors import BadData
from evaluation.core.ragged import Ragged
from members.data.cleaning import page
from members.data.cleaning.id_lists import find_ids, indices_of, read_drop_list
from members.data.cleaning.near_duplicates import (
    near_duplicates,
    shared_groups,
    thumbnails_and_hashes,
)
from members.data.cleaning.novelty import features, most_novel, novelty
from members.data.cleaning.rules import (
    CleaningReport,
    Drop,
    Reason,
    Rules,
    check_one_size,
    class_arrays_of,
    find_drops,
)
from members.data.dataset import DataSet
from members.data.sample import draw_sample

IDS = ("a", "b", "c #1", "d")


def ids_file(folder, text):
    path = folder / "ids.txt"
    path.write_bytes(text.encode())
    return path


class TestDropList:
    def test_a_drop_list_keeps_what_it_does_not_name(self, tmp_path):
        path = ids_file(tmp_path, "# blurred ones\n\nb  # blurred\r\n a\n")
        assert read_drop_list(path, IDS).tolist() == [False, False, True, True]

    def test_a_listed_id_may_hold_the_comment_sign(self, tmp_path):
        assert read_drop_list(ids_file(tmp_path, "c #1\n"), IDS).tolist() == [1, 1, 0, 1]

    def test_a_drop_list_may_start_with_a_byte_order_mark(self, tmp_path):
        assert read_drop_list(ids_file(tmp_path, "\ufeffa\n"), IDS).tolist() == [0, 1, 1, 1]

    @pytest.mark.parametrize(
        "text",
        ["b.png", "b.JPEG", '"b"', "'b'", "masks/b", "a\\b.tif", "./b.npy", '"x/b.png"', "b  "],
    )
    def test_an_id_may_stand_in_quotes_with_folders_and_suffix(self, tmp_path, text):
        assert read_drop_list(ids_file(tmp_path, text), IDS).tolist() == [1, 0, 1, 1]

    @pytest.mark.parametrize(
        ("text", "known", "found"),
        [
            ("a.png", ["a", "a.png"], ["a.png"]),
            ("a.png", ["a", "a.jpg"], ["a", "a.jpg"]),
            ("a", ["a.png"], ["a.png"]),
            ("1", ["s/1", "t/1"], ["s/1", "t/1"]),
            ("t/1.png", ["s/1", "t/1"], ["t/1"]),
            ("t/1", ["s/1"], []),
            ("1.5", ["1"], []),
            ("caf\u00e9", ["cafe\u0301"], ["cafe\u0301"]),
            (".png", [".png"], [".png"]),
            ("'", ["a"], []),
        ],
    )
    def test_the_same_text_goes_first_and_nothing_is_guessed(self, text, known, found):
        assert find_ids([text], known) == [tuple(found)]

    def test_a_name_of_several_images_is_refused_with_two_of_them(self, tmp_path):
        with pytest.raises(BadData, match="names '1', which may be 's/1' or 't/1'; expected the w"):
            read_drop_list(ids_file(tmp_path, "1\n"), ("s/1", "t/1"))
        with pytest.raises(BadData, match="there is '1', which may be 's/1' or 't/1'"):
            indices_of(["1"], ("s/1", "t/1"), "oof")

    @pytest.mark.parametrize(
        ("known", "message"),
        [(("a",), "no image 'x' in oof; known: a, ..."), ((), "no image 'x' in oof, which is emp")],
    )
    def test_an_unknown_image_is_refused(self, known, message):
        with pytest.raises(BadData, match=message):
            indices_of(["x"], known, "oof")

    def test_unknown_ids_are_refused_and_the_first_named(self, tmp_path):
        expected = r"names 2 unknown ids \(first: 'x'\); expected ids of the data set, such as 'a'"
        with pytest.raises(BadData, match=expected):
            read_drop_list(ids_file(tmp_path, "a\nx\ny\n"), IDS)

    def test_a_missing_drop_list_is_refused(self, tmp_path):
        with pytest.raises(BadData, match="is missing; expected a text file"):
            read_drop_list(tmp_path / "none.txt", IDS)

    def test_a_drop_list_that_is_no_text_is_refused(self, tmp_path):
        (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(BadData, match="cannot be read"):
            read_drop_list(tmp_path / "x", IDS)


def noise(count, *, channels=1, seed=0):
    """Images whose coarse content differs, so that their hashes do."""
    coarse = np.random.default_rng(seed).integers(0, 200, (count, channels, 8, 16), np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


def copies_in(images, priority=None, **options):
    priority = np.zeros(len(images), np.int64) if priority is None else np.array(priority)
    return near_duplicates(*thumbnails_and_hashes(images), priority, **options)


class TestNearDuplicates:
    def test_hashes_are_those_of_imagehash(self):
        for images in (noise(3), noise(3, channels=3)):
            _, hashes = thumbnails_and_hashes(images)
            for image, found in zip(images, hashes, strict=True):
                pil_image = Image.fromarray(np.moveaxis(image, 0, -1).squeeze())
                assert np.packbits(imagehash.phash(pil_image).hash).tolist() == found.tolist()

    def test_blocks_of_rows_give_what_a_loop_over_pairs_gives(self):
        """More images than a block of rows holds, and hashes alone to decide."""
        images = noise(300)
        thumbnails, hashes = thumbnails_and_hashes(images)
        bits = np.unpackbits(hashes, axis=1).astype(int)
        kept, dropped = [], {}
        for index in range(len(bits)):
            near = [(int(np.abs(bits[index] - bits[k]).sum()), k) for k in kept]
            if near and min(near)[0] <= 20:
                dropped[index] = min(near)[0]
            else:
                kept.append(index)
        priority = np.zeros(300, np.int64)
        found = near_duplicates(thumbnails, hashes, priority, distance=20, alike=-1.0)
        assert len(dropped) > 20
        assert {c.index for c in found}.isdisjoint(c.duplicate_of for c in found)
        # A loop over images with partners keeps the first of them, as this one does.
        assert {c.index: c.distance for c in found} == dropped

    def test_equal_images_are_found_however_alike_copies_must_be(self):
        images = np.concatenate([noise(20)] * 2)
        found = copies_in(images, distance=0, alike=1.0)
        assert [(copy.index, copy.duplicate_of) for copy in found] == [
            (20 + n, n) for n in range(20)
        ]

    def test_a_brighter_copy_of_more_contrast_is_one(self):
        images = noise(6)
        images[4] = images[1] // 2 + 90
        (copy,) = copies_in(images)
        assert (copy.index, copy.duplicate_of) == (4, 1)
        assert copy.correlation > 0.999

    def test_the_image_of_highest_priority_stays(self):
        images = noise(6)
        images[[2, 4]] = images[1]
        found = copies_in(images, priority=[0, 1, 1, 9, 2, 0])
        assert [(copy.index, copy.duplicate_of) for copy in found] == [(1, 4), (2, 4)]

    def test_images_of_similar_hash_that_do_not_correlate_are_kept(self):
        images = noise(6)
        thumbnails, hashes = thumbnails_and_hashes(images)
        hashes[3] = hashes[0]
        priority = np.zeros(6, np.int64)
        assert near_duplicates(thumbnails, hashes, priority) == []
        assert [c.index for c in near_duplicates(thumbnails, hashes, priority, alike=-1.0)] == [3]

    def test_constant_images_are_copies_of_each_other_only(self):
        images = noise(4)
        images[[1, 3]] = 0
        assert [(copy.index, copy.duplicate_of) for copy in copies_in(images, distance=64)] == [
            (3, 1)
        ]


def small_set(count=40, **changes):
    """Distinct images and masks; image 0 alone holds big rock."""
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 4, (count, 32, 64)).astype(np.uint8)
    masks[0, 0, 0] = 4
    ids = tuple(f"p{index}" for index in range(count))
    return DataSet(**{"images": noise(count), "masks": masks, "ids": ids} | changes, **REST)


REST = {"groups": None, "classes": MARS}


def found_in(data, *, listed=(), exempt=(), **rules):
    marks = [np.isin(np.arange(len(data)), indices) for indices in (listed, exempt)]
    return find_drops(data, listed=marks[0], exempt=marks[1], rules=Rules(**rules))


def reasons(findings):
    return {drop.index: drop.reason for drop in findings.drops}


class TestFindDrops:
    def test_a_clean_set_loses_nothing(self):
        findings = found_in(small_set())
        assert findings.drops == ()
        assert findings.kept.all()

    def test_each_image_has_one_reason_and_the_surest(self):
        data = small_set()
        data.masks[10:22] = data.masks[10]
        data.images[[11, 30]] = data.images[5]
        found = reasons(found_in(data, listed=[12, 7], novelty=0.1))
        assert {p for p, why in found.items() if why == Reason.LISTED} == {7, 12}
        assert {p for p, why in found.items() if why == Reason.SHARED_MASK} == {
            10,
            *range(13, 22),
            11,
        }
        assert {p for p, why in found.items() if why == Reason.COPY} == {30}
        # 40 less 2 listed, 11 sharing and 1 copy leave 26.
        assert sum(why == Reason.NOVELTY for why in found.values()) == 3

    def test_the_copy_with_more_labelled_pixels_stays(self):
        data = small_set()
        data.images[9] = data.images[3]
        data.masks[3, :16] = 0
        (drop,) = found_in(data).drops
        assert (drop.index, drop.duplicate_of) == (3, 9)
        assert drop.detail == "copy of p9, distance 0, 1.000 alike"

    def test_a_copy_of_a_listed_image_stays(self):
        data = small_set()
        data.images[9] = data.images[3]
        assert set(reasons(found_in(data, listed=[9]))) == {9}

    def test_exempt_images_stay_in_any_case(self):
        data = small_set()
        data.masks[10:22] = data.masks[10]
        data.images[[25, 26]] = data.images[24]
        exempt = [0, 11, 26]
        found = reasons(found_in(data, exempt=exempt, novelty=0.9))
        assert not set(found) & set(exempt)
        assert found[24] == found[25] == Reason.COPY

    def test_images_without_masks_are_cleaned_of_copies(self):
        data = small_set(masks=None)
        data.images[9] = data.images[3]
        assert reasons(found_in(data)) == {9: Reason.COPY}

    def test_the_last_image_of_a_class_is_not_dropped(self):
        expected = r"class 'big rock' would be dropped \(p0: on the drop list\); take it off"
        with pytest.raises(BadData, match=expected):
            found_in(small_set(), listed=[0, 3])

    def test_the_last_image_of_a_class_is_not_dropped_by_another_reason(self):
        data = small_set()
        data.images[9] = data.images[0]
        data.masks[0, 1:] = 0
        with pytest.raises(
            BadData, match=r"'big rock' would be dropped \(p0: copy of p9.*; name it in --keep"
        ):
            found_in(data)

    def test_not_all_images_are_dropped(self):
        with pytest.raises(BadData, match="all 40 images would be dropped"):
            found_in(small_set(masks=None), listed=range(40))

    def test_not_all_images_share_a_mask(self):
        data = small_set()
        data.masks[:] = data.masks[0]
        with pytest.raises(BadData, match="all 40 images would be dropped"):
            found_in(data)

    def test_among_few_images_none_is_novel(self):
        findings = found_in(small_set(5), novelty=0.0)
        assert findings.scores.tolist() == [0] * 5
        assert findings.strangest_kept(3) == []


@pytest.fixture(scope="module", params=[0, 4])
def sample(request):
    """Seed 4 has clean images that were cut at almost the same position of a scene."""
    return draw_sample(seed=request.param)


@pytest.mark.slow
class TestSample:
    def test_all_planted_images_are_found_and_almost_no_clean_image(self, sample):
        findings = found_in(sample.sets()["training"])
        dropped = ~findings.kept
        assert {d.index for d in findings.drops_for(Reason.SHARED_MASK)} == set(
            sample.outliers.tolist()
        )
        assert (dropped[sample.duplicates].sum(axis=1) == 1).all()
        planted = np.union1d(sample.outliers, sample.duplicates)
        clean = ~np.isin(np.arange(len(dropped)), planted)
        assert dropped[clean].sum() <= 0.01 * clean.sum()

    def test_the_outliers_are_in_the_most_novel_tenth_without_masks(self, sample):
        thumbnails, _ = thumbnails_and_hashes(sample.sets()["training"].images)
        known = np.ones(len(thumbnails), bool)
        scores = novelty(features(thumbnails, known), known)
        found = set(most_novel(scores, known, len(scores) // 10))
        recall = len(found & set(sample.outliers.tolist())) / len(sample.outliers)
        assert recall >= 0.95
        assert scores.max() <= 1


def test_groups_of_training_that_are_held_out_are_told():
    def data(*groups):
        images = np.zeros((len(groups), 1, 4, 4), np.uint8)
        ids = tuple(f"{index}" for index in range(len(groups)))
        return DataSet(images, None, ids, np.array(groups), numbered(2, ignore=None))

    assert shared_groups([data("a", "b"), data("c"), data("d")]) == ""
    warning = shared_groups([data("a", "b"), data("c", "b"), data("b")])
    assert warning.startswith("held-out images of groups of training images: 2 (fir")
    assert "give the training images alone as --data" in warning


def test_a_wide_image_is_reduced_on_the_page_and_a_mask_keeps_its_classes():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 4, (1, 30, 2 * page.MAX_WIDTH_PX)).astype(np.uint8)
    data = DataSet(masks[:, None] * 40, masks, ("wide",), None, MARS)
    image, mask = (
        Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        for uri in page._panels(data, 0)
    )
    assert image.size == mask.size == (page.MAX_WIDTH_PX, 15)
    assert set(np.unique(np.asarray(mask))) == {0, 1, 2, 3}
    assert len(np.unique(np.asarray(image))) > 4  # averaged


def test_of_many_images_a_sample_is_drawn_and_the_ringed_ones(monkeypatch):
    monkeypatch.setattr(page, "MAX_KEPT_SHOWN", 10)
    drawn = {}
    monkeypatch.setattr(page, "_embed", lambda features, seed: drawn.setdefault("all", features))
    monkeypatch.setattr(page, "_draw_plot", lambda report, shown, *_: bytes(shown.tolist()))
    drops = tuple(Drop(index, Reason.LISTED, "") for index in (0, 1))
    features = np.arange(1, 41, dtype=np.float32)[:, None]
    report = CleaningReport(small_set(), drops, features[:, 0], features)
    shown = list(page.embedding_plot(report, [30, 39]))
    assert {0, 1, 30, 39} <= set(shown)
    assert 12 <= len(shown) <= 14
    np.testing.assert_array_equal(drawn["all"], report.features[shown])
    assert page.embedding_plot(replace(report, features=0 * features), []) is None


def test_a_file_of_images_of_several_sizes_is_not_written():
    images = Ragged([np.zeros((1, 1, 4, 6), np.uint8), np.zeros((1, 1, 6, 4), np.uint8)])
    data = DataSet(images, None, ("a", "b"), None, MARS)
    with pytest.raises(
        BadData, match=r"a \.npz holds one size: leave --out out, and give the list"
    ):
        check_one_size(data)
    assert class_arrays_of(data) == {}
