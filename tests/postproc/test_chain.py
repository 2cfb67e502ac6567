"""Chains: what parses, what is refused and why, and when maps become labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.arrays import argmax
from evaluation.core.errors import BadData, BadMaps, BadSpec
from postproc.chain import parse_chain
from postproc.step import Step
from postproc.steps import STEPS

CLASSES = 3


def parsed(text, *, ignore=0):
    return parse_chain(text, classes=CLASSES, ignore=ignore)


@pytest.fixture
def maps():
    drawn = np.random.default_rng(0).dirichlet(np.ones(CLASSES), (2, 6, 8)).astype(np.float32)
    return np.moveaxis(drawn, -1, 1).copy()


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (2, 1, 6, 8), dtype=np.uint8)


@pytest.mark.parametrize("text", ["", "  "])
def test_no_step_is_the_plain_argmax(text, maps):
    labels = parsed(text)(maps)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, maps.argmax(axis=1))


def test_a_tie_goes_to_the_lowest_class():
    tied = np.full((1, CLASSES, 1, 2), 1 / CLASSES, dtype=np.float32)
    tied[0, :, 0, 1] = 0.2, 0.4, 0.4
    np.testing.assert_array_equal(parsed("")(tied), [[[0, 1]]])


def test_argmax_comes_before_the_first_step_on_labels(maps):
    context = {"classes": CLASSES, "ignore": 0, "floor": 1e-7}
    blur, mode, small = (
        STEPS.build(spec, **context) for spec in ("blur", "mode_filter", "remove_small")
    )
    labels = mode.apply(argmax(blur.apply(maps, None)), None)
    chain = parsed("blur|mode_filter|remove_small")
    np.testing.assert_array_equal(chain(maps), small.apply(labels, None))


def test_steps_on_maps_end_with_argmax(maps, images):
    suppress, crf = (
        STEPS.build(spec, classes=CLASSES, ignore=0, floor=2.0**-25)
        for spec in ("suppress_background", "crf(iterations=2)")
    )
    labels = parsed("suppress_background|crf(iterations=2)")(maps, images)
    assert labels.dtype == np.uint8
    expected = argmax(crf.apply(suppress.apply(maps, None), images))
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        pytest.param("", "", id="empty"),
        pytest.param(" crf( ) |  blur ", "crf|blur", id="no brackets around nothing"),
        pytest.param(
            "crf( iterations = 5,floor=1e-3 )",
            "crf(iterations=5, floor=0.001)",
            id="one space after a comma",
        ),
    ],
)
def test_the_text_of_a_chain_is_canonical_and_reads_again(text, canonical):
    chain = parsed(text)
    assert str(chain) == canonical
    assert str(parsed(str(chain))) == canonical


ON_MAPS = {
    "suppress_background",
    "class_bias",
    "threshold",
    "crf",
    "superpixel_vote",
    "blur",
    "median",
}


@settings(max_examples=25, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(STEPS)), max_size=4, unique=True))
def test_a_chain_parses_exactly_if_no_step_on_labels_precedes_one_on_maps(names):
    on_maps = [name in ON_MAPS for name in names]
    text = "|".join(names)
    if on_maps == sorted(on_maps, reverse=True):
        assert str(parsed(text)) == text
    else:
        with pytest.raises(BadSpec, match="needs maps, but"):
            parsed(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "smooth",
            "unknown step 'smooth'; known: blur, class_bias, close, crf, fill_holes, keep_largest",
        ),
        ("blur||crf", "has an empty step; expected STEP|STEP|..."),
        ("|", "has an empty step"),
        ("blur|", "has an empty step"),
        ("crf(iterations=5", "cannot read spec 'crf(iterations=5'"),
        ("crf(5)", "step 'crf' got 5 without a name; write option=value"),
        ("crf(sxy=3)", "step 'crf' has no option 'sxy'; known: iterations, gaussian_sxy"),
        ("crf(iterations=0)", "option 'iterations' got 0; expected greater than or equal to 1"),
        ("mode_filter|crf", "step 'crf' needs maps, but 'mode_filter' before it returns labels"),
        ("open|blur", "move 'blur' before the first step on labels"),
        (
            "open|remove_small(refill=next_best)",
            "step 'remove_small' needs maps, but 'open' before it returns labels",
        ),
        (
            "remove_small(refill=next_best)|keep_largest(refill=next_best)",
            "step 'keep_largest' needs maps, but 'remove_small' before it returns labels",
        ),
        (
            "suppress_background|suppress_background",
            "step 'suppress_background' is repeated, and the second would change nothing",
        ),
        (
            "remove_small(min_area_px=9)|remove_small(min_area_px=9)",
            "step 'remove_small(min_area_px=9)' is repeated, and the second",
        ),
        (
            "class_bias|class_bias(floor=0.01)",
            "step 'class_bias' is repeated; one with other options does the same",
        ),
        ("__import__('os')", "unknown step '__import__'"),
    ],
)
def test_refuses_what_is_no_chain(text, words):
    with pytest.raises(BadSpec) as refusal:
        parsed(text)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "blur|blur",
        "mode_filter|mode_filter",
        "open|open",
        "suppress_background|crf|suppress_background",
        "remove_small(min_area_px=4)|remove_small(min_area_px=16)",
        "remove_small(refill=next_best)|remove_small",
    ],
)
def test_a_step_may_be_repeated_where_the_second_may_change_more(text):
    assert str(parsed(text)) == text


def test_suppress_background_asks_for_the_ignored_class():
    with pytest.raises(BadSpec, match="step suppress_background: no class is ignored"):
        parsed("suppress_background", ignore=None)


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("", False),
        ("blur|mode_filter", False),
        ("blur|crf", True),
        ("crf(bilateral_compat=0)", False),
        ("superpixel_vote", True),
        ("median|remove_small(refill=next_best)", False),
    ],
)
def test_a_chain_needs_images_if_one_of_its_steps_does(text, needed):
    assert parsed(text).needs_images is needed


def test_names_the_option_that_gives_images(maps):
    with pytest.raises(BadData, match="step 'crf' needs images; give them with --images"):
        parsed("blur|crf")(maps)


def test_zeros_are_raised_to_the_floor(maps):
    """A zero that may be rounding is worth little doubt where the quantum is large."""
    zeros = np.zeros((1, CLASSES, 1, 1), dtype=np.float32)
    zeros[:, 0] = 1
    step = parse_chain(
        "crf(gaussian_compat=0, bilateral_compat=0)", classes=CLASSES, ignore=0, floor=0.25
    ).steps[0]
    np.testing.assert_allclose(
        step.apply(zeros, None)[0, :, 0, 0], [4 / 6, 1 / 6, 1 / 6], rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(2, 4, 6, 8), (2, 6, 8), (3,)])
def test_refuses_maps_of_another_shape(shape):
    with pytest.raises(BadMaps, match=r"expected \(images, 3 classes, rows, cols\)"):
        parsed("")(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((2, 1, 6, 9), "uint8", "images of 6x9 pixels; expected 6x8, the size of the maps"),
        ((3, 1, 6, 8), "uint8", "3 images for maps of 2; expected the same images"),
        ((2, 4, 6, 8), "uint8", "expected uint8 (images, 1 or 3 channels, rows, cols)"),
        ((2, 6, 8), "uint8", "expected uint8 (images, 1 or 3 channels, rows, cols)"),
        ((2, 1, 6, 8), "float32", "images are float32 of shape (2, 1, 6, 8); expected uint8"),
    ],
)
def test_refuses_images_that_do_not_fit(maps, shape, dtype, words):
    with pytest.raises(BadData) as refusal:
        parsed("crf")(maps, np.zeros(shape, dtype=dtype))
    assert words in str(refusal.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("text", ["blur", "blur|mode_filter"])
def test_a_step_that_returns_no_maps_is_refused(maps, monkeypatch, text, value):
    broken = Step("maps", "maps", lambda maps, _: maps * np.float32(value))
    monkeypatch.setattr("postproc.steps.filters.blur", lambda: broken)
    with pytest.raises(BadMaps, match="step 'blur' returned NaN or infinite values; use other"):
        parse_chain(text, classes=maps.shape[1], ignore=None)(maps)
