import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.classes import MARS, Classes
from evaluation.core.errors import BadData
from members.data.dataset import class_pixels
from members.data.folds import check_folds, hold_out, split_folds

THREE = Classes(("nothing", "common", "rare"), ignore=0)


def masks_with(rare, count=60):
    masks = np.ones((count, 4, 4), np.uint8)
    masks[rare, 1, 1] = 2
    return masks


seeds = st.integers(0, 2**32 - 1)
groupings = st.lists(st.integers(0, 11), min_size=60, max_size=60).filter(lambda g: len(set(g)) > 5)


@settings(max_examples=25, deadline=None)
@given(groupings, seeds, st.integers(2, 4))
def test_no_group_is_divided_and_no_image_left_out(groups, seed, folds):
    names = np.array([f"g{group}" for group in groups])
    fold_of = split_folds(masks_with([]), names, folds, classes=THREE, seed=seed)
    assert set(fold_of) == set(range(folds))
    assert all(len(set(fold_of[names == name])) == 1 for name in names)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 5))
def test_without_groups_folds_are_of_equal_size_and_share_the_rare_class(seed, folds):
    rare = np.random.default_rng(seed).permutation(60)[:10]
    fold_of = split_folds(masks_with(rare), None, folds, classes=THREE, seed=seed)
    sizes, holding = np.bincount(fold_of), np.bincount(fold_of[rare], minlength=folds)
    assert sizes.max() - sizes.min() <= 2
    assert holding.max() - holding.min() <= 1


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_groups_that_hold_the_rare_class_go_to_different_folds(seed):
    groups = np.array([f"g{index // 5:02d}" for index in range(60)])
    rare = np.random.default_rng(seed).permutation(12)[:3] * 5
    fold_of = split_folds(masks_with(rare), groups, 3, classes=THREE, seed=seed)
    assert sorted(fold_of[rare]) == [0, 1, 2]
    assert np.bincount(fold_of).tolist() == [20, 20, 20]


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_small_groups_make_up_for_large_ones(seed):
    sizes = [20, 12, 8, 5, 5, 4, 3, 1, 1, 1]
    groups = np.repeat([f"g{index}" for index in range(len(sizes))], sizes)
    fold_of = split_folds(masks_with([]), groups, 3, classes=THREE, seed=seed)
    assert np.bincount(fold_of).tolist() == [20, 20, 20]


def test_the_same_seed_gives_the_same_folds_and_another_one_does_not():
    masks = masks_with(range(6))
    again: dict[int, list[np.ndarray]] = {}
    for seed in (1, 1, 2):
        fold_of = split_folds(masks, None, 3, classes=THREE, seed=seed)
        again.setdefault(seed, []).append(fold_of)
    np.testing.assert_array_equal(again[1][0], again[1][1])
    assert (again[1][0] != again[2][0]).any()


class TestRefusals:
    def test_one_fold_is_refused(self):
        with pytest.raises(BadData, match="1 folds asked for; expected 2 or more"):
            split_folds(masks_with([]), None, 1, classes=THREE, seed=0)

    def test_more_folds_than_groups_are_refused(self):
        groups = np.array(["a", "b"] * 30)
        with pytest.raises(BadData, match="2 groups of images for 3 parts"):
            split_folds(masks_with([]), groups, 3, classes=THREE, seed=0)

    def test_a_fold_without_a_class_that_others_have_is_refused(self):
        words = r"no pixel of 'rare', which 2 images hold; .*; take fewer folds or another seed"
        with pytest.raises(BadData, match=words):
            split_folds(masks_with([3, 40]), None, 3, classes=THREE, seed=0)

    def test_the_fold_without_a_class_is_named(self):
        fold_of = np.arange(60) % 2
        with pytest.raises(BadData, match="fold 1 has no pixel of 'rare'"):
            check_folds(masks_with([0, 2]), fold_of, classes=THREE)

    @pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0])
    def test_a_share_out_of_range_is_refused(self, share):
        with pytest.raises(BadData, match="more than 0 and less than 1"):
            hold_out(masks_with([]), None, share, 0)

    def test_a_holdout_from_one_group_is_refused(self):
        with pytest.raises(BadData, match="1 group of images for 2 parts"):
            hold_out(masks_with([]), np.array(["a"] * 60), 0.1, 0)


def test_an_ignored_or_absent_class_is_needed_nowhere():
    masks = masks_with([])
    masks[0, 0, 0] = 0
    check_folds(masks, np.arange(60) % 3, classes=THREE)
    check_folds(masks, np.arange(60) % 3, classes=MARS)


@settings(max_examples=25, deadline=None)
@given(groupings, seeds, st.floats(0.1, 0.4))
def test_a_holdout_divides_no_group_and_is_neither_none_nor_all(groups, seed, share):
    names = np.array([f"g{group}" for group in groups])
    held = hold_out(masks_with([]), names, share, seed)
    assert held.any()
    assert not held.all()
    assert not set(names[held]) & set(names[~held])


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([0.1, 0.15, 0.3]))
def test_a_holdout_has_its_share_of_images_and_of_the_rare_class(seed, share):
    rare = np.arange(20)
    held = hold_out(masks_with(rare), None, share, seed)
    assert abs(held.mean() - share) <= 0.04
    assert abs(held[rare].mean() - share) <= 0.06


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_the_only_group_with_a_class_is_learnt_from(seed):
    groups = np.array([f"g{index // 6}" for index in range(60)])
    assert not hold_out(masks_with([7]), groups, 0.15, seed)[7]


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_two_groups_are_enough_to_set_one_aside(share):
    held = hold_out(masks_with([]), np.array(["a"] * 50 + ["b"] * 10), share, 0)
    assert held.tolist() == [False] * 50 + [True] * 10


def test_pixels_are_counted_by_class_and_255_is_none():
    masks = np.array([[[0, 1], [1, 255]], [[2, 2], [2, 2]]], np.uint8)
    assert class_pixels(masks, 3).tolist() == [[1, 2, 0], [0, 0, 4]]
