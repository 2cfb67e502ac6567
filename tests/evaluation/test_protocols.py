"""Definitions of the score: laws of any protocol, and cases by hand that tell them apart."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.core.errors import BadSpec
from evaluation.intervals import paired_interval
from evaluation.iou import iou_per_class, mean_over_present
from evaluation.protocols import (
    PROTOCOLS,
    PerImageProtocol,
    score_images,
    terms,
    total,
)

law = settings(max_examples=8, deadline=None, database=None)  # ten protocols each
CLASSES = 4
ignored = st.none() | st.integers(0, CLASSES - 1)
few = st.integers(0, 3)  # absent classes are frequent
tables = hnp.arrays(np.int64, (CLASSES, CLASSES), elements=few)
many = st.integers(0, 2**31 - 1)
stacks = hnp.arrays(np.int64, (2, 3, CLASSES, CLASSES), elements=few)

DESIGN = np.array(
    [[5, 2, 0, 1, 0], [1, 4, 0, 0, 0], [1, 1, 3, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
)


def scored(name, counts, ignore):
    return PROTOCOLS.build(name)(np.asarray(counts), ignore)


def of_images(spec, counts, ignore=0):
    return score_images(PROTOCOLS.build(spec), np.asarray(counts), ignore)


AVERAGES_CLASSES = sorted(set(PROTOCOLS) - {"micro"})
SCORES_BACKGROUND = {"monai", "nnunet"}
DROPS_IGNORED = sorted(set(PROTOCOLS) - SCORES_BACKGROUND)
AS_MASKED = ["masked", "keras", "sklearn", "huggingface", "mmseg", "per_image"]


def by_pixels(counts, ignore):
    """IoU the slow way: a list of pixels, and sets of them."""
    pixels = [
        (true, pred, copy)
        for (true, pred), number in np.ndenumerate(counts)
        for copy in range(number)
        if true != ignore
    ]
    for label in range(len(counts)):
        true, pred = ({p for p in pixels if p[part] == label} for part in (0, 1))
        yield len(true & pred) / len(true | pred) if true | pred else np.nan


@law
@pytest.mark.parametrize("name", sorted(PROTOCOLS))
@given(counts=hnp.arrays(np.int32, (3, CLASSES, CLASSES), elements=many), ignore=ignored)
def test_images_of_a_billion_pixels_overflow_nothing(name, counts, ignore):
    narrow, wide = (of_images(name, c, ignore) for c in (counts, counts.astype(np.int64)))
    np.testing.assert_array_equal(narrow.iou, wide.iou)
    np.testing.assert_array_equal(narrow.miou, wide.miou)


@law
@pytest.mark.parametrize("name", DROPS_IGNORED)
@given(counts=tables, row=hnp.arrays(np.int64, CLASSES, elements=few), ignore=st.integers(0, 3))
def test_predictions_on_ignored_pixels_have_no_effect(name, counts, row, ignore):
    changed = counts.copy()
    changed[ignore] = row
    for field in ("iou", "miou"):
        before, after = (getattr(scored(name, c, ignore), field) for c in (counts, changed))
        np.testing.assert_array_equal(before, after)


@law
@pytest.mark.parametrize("name", AVERAGES_CLASSES)
@given(counts=tables, ignore=ignored)
def test_the_mean_is_that_of_the_classes_with_a_value(name, counts, ignore):
    found = scored(f"{name}(absent=skip)", counts, ignore)
    values = found.iou[~np.isnan(found.iou)]
    np.testing.assert_allclose(found.miou, values.mean() if len(values) else np.nan)


@law
@pytest.mark.parametrize("name", AS_MASKED)
@given(counts=tables)
def test_without_an_ignored_class_these_agree(name, counts):
    np.testing.assert_array_equal(
        scored(name, counts, None).miou, scored("masked", counts, None).miou
    )


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
class TestEveryProtocol:
    """What holds for any definition; a new one is checked by being in the table."""

    @law
    @given(counts=tables, ignore=ignored)
    def test_scores_lie_between_0_and_1(self, name, counts, ignore):
        found = scored(name, counts, ignore)
        values = [found.miou, *found.iou]
        assert all(np.isnan(value) or 0 <= value <= 1 for value in values)

    @law
    @given(counts=stacks, ignore=ignored)
    def test_many_sets_at_once_score_as_each_alone(self, name, counts, ignore):
        together = scored(name, counts, ignore)
        for place in np.ndindex(2, 3):
            alone = scored(name, counts[place], ignore)
            np.testing.assert_allclose(together.miou[place], alone.miou)
            np.testing.assert_allclose(together.iou[place], alone.iou)

    @law
    @given(counts=tables, ignore=ignored, order=st.permutations(range(CLASSES)))
    def test_the_order_of_the_classes_has_no_effect(self, name, counts, ignore, order):
        if name == "nnunet":  # whose background is class 0, and whose ignore label is the highest
            ignore, order = 0, [0, *(label for label in order if label)]
        moved = None if ignore is None else order.index(ignore)
        np.testing.assert_allclose(
            scored(name, counts[np.ix_(order, order)], moved).miou,
            scored(name, counts, ignore).miou,
        )

    @law
    @given(counts=tables, ignore=ignored)
    def test_the_counts_are_not_changed(self, name, counts, ignore):
        before = counts.copy()
        scored(name, counts, ignore)
        np.testing.assert_array_equal(counts, before)

    @law
    @given(counts=stacks, ignore=ignored, times=hnp.arrays(np.int64, 3, elements=few))
    def test_a_resample_is_scored_by_a_weighted_sum(self, name, counts, ignore, times):
        protocol, images = PROTOCOLS.build(name), counts[0]
        sampled = np.tensordot(times.astype(float), terms(protocol, images, ignore), axes=1)
        found = total(protocol, sampled, ignore)
        again = score_images(protocol, images.repeat(times, axis=0), ignore)
        np.testing.assert_allclose(found.miou, again.miou)

    def test_without_a_scored_pixel_the_score_is_nan(self, name):
        assert np.isnan(scored(name, np.zeros((3, 3), int), 0).miou)
        only_ignored = [[4, 2], [0, 0]]
        if name == "nnunet":  # a false positive is scored
            assert scored(name, only_ignored, 0).miou == 0
            return
        assert np.isnan(scored(name, only_ignored, 0).miou)
        assert np.isnan(of_images(name, [only_ignored, only_ignored]).miou)


@law
@given(tables, ignored)
def test_overlap_is_intersection_over_union_of_pixels(counts, ignore):
    np.testing.assert_allclose(iou_per_class(counts, ignore), list(by_pixels(counts, ignore)))


@law
@given(tables, st.integers(0, 3))
def test_keras_is_never_above_masked(counts, ignore):
    keras, masked = (scored(name, counts, ignore).miou for name in ("keras", "masked"))
    assert (np.isnan(masked) and (np.isnan(keras) or keras == 0)) or keras <= masked


@pytest.mark.parametrize(
    ("name", "expected"),
    [("masked", (4 / 6 + 3 / 6 + 1 / 2) / 3), ("keras", (4 / 6 + 3 / 6 + 1 / 2) / 4)],
)
def test_one_scored_pixel_predicted_as_background_adds_a_class_of_0_to_keras(name, expected):
    found = scored(name, DESIGN, 0)
    np.testing.assert_allclose(found.miou, expected)
    np.testing.assert_allclose(found.iou[1:4], [4 / 6, 3 / 6, 1 / 2])
    assert np.isnan(found.iou[4])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("masked", 0.5556),
        ("keras", 0.4167),
        ("sklearn", 0.4167),
        ("huggingface", 0.4167),
        ("mmseg", 0.4167),
        ("monai", 0.4444),  # (4/8 + 3/6 + 1/3) / 3: what stands on background is wrong too
        ("smp", 0.6667),  # the class that is nowhere counts 1
        ("nnunet", np.nan),  # and here it leaves no mean
        ("nnunet(absent=skip)", 0.4444),
        ("micro", 0.5714),  # (4 + 3 + 1) / (6 + 6 + 2)
        ("per_image", 0.5556),
        ("masked(absent=zero)", 0.4167),
        ("masked(absent=nan)", np.nan),
        ("keras(absent=zero)", 0.3333),
    ],
)
def test_the_published_numbers_are_reproduced(spec, expected):
    np.testing.assert_allclose(scored(spec, DESIGN, 0).miou, expected, atol=5e-5)


@pytest.mark.parametrize(
    ("counts", "ignore", "masked", "keras"),
    [
        pytest.param([[0, 0], [0, 3]], 0, 1.0, 1.0, id="no background predicted: no fifth class"),
        pytest.param([[0, 0], [3, 0]], 0, 0.0, 0.0, id="all predicted as background is 0"),
        pytest.param([[9, 9], [1, 3]], 0, 0.75, 0.375, id="a missed pixel halves keras' mean"),
        pytest.param([[1, 0], [0, 0]], None, 1.0, 1.0, id="absent is left out, not 0"),
        pytest.param([[1, 1], [0, 0]], None, 0.25, 0.25, id="only predicted is 0, not absent"),
        pytest.param([[1, 0], [1, 0]], 1, 1.0, 1.0, id="any class can be the ignored one"),
    ],
)
def test_by_hand(counts, ignore, masked, keras):
    assert scored("masked", counts, ignore).miou == masked
    assert scored("keras", counts, ignore).miou == keras


def test_the_mean_over_nothing_is_nan():
    assert np.isnan(mean_over_present(np.array([np.nan, np.nan])))


TWO_IMAGES = [[[0, 0, 0], [0, 8, 0], [0, 2, 0]], [[0, 5, 0], [0, 2, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("spec", "miou", "iou"),
    [
        ("masked", (10 / 12 + 0) / 2, [10 / 12, 0]),
        ("per_image", ((8 / 10 + 0) / 2 + 1) / 2, [(8 / 10 + 1) / 2, 0]),
        ("nnunet", ((8 / 10 + 2 / 7) / 2 + 0) / 2, [(8 / 10 + 2 / 7) / 2, 0]),
        ("monai", ((8 / 10 + 0) / 2 + 2 / 7) / 2, [(8 / 10 + 2 / 7) / 2, 0]),
        ("per_image(absent=zero)", ((8 / 10 + 0) / 2 + 1 / 2) / 2, [(8 / 10 + 1) / 2, 0]),
    ],
)
def test_two_images_by_hand(spec, miou, iou):
    found = of_images(spec, TWO_IMAGES)
    np.testing.assert_allclose(found.miou, miou)
    np.testing.assert_allclose(found.iou[1:], iou)


def test_an_image_without_a_pixel_to_score_is_left_out():
    blank = np.zeros((1, 3, 3), int)
    for name in PROTOCOLS:
        if isinstance(PROTOCOLS.build(name), PerImageProtocol):
            both = of_images(name, np.concatenate([TWO_IMAGES, blank]))
            np.testing.assert_array_equal(both.miou, of_images(name, TWO_IMAGES).miou)


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(BadSpec, match="unknown protocol 'maskd'; known: huggingface, keras, mask"):
        PROTOCOLS.build("maskd")


def test_an_unknown_policy_is_refused_with_the_known_ones():
    with pytest.raises(BadSpec, match="'absent' got ignore; expected 'skip', 'zero', 'one' or 'na"):
        PROTOCOLS.build("masked(absent=ignore)")


@pytest.mark.parametrize("name", ["per_image", "nnunet(absent=skip)", "monai"])
def test_intervals_hold_for_means_over_images_too(name):
    images = np.random.default_rng(0).integers(0, 30, (60, 4, 4))
    better = images + 20 * np.eye(4, dtype=int)
    protocol, rng = PROTOCOLS.build(name), np.random.default_rng(0)
    found = paired_interval(better, images, np.arange(60), protocol, 0, rng=rng)
    gain = of_images(name, better).miou - of_images(name, images).miou
    assert 0 < found.low < gain < found.high


def test_the_old_name_of_per_image_is_still_accepted():
    counts = np.random.default_rng(0).integers(0, 9, (4, 3, 3))
    old, new = (
        float(score_images(PROTOCOLS.build(name), counts, 0).miou)
        for name in ("per_picture", "per_image")
    )
    assert old == new
    assert "per_picture" not in list(PROTOCOLS)


@pytest.mark.parametrize("module", ["confusion", "scores", "protocols", "intervals"])
def test_scoring_imports_no_heavy_library(module):
    heavy = ("dask", "jinja2", "matplotlib", "pandas", "rich", "scipy", "torch", "zarr")
    code = f"import sys, evaluation.{module}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
