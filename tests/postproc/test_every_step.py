"""What holds for any step; a new one is checked by being in the table and below."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.arrays import argmax
from postproc.step import FitBlock, LearnedStep
from postproc.steps import STEPS

IGNORE = 0

# Specs to try each step with: its defaults, and options that make it do much to a small image.
SPECS = {
    "suppress_background": ["suppress_background", "suppress_background(ignore=1)"],
    "class_bias": ["class_bias", "class_bias(floor=0.01)"],
    "threshold": ["threshold", "threshold(floor=0.01)"],
    "crf": [
        "crf(iterations=2)",
        "crf(iterations=2, backend=torch)",
        "crf(iterations=2, bilateral_compat=0)",
    ],
    "blur": ["blur", "blur(sigma=20)"],
    "mode_filter": ["mode_filter", "mode_filter(size=3)", "mode_filter(size=99)"],
    "remove_small": [
        "remove_small",
        "remove_small(min_area_px=4, connectivity=2)",
        "remove_small(min_area_px=4, refill=majority)",
        "remove_small(min_area_px=4, refill=next_best)",
    ],
    "keep_largest": [
        "keep_largest",
        "keep_largest(only=[1], connectivity=2)",
        "keep_largest(refill=majority)",
        "keep_largest(refill=next_best)",
        "keep_largest(count=2, refill=background)",
        "keep_largest(together=true, connectivity=2)",
        "keep_largest(together=true, count=2, refill=background, background=1)",
    ],
    "fill_holes": ["fill_holes", "fill_holes(max_area_px=2, only=[1], connectivity=2)"],
    "open": ["open", "open(size=5)"],
    "close": ["close", "close(size=5, only=[1])"],
    "median": ["median", "median(size=5)"],
    "superpixel_vote": ["superpixel_vote", "superpixel_vote(size_px=2, compactness=100)"],
}

# Laws that only some steps keep; an empty set says that the others were considered.
LAWS = {
    "suppress_background": {"idempotent"},
    "class_bias": set(),
    "threshold": set(),
    "crf": set(),
    "blur": set(),
    "mode_filter": set(),
    "remove_small": {"idempotent", "relabels"},
    "fill_holes": {"idempotent", "relabels"},
    "keep_largest": {"idempotent", "relabels"},
    "open": {"relabels"},
    "close": set(),
    "median": set(),
    "superpixel_vote": set(),
}

ALL = [(name, spec) for name, specs in SPECS.items() for spec in specs]
shapes = st.tuples(st.integers(1, 3), st.sampled_from([2, 3, 5]), *[st.integers(1, 9)] * 2)
seeds = st.integers(0, 2**32 - 1)


@functools.cache
def build(spec, classes):
    """Build a step; one that learns has learned."""
    context = {"classes": classes, "ignore": IGNORE, "floor": 2.0**-25}
    step = STEPS.build(spec, **context)
    if isinstance(step, LearnedStep):
        size = (4, classes, 6, 7) if classes < 9 else (1, classes, 3, 4)
        maps = some_maps(np.random.default_rng(9), size)
        step = STEPS.build(step.fit([FitBlock(maps, argmax(maps))]), **context)
    return step


def with_law(law):
    """List the specs that keep a law; those that turn maps to labels have no second time."""
    kept = [spec for name, spec in ALL if law in LAWS[name]]
    if law == "relabels":  # the background may be nowhere near
        kept = [spec for spec in kept if "refill=background" not in spec]
    return [spec for spec in kept if build(spec, 3).input == build(spec, 3).output]


def some_maps(rng, shape):
    """Maps from certain to vague, some of whose values are exactly 0 or 1."""
    images, classes, rows, cols = shape
    maps = rng.dirichlet(np.full(classes, 0.3), (images, rows, cols)).astype(np.float32)
    certain = rng.random(maps.shape[:3]) < 0.3
    maps[certain] = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, certain.sum())]
    return np.moveaxis(maps, -1, 1).copy()


def some_labels(rng, shape):
    """Labels in patches of two by two pixels, with specks."""
    images, classes, rows, cols = shape
    patches = rng.integers(0, classes, (images, rows, cols), dtype=np.uint8)
    patches = patches.repeat(2, axis=1).repeat(2, axis=2)[:, :rows, :cols]
    specks = rng.integers(0, classes, patches.shape, dtype=np.uint8)
    return np.where(rng.random(patches.shape) < 0.1, specks, patches)


def some_input(step, seed, shape):
    rng = np.random.default_rng(seed)
    values = (some_maps if step.input == "maps" else some_labels)(rng, shape)
    channels = int(rng.choice([1, 3]))
    images = rng.integers(0, 256, (shape[0], channels, *shape[2:]), dtype=np.uint8)
    return values, images


def assert_sound(step, values, result):
    classes = values.shape[1] if step.input == "maps" else None
    if step.output == "maps":
        assert result.dtype == np.float32
        assert result.shape == values.shape
        assert result.min() >= 0
        np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-5)
    else:
        assert result.dtype == np.uint8
        assert result.shape == (values[:, 0] if classes else values).shape


def test_every_step_of_the_table_is_tried():
    assert set(SPECS) == set(LAWS) == set(STEPS)


@pytest.mark.parametrize("spec", [spec for _, spec in ALL])
class TestEveryStep:
    @settings(max_examples=20, deadline=None)
    @given(seed=seeds, shape=shapes)
    def test_gives_what_it_says(self, spec, seed, shape):
        step = build(spec, shape[1])
        values, images = some_input(step, seed, shape)
        before = values.copy()
        result = step.apply(values, images)
        assert_sound(step, values, result)
        np.testing.assert_array_equal(values, before)

    @settings(max_examples=20, deadline=None)
    @given(seed=seeds, shape=shapes)
    def test_treats_a_block_as_its_images_one_by_one(self, spec, seed, shape):
        step = build(spec, shape[1])
        values, images = some_input(step, seed, shape)
        block = step.apply(values, images)
        single = [step.apply(values[i : i + 1], images[i : i + 1]) for i in range(len(values))]
        np.testing.assert_array_equal(block, np.concatenate(single))

    def test_reads_mirrored_and_read_only_views_as_their_copies(self, spec):
        step = build(spec, 3)
        values, images = (array[..., ::-1] for array in some_input(step, 4, (2, 3, 6, 5)))
        values.flags.writeable = images.flags.writeable = False
        for seen in (images, images[:, :1]):
            copied = step.apply(values.copy(), seen.copy())
            np.testing.assert_array_equal(step.apply(values, seen), copied)

    @pytest.mark.parametrize("shape", [(2, 3, 8, 12), (1, 3, 1, 1), (1, 255, 3, 2)])
    def test_leaves_certain_maps_of_one_label_alone(self, spec, shape):
        step = build(spec, shape[1])
        images = np.full((shape[0], 1, *shape[2:]), 7, dtype=np.uint8)
        label = shape[1] - 1
        labels = np.full((shape[0], *shape[2:]), label, dtype=np.uint8)
        maps = np.moveaxis(np.eye(shape[1], dtype=np.float32)[labels], -1, 1)
        same = {"maps": maps, "labels": labels}
        result = step.apply(same[step.input], images)
        np.testing.assert_allclose(result, same[step.output], atol=1e-5)

    @pytest.mark.parametrize("classes", [2, 255])
    def test_works_on_any_number_of_classes(self, spec, classes):
        step = build(spec, classes)
        values, images = some_input(step, 3, (2, classes, 5, 7))
        result = step.apply(values, images)
        assert_sound(step, values, result)

    def test_needs_no_images_unless_it_says_so(self, spec):
        step = build(spec, 3)
        values, images = some_input(step, 5, (2, 3, 6, 5))
        if not step.needs_images:
            with_images = step.apply(values, images)
            np.testing.assert_array_equal(step.apply(values, None), with_images)

    def test_gives_no_label_that_was_not_there(self, spec):
        step = build(spec, 5)
        values, images = some_input(step, 5, (2, 3, 6, 5))
        if step.input == "labels":
            values = np.where(values == 1, np.uint8(4), values)
            assert 1 not in step.apply(values, images)


@pytest.mark.parametrize(("name", "spec"), ALL)
def test_a_step_says_of_itself_that_a_second_time_changes_nothing(name, spec):
    step = build(spec, 3)
    kept = "idempotent" in LAWS[name] and step.input == step.output
    assert (step.when_repeated == "redundant") == kept


@pytest.mark.parametrize("spec", with_law("idempotent"))
@settings(max_examples=25, deadline=None)
@given(seed=seeds, shape=shapes)
def test_a_second_time_changes_nothing(spec, seed, shape):
    step = build(spec, shape[1])
    values, images = some_input(step, seed, shape)
    once = step.apply(values, images)
    np.testing.assert_allclose(step.apply(once, images), once, atol=1e-6)


AWKWARD = {
    "all zero": lambda maps: np.zeros_like(maps),
    "some pixels all zero": lambda maps: maps * (maps[:, :1] > 0.2),
    "as a store of uint8 gives them": lambda maps: (maps * 255).round() / np.float32(255),
    "constant": lambda maps: np.full_like(maps, 1 / maps.shape[1]),
}


@pytest.mark.parametrize("awkward", AWKWARD)
@pytest.mark.parametrize("spec", [spec for _, spec in ALL if build(spec, 5).input == "maps"])
def test_maps_that_sum_to_nothing_or_almost_to_one_give_finite_ones(spec, awkward):
    maps, images = some_input(build(spec, 5), 11, (2, 5, 9, 7))
    result = build(spec, 5).apply(AWKWARD[awkward](maps).astype(np.float32), images)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= (1.01 if result.ndim == maps.ndim else 4)


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("spec", [spec for _, spec in ALL if build(spec, 3).needs_images])
def test_a_constant_image_says_nothing_wrong(spec, value):
    maps, images = some_input(build(spec, 3), 12, (2, 3, 9, 7))
    result = build(spec, 3).apply(maps, np.full_like(images, value))
    assert_sound(build(spec, 3), maps, result)


@pytest.mark.parametrize("spec", with_law("relabels"))
@settings(max_examples=25, deadline=None)
@given(seed=seeds, shape=shapes)
def test_a_changed_pixel_joins_a_region_that_was_there(spec, seed, shape):
    """Every pixel that a step relabels touches, at a side, another pixel of its new label."""
    step = build(spec, shape[1])
    labels, _ = some_input(step, seed, shape)
    result = step.apply(labels, None)
    framed = np.pad(result.astype(int), ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    sides = [framed[:, 1:-1, :-2], framed[:, 1:-1, 2:], framed[:, :-2, 1:-1], framed[:, 2:, 1:-1]]
    touches = np.any([side == result for side in sides], axis=0)
    assert touches[result != labels].all()
