"""`class_bias`: what a bias does, which one is learned, and how a chain with it is fitted."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation.bias_search import FitPixels, fit_bias
from evaluation.confusion import confusion
from evaluation.core.errors import (
    BadData,
    BadLabels,
    BadMaps,
    BadSpec,
)
from evaluation.protocols import masked
from members.maps import ArrayMaps
from postproc.chain import parse_chain
from postproc.fit_chain import fit_chain
from postproc.postprocess import OutOfFoldChain, postprocess
from postproc.step import FitBlock
from postproc.steps import STEPS
from postproc.steps.class_bias import fit_pixels

FLOOR = 2.0**-25
CLASSES = 4
seeds = st.integers(0, 2**32 - 1)


def stored_maps(rng, *, classes=CLASSES, images=3, size=(6, 7), sharpness=0.4):
    """Maps as a float16 store gives them: many zeros, nothing below its quantum."""
    drawn = rng.dirichlet(np.full(classes, sharpness), (images, *size))
    return np.moveaxis(drawn, -1, 1).astype(np.float16).astype(np.float32)


def labelled(spec, maps, *, ignore=0):
    return parse_chain(spec, classes=maps.shape[1], ignore=ignore, floor=FLOOR)(maps)


def score(labels, target, *, classes=CLASSES, ignore=0):
    return masked()(confusion(target, labels, classes=classes).sum(axis=0), ignore).miou


def learned(maps, target, *, ignore=0, text="class_bias", images=None):
    chain = parse_chain(text, classes=maps.shape[1], ignore=ignore, floor=FLOOR)
    return fit_chain(chain, ArrayMaps("held out", maps), target, images)


def biases(chain):
    return chain.specs[-1].options["bias"]


def skewed(rng, *, images=40, size=(8, 9)):
    """Maps that predict the rare class 3 too seldom, and a target drawn from correct maps."""
    right = np.moveaxis(rng.dirichlet([0.3, 0.8, 0.6, 0.15], (images, *size)), -1, 1)
    steps = rng.random((images, 1, *size))
    target = (right.cumsum(axis=1) < steps).sum(axis=1).clip(max=3).astype(np.uint8)
    wrong = right * np.array([3, 2, 1, 0.2])[:, None, None]
    wrong /= wrong.sum(axis=1, keepdims=True)
    return wrong.astype(np.float16).astype(np.float32), target


def brute_score(maps, target, bias):
    """Mean IoU of argmax of log p + b over three classes, none ignored, class by class."""
    with np.errstate(divide="ignore"):
        sums = np.log(np.maximum(maps, FLOOR)) + np.array(bias)[:, None, None]
    pred = sums.argmax(axis=1)
    both = [((target == k) & (pred == k)).sum() for k in range(3)]
    either = [((target == k) | (pred == k)).sum() for k in range(3)]
    return np.mean([b / e for b, e in zip(both, either, strict=True) if e])


class TestABias:
    @settings(max_examples=40, deadline=None)
    @given(seed=seeds, bias=st.lists(st.floats(-5, 5), min_size=CLASSES, max_size=CLASSES))
    def test_gives_the_argmax_of_log_p_plus_b(self, seed, bias):
        maps = stored_maps(np.random.default_rng(seed))
        sums = np.log(np.maximum(maps.astype(float), FLOOR)) + np.array(bias)[:, None, None]
        ahead = np.diff(np.sort(sums, axis=1)[:, -2:], axis=1)[:, 0] > 1e-6
        labels = labelled(f"class_bias(bias={bias})", maps)
        np.testing.assert_array_equal(labels[ahead], sums.argmax(axis=1)[ahead])

    @settings(max_examples=40, deadline=None)
    @given(seed=seeds, ignore=st.integers(0, CLASSES - 1))
    def test_of_minus_infinity_is_to_suppress_that_class(self, seed, ignore):
        maps = stored_maps(np.random.default_rng(seed), sharpness=0.1)
        bias = ["-inf" if label == ignore else 0 for label in range(CLASSES)]
        np.testing.assert_array_equal(
            labelled(f"class_bias(bias={bias})", maps),
            labelled(f"suppress_background(ignore={ignore})", maps),
        )

    @given(seed=seeds, shift=st.floats(-49, 48))
    @example(seed=0, shift=48)
    @settings(max_examples=20, deadline=None)
    def test_counts_by_differences_only(self, seed, shift):
        maps = stored_maps(np.random.default_rng(seed))
        build = lambda bias: STEPS.build(  # noqa: E731
            f"class_bias(bias={bias})", classes=CLASSES, ignore=0, floor=FLOOR
        )
        one = build([0.5, 0, -1, 2]).apply(maps, None)
        other = build([0.5 + shift, shift, shift - 1, shift + 2]).apply(maps, None)
        np.testing.assert_allclose(one, other, rtol=1e-5)

    @pytest.mark.parametrize(
        ("floor", "label"), [pytest.param(1e-6, 1, id="low"), pytest.param(0.002, 2, id="uint8's")]
    )
    def test_lifts_a_zero_from_the_floor(self, floor, label):
        maps = np.array([0.1, 0.9, 0], np.float32)[None, :, None, None]
        spec = f"class_bias(bias=[0, 0, 7], floor={floor})"
        assert labelled(spec, maps).item() == label

    def test_has_a_floor_that_float32_can_tell_from_zero(self):
        only_forbidden = np.array([1, 0, 0], np.float32)[None, :, None, None]
        bias = "bias=['-inf', 0, -50]"
        step = STEPS.build(f"class_bias({bias}, floor={2.0**-126})", classes=3, ignore=0)
        np.testing.assert_allclose(step.apply(only_forbidden, None).ravel(), [0, 1, 0], atol=1e-20)
        with pytest.raises(BadSpec, match="option 'floor' got 1e-60; expected greater than or eq"):
            STEPS.build(f"class_bias({bias}, floor=1e-60)", classes=3, ignore=0)

    def test_gives_maps_that_a_later_step_may_use(self):
        maps = stored_maps(np.random.default_rng(0))
        text = "class_bias(bias=['-inf', 0, 0.5, 1])|blur|mode_filter"
        assert labelled(text, maps).shape == (3, 6, 7)
        assert str(parse_chain(text, classes=CLASSES, ignore=0)) == text

    @pytest.mark.parametrize(
        ("bias", "words"),
        [
            ("[0, 1]", "bias has 2 numbers; expected 4, one per class"),
            ("[0, 1, nan, 2]", "option 'bias' got [0, 1, nan, 2]; expected"),
            ("[0, 1, -1e999, 2]", "option 'bias' got"),
            ("[0, 1, 51, 2]", "expected less than or equal to 50"),
            ("['-inf', '-inf', '-inf', '-inf']", "bias excludes every class"),
            ("1.5", "expected a valid list"),
        ],
    )
    def test_that_is_none_is_refused(self, bias, words):
        with pytest.raises(BadSpec) as refusal:
            parse_chain(f"class_bias(bias={bias})", classes=CLASSES, ignore=0)
        assert words in str(refusal.value)


def miou_of(pixels, biases):
    """Mean IoU of the argmax of log p + b for each row of biases."""
    pred = (pixels.log_maps.T + biases[:, None].astype(np.float32)).argmax(axis=2)
    masks = [(pred == k, pixels.target == k) for k in range(biases.shape[1])]
    iou = [(p & t).sum(axis=1) / np.maximum((p | t).sum(axis=1), 1) for p, t in masks if t.any()]
    return np.mean(iou, axis=0)


class TestWhatIsLearned:
    @pytest.mark.parametrize("seed", range(6))
    def test_reaches_what_a_grid_reaches(self, seed):
        rng = np.random.default_rng(seed)
        maps = stored_maps(rng, classes=3, images=4, size=(6, 6), sharpness=0.8)
        target = rng.integers(0, 3, (4, 6, 6), dtype=np.uint8)
        grid = itertools.product(np.arange(-3, 3.1, 0.25), repeat=2)
        reached = max(brute_score(maps, target, [0, *pair]) for pair in grid)
        fitted = learned(maps, target, ignore=None)
        assert score(fitted(maps), target, classes=3, ignore=None) >= reached - 1e-3

    @pytest.mark.parametrize("seed", [0, 1, 6, 24, 25, 33, 45, 123, 133])
    def test_three_classes_of_few_pixels_reach_the_best_of_a_fine_grid(self, seed):
        rng = np.random.default_rng(seed)
        right = rng.dirichlet(np.full(3, 0.6), 40)
        target = (right.cumsum(axis=1) < rng.random((40, 1))).sum(axis=1)
        wrong = right * np.exp(rng.normal(0, 1.2, 3))
        logs = np.log(np.maximum(wrong / wrong.sum(axis=1, keepdims=True), FLOOR))
        pixels = FitPixels(logs.T.astype(np.float32), target, np.ones(40))
        values = np.arange(-8, 8.01, 1 / 16)
        grid = np.array([(0, a, b) for a in values for b in values])
        assert miou_of(pixels, fit_bias(pixels)[None]) >= miou_of(pixels, grid).max() - 1e-6

    @pytest.mark.parametrize("seed", range(4))
    def test_two_scored_classes_reach_the_very_best(self, seed):
        """With one free number the best of all its values is known by trying each."""
        rng = np.random.default_rng(seed)
        maps = stored_maps(rng, classes=3, images=3, sharpness=2)
        target = rng.integers(1, 3, (3, 6, 7), dtype=np.uint8)
        values = np.arange(-4, 4.001, 1 / 128)
        best = max(brute_score(maps, target, [-np.inf, 0, value]) for value in values)
        fitted = learned(maps, target)
        assert score(fitted(maps), target, classes=3) == pytest.approx(best, abs=1e-6)

    @pytest.mark.parametrize("seed", range(5))
    def test_never_loses_on_what_it_learned_from(self, seed):
        maps, target = skewed(np.random.default_rng(seed))
        fitted = score(learned(maps, target)(maps), target)
        assert fitted >= score(labelled("suppress_background", maps), target)

    def test_gains_on_other_images_where_a_class_was_named_too_seldom(self):
        rng = np.random.default_rng(1)
        chain = learned(*skewed(rng, images=120))
        maps, target = skewed(rng, images=120)
        plain = score(labelled("suppress_background", maps), target)
        assert score(chain(maps), target) > plain + 0.02
        assert biases(chain)[0] == "-inf"
        assert biases(chain)[1] == 0
        assert biases(chain)[3] > 1

    def test_perfect_maps_are_left_alone(self):
        target = np.random.default_rng(2).integers(0, CLASSES, (5, 6, 7), dtype=np.uint8)
        maps = np.moveaxis(np.eye(CLASSES, dtype=np.float32)[target], -1, 1).copy()
        assert biases(learned(maps, target)) == ["-inf", 0, 0, 0]

    def test_nothing_is_learned_from_pixels_that_are_not_scored(self):
        rng = np.random.default_rng(3)
        maps, target = skewed(rng)
        target[:5] = 255
        other = maps.copy()
        unseen = (target == 255) | (target == 0)
        other[np.broadcast_to(unseen[:, None], maps.shape)] = 1 / CLASSES
        assert biases(learned(maps, target)) == biases(learned(other, target))

    def test_a_class_that_never_occurs_is_not_pushed_away(self):
        """Its predictions are all wrong here, which says nothing about where it does occur."""
        maps, target = skewed(np.random.default_rng(4))
        target[target == 2] = 255
        bias = biases(learned(maps, target))
        assert bias[2] > -1
        assert bias[3] > 1

    def test_is_the_same_for_any_blocks_and_near_the_whole_when_thinned(self):
        maps, target = skewed(np.random.default_rng(5), images=60)
        whole = [FitBlock(maps, target)]
        parts = [FitBlock(maps[k : k + 7], target[k : k + 7]) for k in range(0, 60, 7)]
        for values in (1 << 23, 9000):
            one, other = (fit_pixels(b, [1, 2, 3], FLOOR, max_logs=values) for b in (whole, parts))
            np.testing.assert_array_equal(one.log_maps, other.log_maps)
            np.testing.assert_array_equal(one.weight, other.weight)
        every = fit_pixels(whole, [1, 2, 3], FLOOR)
        thinned = fit_pixels(whole, [1, 2, 3], FLOOR, max_logs=9000)
        assert len(thinned.target) < len(every.target) / 2
        np.testing.assert_allclose(
            np.bincount(thinned.target, thinned.weight), np.bincount(every.target, every.weight)
        )
        np.testing.assert_allclose(fit_bias(thinned), fit_bias(every), atol=0.7)


class TestFittingAChain:
    def test_a_step_learns_from_what_those_before_it_give(self):
        maps, target = skewed(np.random.default_rng(0))
        chain = learned(maps, target, text="blur(sigma=2)|class_bias|mode_filter(size=3)")
        smooth = STEPS.build("blur(sigma=2)").apply(maps, None)
        assert chain.specs[1] == learned(smooth, target).specs[0]
        assert biases(learned(maps, target)) != chain.specs[1].options["bias"]
        assert [spec.name for spec in chain.specs] == ["blur", "class_bias", "mode_filter"]

    def test_the_text_of_what_was_learned_reads_again(self):
        maps, target = skewed(np.random.default_rng(1))
        chain = learned(maps, target)
        again = parse_chain(str(chain), classes=CLASSES, ignore=0, floor=FLOOR)
        np.testing.assert_array_equal(again(maps), chain(maps))
        assert not again.learns

    def test_a_chain_that_has_not_learned_is_refused(self):
        maps, _ = skewed(np.random.default_rng(1), images=2)
        with pytest.raises(
            BadSpec, match="step 'class_bias' is not fitted; fit the chain on held-out"
        ):
            labelled("class_bias", maps)

    def test_asks_for_images_where_a_step_before_looks_at_them(self):
        maps, target = skewed(np.random.default_rng(1), images=2)
        with pytest.raises(BadData, match="'crf' needs images; give them with --fit-images"):
            learned(maps, target, text="crf(iterations=1)|class_bias")
        learned(maps, target, text="class_bias|crf(iterations=1)")

    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            (
                lambda t: t[:1],
                BadLabels,
                "expected integers, 2 images of 8x9 pixels as in held out",
            ),
            (lambda t: t.astype(float), BadLabels, "target is float64 of shape (2, 8, 9)"),
            (lambda t: t + 4, BadLabels, "target contains [4, 5"),
            (lambda t: t * 0, BadData, "has no scored pixel"),
        ],
    )
    def test_refuses_what_is_no_target(self, change, error, words):
        maps, target = skewed(np.random.default_rng(1), images=2)
        with pytest.raises(error) as refusal:
            learned(maps, change(target))
        assert words in str(refusal.value)

    def test_refuses_maps_of_other_classes(self):
        maps, target = skewed(np.random.default_rng(1), images=2)
        chain = parse_chain("blur|class_bias", classes=3, ignore=0)
        with pytest.raises(BadMaps, match="expected \\(images, 3 classes"):
            fit_chain(chain, ArrayMaps("held out", maps), target % 3)

    def test_each_fold_is_labelled_by_its_own_chain(self):
        maps, _ = skewed(np.random.default_rng(2), images=130)
        texts = ["class_bias(bias=[0, 0, 0, 9])", "suppress_background|mode_filter"]
        chains = [parse_chain(text, classes=CLASSES, ignore=0) for text in texts]
        fold_of = np.arange(130) % 3 % 2
        crossed = OutOfFoldChain(chains, fold_of)
        for block, labels in postprocess(ArrayMaps("maps", maps), crossed):
            for fold, chain in enumerate(chains):
                own = fold_of[block] == fold
                np.testing.assert_array_equal(labels[own], chain(maps[block][own]))
