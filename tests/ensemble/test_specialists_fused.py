"""What sees specialists one by one: evidence beside the generalists, and classes left to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.linear_model import LogisticRegression

from ensemble.fusion import TrainingBlock
from ensemble.strategies import STRATEGIES
from ensemble.strategies.evidence import Evidence
from ensemble.strategies.gate import Gate
from evaluation.core.specs import Spec, parse_spec

CLASSES, IGNORE = 4, 0
SCORED = [1, 2, 3]
GENERAL, SPECIAL = "probabilities", "one_vs_rest"
seeds = st.integers(0, 2**32 - 1)


def one_hot(target):
    return (target[:, None] == np.arange(CLASSES)[:, None, None]) * 1.0


def drawn(seed, images=24):
    rng = np.random.default_rng(seed)
    return rng, rng.choice(CLASSES, p=[0.2, 0.4, 0.25, 0.15], size=(images, 8, 8))


def generalist(rng, target, skill):
    """Full maps; `skill` is one number, or one a class."""
    skills = np.broadcast_to(np.asarray(skill, float), CLASSES)[:, None, None]
    leaning = one_hot(target) * skills
    return softmax(leaning + rng.normal(size=leaning.shape), axis=1)


def specialists(rng, target, skill, *, slope=1.0):
    """Each class against the rest, too sure by a factor or too shy."""
    skills = np.broadcast_to(np.asarray(skill, float), CLASSES)[:, None, None]
    leaning = (2 * one_hot(target) - 1) * skills
    return expit(slope * (leaning + rng.normal(size=leaning.shape)))


def fitted(spec, members, kinds, target, **context):
    maps = np.stack(members).astype(np.float32)
    given_ = {"classes": CLASSES, "ignore": IGNORE, "kinds": tuple(kinds), "floor": 1e-6}
    options = {"objective": "log_loss", **parse_spec(spec).options}
    by_log_loss = Spec(parse_spec(spec).name, options=options)
    return STRATEGIES.build(by_log_loss, **given_ | context).fit(
        [TrainingBlock(maps, target)]
    ), maps


def right(fused, target):
    return (fused.argmax(axis=1) == target)[target != IGNORE].mean()


class TestEvidence:
    def case(self, seed=0):
        rng, target = drawn(seed)
        members = [generalist(rng, target, s) for s in (1, 0.5)]
        return [*members, specialists(rng, target, [0, 0, 0, 2])], target

    def test_is_a_softmax_of_log_probabilities_and_log_odds(self):
        members, target = self.case()
        fusion, maps = fitted("evidence", members, [GENERAL, GENERAL, SPECIAL], target)
        own = fusion.weights[np.arange(3), :, SCORED].T
        scores = np.einsum("mk,mpkhw->pkhw", own[:2], np.log(maps[:2][:, :, SCORED]))
        scores += own[2][:, None, None] * logit(maps[2][:, SCORED].astype(float))
        expected = softmax(scores + fusion.bias[:, None, None], axis=1)
        np.testing.assert_allclose(fusion(maps)[:, SCORED], expected, rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(fusion(maps)[:, IGNORE], 0)

    @pytest.mark.parametrize("ignored", range(4))
    def test_any_class_may_be_the_ignored_one(self, ignored):
        rng = np.random.default_rng(ignored)
        scored, weights = np.delete(np.arange(4), ignored), np.zeros((3, 2, 4), np.float32)
        own = weights[np.arange(3), :, scored] = rng.normal(size=(3, 2)).astype(np.float32)
        maps = rng.dirichlet(np.ones(4), (2, 3, 8, 8)).transpose(0, 1, 4, 2, 3).astype(np.float32)
        bias = rng.normal(size=3).astype(np.float32)
        fused = Evidence(weights, bias, scored, (GENERAL, SPECIAL), 1e-6)(maps)
        said = np.stack([np.log(maps[0]), logit(maps[1])])[:, :, scored]
        expected = softmax(np.einsum("km,mpkhw->pkhw", own, said) + bias[:, None, None], axis=1)
        np.testing.assert_allclose(fused[:, scored], expected, rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(fused[:, ignored], 0)

    def test_a_generalist_has_one_weight_and_a_specialist_one_a_class_for_its_own_alone(self):
        members, target = self.case()
        fusion, _ = fitted("evidence", members, [GENERAL, GENERAL, SPECIAL], target)
        own = fusion.weights[np.arange(3), :, SCORED]
        np.testing.assert_array_equal(own[:, :2], np.broadcast_to(own[0, :2], (3, 2)))
        assert own[2, 2] > 3 * abs(own[:2, 2]).max()
        assert np.count_nonzero(fusion.weights) == own.size

    def test_no_small_change_lowers_what_is_minimised(self):
        members, target = self.case()
        l2 = 0.05
        fusion, maps = fitted(f"evidence(l2={l2})", members, [GENERAL, GENERAL, SPECIAL], target)
        kept = target != IGNORE
        pixels = np.moveaxis(maps[:, :, SCORED], 2, -1)[:, kept].astype(float)
        logs = np.concatenate([np.log(pixels[:2]), logit(pixels[2:])])
        true = target[kept][:, None] == SCORED

        def cost(general, special, bias):
            scores = np.einsum("mpk,m->pk", logs[:2], general) + logs[2] * special + bias
            away = np.concatenate([general - 1 / 2, special, bias])
            return -log_softmax(scores, axis=1)[true].mean() + l2 / 2 * away @ away

        own = fusion.weights[np.arange(3), :, SCORED].astype(float)
        best = own[0, :2], own[:, 2], fusion.bias.astype(float)
        rng = np.random.default_rng(1)
        for _ in range(30):
            assert cost(*[p + rng.normal(scale=0.02, size=p.shape) for p in best]) > cost(*best)

    def test_specialists_help_on_other_images(self):
        (members, target), (others, other_target) = self.case(1), self.case(2)
        alone, _ = fitted("evidence", members[:2], [GENERAL] * 2, target)
        fusion, _ = fitted("evidence", members, [GENERAL, GENERAL, SPECIAL], target)
        others = np.stack(others).astype(np.float32)
        assert right(fusion(others), other_target) > right(alone(others[:2]), other_target) + 0.02

    def test_the_same_specialist_twice_is_no_more_evidence_than_once(self):
        members, target = self.case()
        once, maps = fitted("evidence(l2=1e-6)", members, [GENERAL, GENERAL, SPECIAL], target)
        kinds = [GENERAL, GENERAL, SPECIAL, SPECIAL]
        twice, four = fitted("evidence(l2=1e-6)", [*members, members[2]], kinds, target)
        np.testing.assert_allclose(twice(four), once(maps), atol=2e-3)

    def test_works_with_specialists_alone_and_with_certain_ones(self):
        rng, target = drawn(3)
        said = specialists(rng, target, 2)
        fusion, maps = fitted("evidence", [said], [SPECIAL], target)
        assert right(fusion(maps), target) > 0.85
        certain, maps = fitted("evidence", [said > 0.5], [SPECIAL], target, floor=1 / 510)
        assert right(certain(maps), target) > 0.85


class TestGate:
    def case(self, seed=0, slope=1.0):
        rng, target = drawn(seed)
        members = [generalist(rng, target, [1, 3, 3, 0.3]) for _ in range(2)]
        return [*members, specialists(rng, target, [3, 0.2, 0.2, 2], slope=slope)], target

    def test_leaves_to_a_specialist_only_what_it_knows_better(self):
        members, target = self.case()
        fusion, _ = fitted("gate", members, [GENERAL, GENERAL, SPECIAL], target)
        np.testing.assert_array_equal(fusion.owner_member, [-1, -1, -1, 2])

    def test_puts_its_calibrated_probability_in_the_place_of_the_mean(self):
        members, target = self.case()
        fusion, maps = fitted("gate", members, [GENERAL, GENERAL, SPECIAL], target)
        expected = maps[:2].mean(axis=0)
        expected[:, 3] = expit(logit(maps[2, :, 3]) * fusion.slope[3] + fusion.offset[3])
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(fusion(maps), expected, rtol=1e-4)

    @pytest.mark.parametrize("slope", [0.3, 5])
    def test_calibrates_as_scikit_learn_does(self, slope):
        members, target = self.case(slope=slope)
        fusion, maps = fitted("gate", members, [GENERAL, GENERAL, SPECIAL], target)
        kept = target != IGNORE
        clipped = np.clip(maps[2, :, 3][kept].astype(float), 1e-6, 1 - 1e-6)
        model = LogisticRegression(C=1e6, tol=1e-8).fit(logit(clipped)[:, None], target[kept] == 3)
        np.testing.assert_allclose(fusion.slope[3], model.coef_[0, 0], rtol=2e-2)
        np.testing.assert_allclose(fusion.offset[3], model.intercept_[0], rtol=2e-2)

    def test_is_better_than_the_mean_on_other_images(self):
        (members, target), (others, other_target) = self.case(1), self.case(2)
        fusion, _ = fitted("gate", members, [GENERAL, GENERAL, SPECIAL], target)
        others = np.stack(others).astype(np.float32)
        mean = STRATEGIES.build("mean")(others[:2])
        assert right(fusion(others), other_target) > right(mean, other_target) + 0.02

    @pytest.mark.parametrize("better", [2, 3])
    def test_of_several_the_best_keeps_the_class(self, better):
        members, target = self.case()
        rng = np.random.default_rng(9)
        other = specialists(rng, target, [0, 0, 0, 4 if better == 3 else 1])
        kinds = [GENERAL, GENERAL, SPECIAL, SPECIAL]
        assert fitted("gate", [*members, other], kinds, target)[0].owner_member[3] == better

    @settings(max_examples=5, deadline=None)
    @given(seed=seeds)
    def test_without_specialists_it_is_the_mean(self, seed):
        rng, target = drawn(seed, images=2)
        fusion, maps = fitted("gate", [generalist(rng, target, 1)] * 2, [GENERAL] * 2, target)
        np.testing.assert_allclose(fusion(maps), STRATEGIES.build("mean")(maps), rtol=1e-5)

    def test_where_nobody_says_yes_all_classes_are_alike(self):
        kinds, ones = (GENERAL, SPECIAL), np.ones(CLASSES)
        steep = Gate(np.array([-1, 1, -1, -1]), 20 * ones, 0 * ones, kinds, 1e-6)
        maps = np.zeros((2, 1, CLASSES, 1, 1), np.float32)
        maps[0, 0, 1] = 1
        np.testing.assert_allclose(steep(maps).ravel(), 1 / CLASSES)

    def test_works_with_specialists_alone(self):
        rng, target = drawn(4)
        fusion, maps = fitted("gate", [specialists(rng, target, 2)], [SPECIAL], target)
        np.testing.assert_array_equal(fusion.owner_member[SCORED], 0)
        assert right(fusion(maps), target) > 0.85
