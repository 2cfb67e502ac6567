"""Decisions fitted by the metric: the laws of the fit, and how one travels through a run."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.objectives import CLASSES, WORTH, Population, score
from ensemble.block_fusion import HiddenTarget, TrainingBlocks, cross_fit
from ensemble.calibration.calibrated import CalibrationSplit
from ensemble.decision import Decided, DecisionSample, _inner_folds, probabilities_of
from ensemble.fitted_json import load_fitted, save_fitted
from ensemble.fusion import TrainingBlock
from ensemble.sampling import draw_pixels, thin
from ensemble.soft_score import LinearModel, ScoredPixels
from ensemble.strategies.weighted_mean import _WeightsLearner
from ensemble.strategy import build_strategy, objective_of, optimises
from evaluation.core.errors import BadData, BadSpec
from evaluation.run_metric import SetMetric
from members.maps import ArrayMaps

KINDS = ("probabilities",) * 5
DECIDING = [
    "weighted_mean",
    "weighted_mean(per_class=true)",
    "stacking",
    "evidence",
    "gate",
    "stacking_conv(width=2, steps=2)",
]
METRICS = [
    SetMetric.masked(CLASSES, None),
    SetMetric("dice", (1, 2, 3)),
    SetMetric("iou", (3,)),
]
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def drawn():
    population = Population(WORTH["noisy"], 1.0, np.random.default_rng(3))
    return population.draw(8), population.draw(60)


def built(spec, **context):
    defaults = {"classes": CLASSES, "ignore": None, "kinds": KINDS, "seed": 0}
    return build_strategy(spec, **defaults | context)


def with_option(spec, option):
    return f"{spec[:-1]}, {option})" if spec.endswith(")") else f"{spec}({option})"


def scored_pixels(rng, metric, pixels=200, classes=CLASSES):
    target = rng.permutation(np.arange(pixels) % classes)
    weight = rng.uniform(0.5, 3, pixels)
    return ScoredPixels(target, weight, np.arange(pixels) % 5, metric, classes)


@pytest.mark.parametrize("metric", METRICS)
def test_the_gradient_of_the_soft_score_is_that_of_its_values(metric):
    rng = np.random.default_rng(0)
    pixels = scored_pixels(rng, metric, pixels=12)
    logits = rng.normal(size=(CLASSES, 12))
    _, gradient = pixels.soft_loss(logits, 2.0)
    for cell in [(0, 0), (3, 5), (1, 11)]:
        moved = np.zeros_like(logits)
        moved[cell] = 1e-4
        above, below = (pixels.soft_loss(logits + s * moved, 2.0)[0] for s in (1, -1))
        np.testing.assert_allclose(gradient[cell], (above - below) / 2e-4, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_soft_counts_of_certain_decisions_score_as_hard_ones(metric, seed):
    rng = np.random.default_rng(seed)
    pixels = scored_pixels(rng, metric)
    logits = 100 * np.eye(CLASSES)[rng.integers(CLASSES, size=200)].T
    assert abs(1 - pixels.soft_loss(logits, 1.0)[0] - pixels.score_of(logits)) < 1e-5


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_hard_counts_are_those_of_every_pixel_by_itself(seed):
    rng = np.random.default_rng(seed)
    pixels, pred = scored_pixels(rng, METRICS[0]), rng.integers(CLASSES + 1, size=200)
    values = []
    for k in range(CLASSES):
        hit = pixels.weight[(pred == k) & (pixels.target == k)].sum()
        values.append(hit / pixels.weight[(pred == k) | (pixels.target == k)].sum())
    tables = pixels.tables(pred, 5)
    np.testing.assert_allclose(pixels.score(tables.sum(axis=0)), np.mean(values))
    assert tables.shape == (5, CLASSES, CLASSES + 1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("per_class", [False, True])
def test_in_the_sample_no_fit_is_below_where_it_started(drawn, metric, per_class):
    sample = draw_pixels([drawn[0]], classes=CLASSES, ignore=None, pixels=2000, seed=0)
    every = np.ones(5, bool)
    learner = _WeightsLearner(DecisionSample.of(sample, metric, None, every), per_class, 1e-6)
    rows = np.arange(len(sample.target))
    start = learner.start(rows)
    before = learner.pixels.score_of(learner.logits(start, rows))
    for fit in learner.path(rows, start):
        assert learner.pixels.score_of(learner.logits(fit, rows)) >= before


@pytest.mark.parametrize("spec", DECIDING)
def test_held_out_no_worse_than_the_mean_and_the_best_member(spec, drawn, tmp_path):
    fit, held_out = drawn
    fusion = built(spec).fit([fit])
    assert isinstance(fusion, Decided)
    scores = [score(one, held_out.target) for one in [held_out.maps.mean(axis=0), *held_out.maps]]
    # Eight images do not tell the mean and the best member apart, where nothing else is fitted.
    least = scores[0] if spec.startswith(("gate", "stacking_conv")) else max(scores)
    assert score(fusion(held_out.maps), held_out.target) > least - 0.01
    save_fitted(tmp_path / "fitted", spec, fusion, {})
    back = load_fitted(tmp_path / "fitted").fusion
    np.testing.assert_array_equal(back(held_out.maps[:, :4]), fusion(held_out.maps[:, :4]))
    np.testing.assert_allclose(fusion(held_out.maps).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("spec", DECIDING)
def test_probabilities_are_those_of_the_log_loss_to_the_bit(spec, drawn):
    fit, held_out = drawn
    by_log_loss = built(with_option(spec, "objective=log_loss")).fit([fit])
    assert not isinstance(by_log_loss, Decided)
    fused = probabilities_of(built(spec).fit([fit]))(held_out.maps[:, :4])
    np.testing.assert_array_equal(fused, by_log_loss(held_out.maps[:, :4]))


def test_the_ignored_class_is_never_decided_by_weights(drawn):
    sample = draw_pixels([drawn[0]], classes=CLASSES, ignore=0, pixels=900, seed=0)
    prepared = DecisionSample.of(sample, None, 0, np.ones(5, bool))
    learner = _WeightsLearner(prepared, per_class=False, floor=1e-6)
    rows = np.arange(len(sample.target))
    decided = learner.fusion(learner.path(rows, learner.start(rows))[-1])(drawn[1].maps)
    assert not decided[:, 0].any()


def test_calibration_changes_probabilities_and_no_decision(drawn):
    fit, held_out = drawn
    plain, calibrated = (
        built(f"weighted_mean(objective=metric{option})").fit([fit])
        for option in ("", ", calibrate=vector")
    )
    np.testing.assert_array_equal(plain(held_out.maps), calibrated(held_out.maps))
    changed = probabilities_of(calibrated)(held_out.maps) - probabilities_of(plain)(held_out.maps)
    assert np.abs(changed).max() > 0.01


def test_images_of_a_group_stay_together_in_the_inner_folds(drawn):
    members = [ArrayMaps(f"{k}", one) for k, one in enumerate(drawn[0].maps)]
    groups = np.array(["b", "a", "b", "a", "c", "c", "d", "d"])
    blocks = TrainingBlocks(members, drawn[0].target, size=3, groups=groups)
    sample = draw_pixels(blocks, classes=CLASSES, ignore=None, pixels=2000, seed=0)
    pixels = DecisionSample.of(sample, None, None, np.ones(5, bool)).pixels
    assert set(pixels.group) == {0, 1, 2, 3}
    assert set(_inner_folds(pixels)) == {0, 1, 2}


def networks(folds, seed=3):
    """Draw maps of which each fold comes from networks with confusions of their own."""
    parts = []
    for fold in range(folds):
        rng = np.random.default_rng([seed, fold])
        population = Population(WORTH["equal"], 0.0, rng)
        population.confusion *= 15
        parts.append(population.draw(16))
    maps = np.concatenate([part.maps for part in parts], axis=1)
    target = np.concatenate([part.target for part in parts])
    members = [ArrayMaps(f"{k}", one) for k, one in enumerate(maps)]
    index = np.repeat(np.arange(folds), 16)
    return TrainingBlocks(members, target), index, maps


@pytest.mark.parametrize("folds", [2, 3])
def test_no_fit_adapts_to_networks_that_do_not_predict_what_is_fused(folds):
    blocks, fold_of, maps = networks(folds)
    known = replace(blocks, folds=fold_of)
    chosen, scores = {}, {}
    for name, fit in {"unknown": blocks, "known": known}.items():
        per_fold = cross_fit(built("stacking(sample_pixels=3000)"), fit, fold_of)
        fused = [one(maps[:, fold_of == fold]) for fold, one in enumerate(per_fold)]
        chosen[name] = {one.chosen for one in per_fold}
        scores[name] = score(np.concatenate(fused), blocks.target)
    assert not chosen["unknown"] <= {"mean", "member"}
    assert chosen["known"] <= {"mean", "member"}
    assert scores["known"] > scores["unknown"]


@pytest.mark.parametrize("spec", DECIDING)
def test_of_one_fold_the_mean_or_the_best_member_decides(spec, drawn):
    members = [ArrayMaps(f"{k}", one) for k, one in enumerate(drawn[0].maps)]
    blocks = TrainingBlocks(members, drawn[0].target, folds=np.full(8, 2))
    assert built(spec).fit(blocks).chosen in {"mean", "member"}


@pytest.mark.parametrize("spec", DECIDING)
def test_a_fold_of_one_group_is_no_obstacle(spec, drawn):
    """Two folds of three drives: what is fused without one fold learns from a single drive."""
    members = [ArrayMaps(f"{k}", one) for k, one in enumerate(drawn[0].maps)]
    one = {"folds": np.zeros(8, int), "groups": np.full(8, "drive")}
    fusion = built(spec).fit(TrainingBlocks(members, drawn[0].target, **one))
    assert fusion.chosen in {"mean", "member"}


@pytest.mark.parametrize("wrap", [lambda b: CalibrationSplit(b, np.ones(64, bool)), lambda b: b])
def test_inner_folds_are_folds_where_several_are_known(drawn, wrap):
    blocks, fold_of, _ = networks(4)
    blocks = wrap(replace(blocks, folds=fold_of, target=HiddenTarget(blocks.target, fold_of == 1)))
    sample = draw_pixels(blocks, classes=CLASSES, ignore=None, pixels=2000, seed=0)
    pixels = DecisionSample.of(sample, None, None, np.ones(5, bool)).pixels
    np.testing.assert_array_equal(np.unique(pixels.fold), [0, 2, 3])
    inner = _inner_folds(pixels)
    assert sorted(inner) == [-1, 0, 1, 2]
    assert inner[1] == -1


def test_a_part_without_the_measured_class_teaches_nothing_and_breaks_nothing(drawn):
    target = np.minimum(drawn[0].target, 2)
    target[0, :4] = 3
    metric = SetMetric("iou", (3,))
    fusion = built("weighted_mean", metric=metric).fit([TrainingBlock(drawn[0].maps, target)])
    assert fusion.chosen in {"mean", "member", "log_loss", "metric"}


def test_one_group_is_refused_with_what_to_do(drawn):
    fit = TrainingBlock(drawn[0].maps[:, :1], drawn[0].target[:1])
    with pytest.raises(BadData, match=r"1 group of images; .* choose objective=log_loss"):
        built("weighted_mean").fit([fit])


def test_a_metric_without_a_pixel_is_refused(drawn):
    fit = TrainingBlock(drawn[0].maps, np.minimum(drawn[0].target, 2))
    with pytest.raises(BadData, match="no pixel of the classes that the metric measures"):
        built("weighted_mean", metric=SetMetric("iou", (3,))).fit([fit])


def test_the_metric_decides_what_is_fitted(drawn):
    scores = []
    sample = draw_pixels([drawn[0]], classes=CLASSES, ignore=None, pixels=2000, seed=0)
    for metric in (METRICS[0], METRICS[2]):
        prepared = DecisionSample.of(sample, metric, None, np.ones(5, bool))
        learner = _WeightsLearner(prepared, per_class=False, floor=1e-6)
        rows = np.arange(len(sample.target))
        fit = learner.path(rows, learner.start(rows))[-1]
        logits = learner.logits(fit, rows)
        scores.append([replace(prepared.pixels, metric=m).score_of(logits) for m in METRICS])
    assert scores[1][2] > scores[0][2]


def test_thinned_pixels_stand_for_the_same_number():
    rng = np.random.default_rng(0)
    target = (rng.random((4, 20, 20)) > 0.97).astype(np.uint8)
    maps = rng.random((1, 4, 2, 20, 20)).astype(np.float32)
    sample = draw_pixels([TrainingBlock(maps, target)], classes=2, ignore=None, pixels=1600, seed=0)
    left = thin(sample, 100)
    assert len(left.target) <= 100
    for label in (0, 1):
        one, other = (s.weight[s.target == label].sum() for s in (sample, left))
        np.testing.assert_allclose(one, other)


def test_what_decides_is_part_of_what_a_spec_says():
    assert objective_of("gate") == "metric"
    assert objective_of("greedy") is objective_of("weighted_mean(weights=[1, 2])") is None
    assert optimises("greedy")
    assert not optimises("stacking(objective=log_loss)")
    with pytest.raises(BadSpec, match="objective"):
        built("stacking(objective=accuracy)")


def test_a_linear_model_starts_from_its_base():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 7)).astype(np.float32)
    model = LinearModel(base, rng.normal(size=(2, 7)).astype(np.float32))
    np.testing.assert_array_equal(model.logits(model.zero()), base)
