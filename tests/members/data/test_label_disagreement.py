"""How strongly maps contradict masks: by hand, and what must have no effect."""

import numpy as np
import pytest

from evaluation.core.classes import MARS, Classes
from members.data.label_disagreement import (
    class_confidence,
    class_thresholds,
    disagreement,
    doubtful_pixels,
    scored_probabilities,
)

RNG = np.random.default_rng(0)


def drawn(images=4):
    maps = RNG.random((images, 5, 6, 7), dtype=np.float32) ** 4 + np.float32(0.01)
    masks = RNG.integers(0, 5, (images, 6, 7)).astype(np.uint8)
    masks[:, 0, 0] = 255
    return maps / maps.sum(axis=1, keepdims=True), masks


def measured(maps, masks, classes=MARS, calibrated=None):
    return disagreement(
        maps,
        masks,
        classes=classes,
        floor=2.0**-25,
        calibrated=maps if calibrated is None else calibrated,
        thresholds=class_thresholds(class_confidence(maps, masks, classes)),
    )


def regions(mask):
    """Split a mask into parts whose pixels share sides, pixel by pixel."""
    left, parts = {tuple(pixel) for pixel in np.argwhere(mask)}, []
    while left:
        part = todo = {left.pop()}
        while todo:
            near = {(r + d, c + e) for r, c in todo for d, e in ((0, 1), (1, 0), (0, -1), (-1, 0))}
            todo = near & left
            left, part = left - todo, part | todo
        parts.append(np.zeros(mask.shape, bool))
        parts[-1][tuple(zip(*part, strict=True))] = True
    return parts


def softmin(values):
    """Average as `softmin` of cleanlab 2.9 does, with which it was compared by hand."""
    weights = np.exp((1 - values) / 0.1)
    return (values * weights).sum() / weights.sum()


class TestByHand:
    TWO = Classes(("a", "b", "c"), ignore=0)

    def one(self, *columns, masks):
        maps = np.array(columns, np.float32).T[None, :, None]
        return measured(maps, np.array([[masks]], np.uint8), self.TWO)

    def test_the_score_is_the_mean_probability_of_other_classes(self):
        found = self.one((0, 0.9, 0.1), (0, 0.3, 0.7), masks=[1, 1])
        assert found.score == pytest.approx([(0.1 + 0.7) / 2])
        assert found.log_loss == pytest.approx([-(np.log(0.9) + np.log(0.3)) / 2])
        assert found.share == pytest.approx([0.5])
        assert found.main_confusion(0) == (1, 2)

    def test_the_probability_of_the_ignored_class_is_no_disagreement(self):
        found = self.one((0.8, 0.2, 0), (0.6, 0.1, 0.3), masks=[1, 1])
        assert found.score == pytest.approx([0.75 / 2])
        assert found.share == pytest.approx([0.5])

    def test_pixels_without_a_scored_label_are_not_counted(self):
        found = self.one((0, 0, 1), (0, 0, 1), (0, 0.9, 0.1), masks=[255, 0, 1])
        assert found.score == pytest.approx([0.1])
        assert found.pixels.tolist() == [1]
        assert found.main_confusion(0) is None

    def test_an_image_without_scored_pixels_is_nan(self):
        found = self.one((0, 0.5, 0.5), masks=[0])
        for name in ("score", "log_loss", "softmin", "calibrated", "doubtful", "share"):
            assert np.isnan(getattr(found, name)).all()

    def test_a_probability_of_zero_costs_the_floor(self):
        assert self.one((0, 0, 1), masks=[1]).log_loss == pytest.approx([25 * np.log(2)])

    def test_a_mask_that_nothing_contradicts_has_no_contradicted_region(self):
        assert self.one((0, 0.9, 0.1), (0, 0.3, 0.7), masks=[1, 2]).calibrated == 0

    def test_the_calibrated_margin_is_that_of_the_worst_region(self):
        certain, agrees = (0, 0, 1), (0, 1, 0)
        found = self.one(certain, agrees, certain, (0, 0.2, 0.8), masks=[1, 1, 1, 1])
        assert found.calibrated == pytest.approx((1 + 0.6) / (2 + 5))

    def test_the_most_frequent_confusion_is_the_main_one(self):
        sure = [(0, 0, 1), (0, 0, 1), (0, 1, 0)]
        assert self.one(*sure, masks=[1, 1, 2]).main_confusion(0) == (1, 2)


def test_the_measures_agree_with_numpy_on_the_scored_pixels():
    maps, masks = drawn()
    found = measured(maps, masks)
    for place, (chances, mask) in enumerate(zip(maps, masks, strict=True)):
        scored = (mask != 0) & (mask != 255)
        left = chances[1:, scored] / chances[1:, scored].sum(axis=0)
        true = mask[scored].astype(int) - 1
        given = left[true, np.arange(len(true))]
        assert found.score[place] == pytest.approx(1 - given.mean(), abs=1e-6)
        assert found.log_loss[place] == pytest.approx(-np.log(given).mean(), abs=1e-5)
        assert found.softmin[place] == pytest.approx(1 - softmin(given.astype(float)), abs=1e-5)
        margin = np.zeros(mask.shape)
        margin[scored] = left.max(axis=0) - given
        expected = max(margin[region].sum() / (region.sum() + 5) for region in regions(margin > 0))
        assert found.calibrated[place] == pytest.approx(expected, abs=1e-5)
        assert found.share[place] == pytest.approx((left.argmax(axis=0) != true).mean())
        assert found.counts[place].sum() == found.pixels[place] == scored.sum()


def test_the_maps_under_an_ignored_pixel_have_no_effect():
    maps, masks = drawn()
    other = np.where(np.isin(masks, (0, 255))[:, None], drawn()[0], maps)
    one, two = measured(maps, masks), measured(other, masks)
    np.testing.assert_array_equal(one.score, two.score)
    np.testing.assert_array_equal(one.counts, two.counts)


def test_without_any_scored_probability_the_scored_classes_are_equal():
    maps = np.zeros((1, 5, 1, 1), np.float32)
    maps[0, 0] = 1
    np.testing.assert_allclose(
        scored_probabilities(maps, MARS).ravel(), [0, 0.25, 0.25, 0.25, 0.25]
    )


def test_without_an_ignored_class_probabilities_are_unchanged():
    maps, _ = drawn()
    np.testing.assert_array_equal(scored_probabilities(maps, Classes(MARS.names)), maps)


def test_doubtful_pixels_are_those_of_confident_learning():
    """Off the diagonal of the confident joint, and predicted otherwise.

    Written as in cleanlab 2.9's `find_label_issues(filter_by="confident_learning")`, with which it
    was compared by hand.
    """
    maps, masks = drawn()
    classes = Classes(MARS.names, ignore=None)
    scored = masks != 255
    means = [np.mean([maps[i, k, r, c] for i, r, c in np.argwhere(masks == k)]) for k in range(5)]
    thresholds = class_thresholds(class_confidence(maps, masks, classes))
    np.testing.assert_allclose(thresholds, means, rtol=1e-5)
    expected = np.zeros(masks.shape, bool)
    for image, row, col in np.argwhere(scored):
        probs, label = maps[image, :, row, col], masks[image, row, col]
        confident = [k for k in range(5) if probs[k] >= means[k]]
        if confident and probs.argmax() != label:
            expected[image, row, col] = max(confident, key=lambda k: probs[k]) != label
    found = doubtful_pixels(maps, masks, classes, thresholds)
    np.testing.assert_array_equal(found, expected)
    assert 0 < found.sum() < scored.sum()
    share = measured(maps, masks, classes).doubtful
    np.testing.assert_allclose(share, expected.sum(axis=(1, 2)) / scored.sum(axis=(1, 2)))


def test_a_class_that_no_mask_has_is_never_confident():
    maps = np.zeros((1, 3, 1, 2), np.float32)
    maps[0, :, 0] = [[0.5, 0.3], [0.4, 0.1], [0.1, 0.6]]
    masks = np.array([[[0, 1]]], np.uint8)
    classes = Classes(("a", "b", "c"))
    thresholds = class_thresholds(class_confidence(maps, masks, classes))
    np.testing.assert_allclose(thresholds, [0.5, 0.1, np.nan], rtol=1e-6)
    assert not doubtful_pixels(maps, masks, classes, thresholds).any()


def test_calibrated_maps_change_the_calibrated_measure_alone():
    maps, masks = drawn()
    other = drawn()[0][::-1].copy()
    one, two = measured(maps, masks), measured(maps, masks, calibrated=other)
    assert not np.allclose(one.calibrated, two.calibrated)
    for name in ("score", "log_loss", "softmin", "doubtful", "share"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
