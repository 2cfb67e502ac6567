"""What a gain is made of: exact sums, and cases where one part is everything."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.audit import audit
from evaluation.protocols import PROTOCOLS, score_images

law = settings(max_examples=6, deadline=None, database=None, phases=[Phase.generate])
images = hnp.arrays(np.int64, (3, 4, 4), elements=st.integers(0, 3))
LIKE_KERAS = ["keras", "sklearn", "huggingface", "mmseg"]


def result(spec, before, after, ignore=0):
    return audit(PROTOCOLS.build(spec), np.asarray(before), np.asarray(after), ignore)


def same_target(before, preds):
    """Move the pixels of each row to other predictions; the target stays."""
    return np.stack(
        [[np.roll(row, shift) for row, shift in zip(table, preds, strict=True)] for table in before]
    )


@law
@pytest.mark.parametrize("spec", [*sorted(PROTOCOLS), "nnunet(absent=skip)", "smp(absent=zero)"])
@given(before=images, moves=hnp.arrays(np.int64, 4, elements=st.integers(0, 3)))
def test_the_parts_add_up_to_the_gain(spec, before, moves):
    after = same_target(before, moves)
    gain = result(spec, before, after)
    scores = [score_images(PROTOCOLS.build(spec), c, 0).miou for c in (before, after)]
    np.testing.assert_allclose((gain.before, gain.after), scores)
    np.testing.assert_allclose(gain.pixels + gain.denominator, scores[1] - scores[0], atol=1e-12)


@law
@pytest.mark.parametrize("spec", ["keras", "per_image", "nnunet(absent=skip)", "monai"])
@given(before=images, moves=hnp.arrays(np.int64, 4, elements=st.integers(0, 3)))
def test_exchanging_the_candidates_negates_the_parts(spec, before, moves):
    after = same_target(before, moves)
    there, back = result(spec, before, after), result(spec, after, before)
    np.testing.assert_allclose(there.pixels, -back.pixels, atol=1e-12)
    np.testing.assert_allclose(there.denominator, -back.denominator, atol=1e-12)


def test_suppressing_background_into_a_class_that_is_never_found():
    """Sand is found as before; rock, never found, takes the pixels that were background."""
    before = [[[9, 9, 9], [4, 6, 2], [0, 0, 0]]]
    after = [[[0, 9, 18], [0, 6, 6], [0, 0, 0]]]
    masked = result("masked", before, after)
    assert masked.before == masked.after == 0.25
    assert (masked.pixels, masked.denominator) == (0, 0)
    for spec in LIKE_KERAS:
        gain = result(spec, before, after)
        assert gain.averaged == (3, 2)
        np.testing.assert_allclose(gain.pixels, 0, atol=1e-15)
        np.testing.assert_allclose(gain.denominator, 0.5 / 2 - 0.5 / 3)


def test_corrected_pixels_count_as_pixels_under_every_protocol():
    before = [[[0, 0, 0], [0, 6, 2], [0, 2, 6]]]
    after = [[[0, 0, 0], [0, 8, 0], [0, 0, 8]]]
    for spec in PROTOCOLS:
        gain = result(spec, before, after)
        np.testing.assert_allclose(gain.denominator, 0, atol=1e-15)
        np.testing.assert_allclose(gain.pixels, gain.after - gain.before)
        assert gain.pixels > 0


def test_pixels_and_denominator_at_once_by_hand():
    """A background pixel of the prediction becomes right: 4/6, 1, 0 of three -> 5/6, 1 of two."""
    before = [[[0, 0, 0], [2, 4, 0], [0, 0, 3]]]
    after = [[[0, 0, 0], [0, 5, 0], [0, 1, 3]]]
    sums, gain = (4 / 6 + 1, 5 / 6 + 3 / 4), result("keras", before, after)
    np.testing.assert_allclose(gain.pixels, (sums[1] - sums[0]) * (1 / 3 + 1 / 2) / 2)
    np.testing.assert_allclose(gain.denominator, (sums[1] + sums[0]) * (1 / 2 - 1 / 3) / 2)


def test_one_wrong_pixel_of_a_class_an_image_lacks_is_denominator_per_image():
    before, after = [[[0, 0, 0], [0, 7, 1], [0, 0, 0]]], [[[0, 0, 0], [1, 7, 0], [0, 0, 0]]]
    gain = result("per_image", before, after)
    assert (gain.pixels, gain.averaged) == (0, (2, 1))
    np.testing.assert_allclose(gain.denominator, 7 / 8 - 7 / 16)


def test_micro_averages_no_classes():
    gain = result("micro", [[[0, 0], [2, 2]]], [[[0, 0], [1, 3]]])
    assert (gain.pixels, gain.denominator) == (0.25, 0)


def test_without_a_score_the_parts_are_nan():
    gain = result("masked", [[[4, 4], [0, 0]]], [[[8, 0], [0, 0]]])
    assert np.isnan([gain.before, gain.after, gain.pixels, gain.denominator]).all()
