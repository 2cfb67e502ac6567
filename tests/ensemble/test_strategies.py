import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

import ensemble.fusion
from ensemble.fusion import CLASS_AXIS, LearnedFusion, TrainingBlock
from ensemble.sampling import draw_pixels
from ensemble.strategies import (
    ACCEPTS_ONE_VS_REST,
    FUSIONS,
    NEEDS_CONTEXT,
    STRATEGIES,
)
from ensemble.strategies.votes import one_hot_votes
from evaluation.core.errors import BadData, BadSpec
from evaluation.core.specs import parse_spec

CLASSES, IGNORE, UNLABELLED = 4, 0, 255
SCORED = [1, 2, 3]
EVERY = sorted(STRATEGIES)
QUICK = {
    "stacking_boosted": "stacking_boosted(rounds=2)",
    "stacking_conv": "stacking_conv(width=4, steps=2)",
}
"""Options of strategies whose default takes long to fit."""

MAPS, PREDS = "agreeing maps are unchanged", "agreeing predictions are unchanged"
ORDER, WEIGHT_0, FINDS = "any order", "weight 0 has no effect", "as good as the one good member"

LAWS = {
    "evidence": {ORDER, FINDS},
    "gate": {MAPS, PREDS, ORDER},
    "geometric_mean": {MAPS, PREDS, ORDER},
    "greedy": {MAPS, PREDS, WEIGHT_0, FINDS},
    "harmonic_mean": {MAPS, PREDS, ORDER},
    "log_odds": {MAPS, PREDS, ORDER},
    "majority_vote": {PREDS, ORDER},
    "max": {MAPS, PREDS, ORDER},
    "mean": {MAPS, PREDS, ORDER},
    "median": {MAPS, PREDS, ORDER},
    "min": {MAPS, PREDS, ORDER},
    "per_class_vote": {MAPS, PREDS, ORDER, WEIGHT_0, FINDS},
    "power_mean": {PREDS, ORDER},
    "simple": {PREDS, ORDER, WEIGHT_0},
    "stacking": {ORDER, FINDS},
    "stacking_boosted": set(),
    "stacking_conv": set(),
    "staple": {PREDS, ORDER},
    "weighted_mean": {MAPS, PREDS, ORDER, WEIGHT_0, FINDS},
}
"""What each strategy keeps beyond returning probabilities."""


def learns(name):
    context = {"classes": CLASSES, "ignore": IGNORE, "kinds": ("probabilities",) * 3}
    return isinstance(STRATEGIES.build(name, **context), LearnedFusion)


LEARNED = [name for name in EVERY if learns(name)]

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=8, deadline=None)


def drawn_target(rng, images=6, rows=8, cols=8):
    target = rng.choice(CLASSES, p=[0.2, 0.5, 0.2, 0.1], size=(images, rows, cols))
    target[0, :2, :3] = np.arange(6).reshape(2, 3) % CLASSES
    target[0, 2, :2] = UNLABELLED
    return target


def member(rng, target, skill):
    """Maps that lean to the target by `skill`, in units of their noise; 255 leans nowhere."""
    leaning = (target[:, None] == np.arange(CLASSES)[:, None, None]) * float(skill)
    return softmax(leaning + rng.normal(size=leaning.shape), axis=1).astype(np.float32)


def drawn(seed, skills=(0, 1, 2), **shape):
    rng = np.random.default_rng(seed)
    target = drawn_target(rng, **shape)
    return np.stack([member(rng, target, skill) for skill in skills]), target


def in_steps(maps, steps):
    """Round to multiples of 1/steps that still sum to 1: many zeros, many ties."""
    moved = np.moveaxis(np.cumsum(maps, axis=CLASS_AXIS), CLASS_AXIS, 0)
    edges = np.rint(moved / moved[-1] * steps)
    return np.moveaxis(np.diff(edges, axis=0, prepend=0) / steps, 0, CLASS_AXIS).astype(np.float32)


def by_log_loss(spec):
    """The laws are those of probabilities; tests of decisions are in test_decision."""
    spec = parse_spec(spec)
    if STRATEGIES.takes(spec.name, "objective"):
        spec.options.setdefault("objective", "log_loss")
    return spec


def built(spec, members, **context):
    defaults = {"classes": CLASSES, "ignore": IGNORE, "floor": 1e-3, "seed": 0}
    kinds = ("probabilities",) * members
    return STRATEGIES.build(
        by_log_loss(QUICK.get(spec, spec)), **defaults | {"kinds": kinds} | context
    )


def fitted(spec, maps, target, *, blocks=None, **context):
    strategy = built(spec, len(maps), **context)
    if not isinstance(strategy, LearnedFusion):
        return strategy
    images = maps.shape[1]
    cuts = blocks or [slice(0, images)]
    return strategy.fit([TrainingBlock(maps[:, cut], target[cut]) for cut in cuts])


def masked_miou(maps, target):
    pred, kept = maps.argmax(axis=1), (target != IGNORE) & (target != UNLABELLED)
    pairs = [((pred == k) & kept, target == k) for k in SCORED]
    return np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs])


def fields(fusion):
    return {f.name: getattr(fusion, f.name) for f in dataclasses.fields(fusion)}


def assert_same_fusion(one, other, rtol=0.0, atol=0.0):
    assert type(one) is type(other)
    for name, value in fields(one).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(value, fields(other)[name], rtol=rtol, atol=atol)
        else:
            assert value == fields(other)[name]


@pytest.mark.parametrize("name", EVERY)
class TestEveryStrategy:
    """What holds for any strategy; a new one is checked by being in the table."""

    @few
    @given(seed=seeds, steps=st.sampled_from([None, 255, 4]))
    def test_gives_probabilities(self, name, seed, steps):
        maps, target = drawn(seed)
        maps = in_steps(maps, steps) if steps else maps
        fused = fitted(name, maps, target)(maps)
        assert fused.shape == maps.shape[1:]
        assert fused.dtype == np.float32
        assert (fused >= 0).all()
        np.testing.assert_allclose(fused.sum(axis=CLASS_AXIS), 1, atol=1e-5)

    def test_sums_to_1_where_the_stored_maps_do_not_quite(self, name):
        maps, target = drawn(1)
        maps = np.rint(maps * 255).astype(np.float32) / 255
        assert np.abs(maps.sum(axis=CLASS_AXIS) - 1).max() > 1e-3
        fused = fitted(name, maps, target)(maps)
        np.testing.assert_allclose(fused.sum(axis=CLASS_AXIS), 1, atol=1e-5)

    @few
    @given(seed=seeds, cut=st.integers(1, 5))
    def test_fits_the_same_on_blocks_as_on_the_whole(self, name, seed, cut):
        maps, target = drawn(seed)
        whole = fitted(name, maps, target)
        parts = fitted(name, maps, target, blocks=[slice(0, cut), slice(cut, 6)])
        assert_same_fusion(whole, parts)

    @few
    @given(seed=seeds, cut=st.integers(1, 5))
    def test_fuses_the_same_in_blocks_as_in_the_whole(self, name, seed, cut):
        maps, target = drawn(seed)
        fusion = fitted(name, maps, target)
        parts = [fusion(maps[:, :cut]), fusion(maps[:, cut:])]
        np.testing.assert_allclose(np.concatenate(parts), fusion(maps), rtol=1e-5)

    @pytest.mark.parametrize("values", [1, 70, 600])
    def test_fuses_the_same_in_pieces_of_any_size(self, name, values, monkeypatch):
        maps, target = drawn(2, rows=7, cols=5)
        fusion = fitted(name, maps, target)
        whole = fusion(maps)
        monkeypatch.setattr(ensemble.fusion, "PIECE_VALUES", values)
        np.testing.assert_allclose(fusion(maps), whole, rtol=1e-5)

    def test_leaves_its_input_as_it_was(self, name):
        maps, target = drawn(3)
        before = maps.copy(), target.copy()
        fitted(name, maps, target)(maps)
        np.testing.assert_array_equal(maps, before[0])
        np.testing.assert_array_equal(target, before[1])

    def test_mirrored_views_are_read_as_their_copies(self, name):
        maps, target = (values[..., ::-1] for values in drawn(3))
        copied = fitted(name, maps.copy(), target.copy())(maps.copy())
        np.testing.assert_allclose(fitted(name, maps, target)(maps), copied, rtol=1e-5)

    def test_takes_a_single_member_and_two_classes(self, name):
        maps, target = drawn(4, skills=(1,))
        two = np.stack([maps[:, :, :2].sum(axis=2), maps[:, :, 2:].sum(axis=2)], axis=2)
        fusion = fitted(name, two, target % 2, classes=2, ignore=None)
        np.testing.assert_allclose(fusion(two).sum(axis=CLASS_AXIS), 1, atol=1e-5)

    def test_gives_what_can_be_read_back(self, name):
        assert type(fitted(name, *drawn(5))).__name__ in FUSIONS


def names_with_law(law):
    return sorted(name for name, laws in LAWS.items() if law in laws)


@pytest.mark.parametrize("name", names_with_law(MAPS))
@few
@given(seed=seeds)
def test_leaves_agreeing_maps_alone(name, seed):
    maps, target = drawn(seed, skills=(1, 1, 1))
    maps[:] = maps[0]
    fusion = fitted(name, maps, target, floor=1e-9)
    np.testing.assert_allclose(fusion(maps), maps[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", names_with_law(PREDS))
@few
@given(seed=seeds)
def test_leaves_agreeing_predictions_alone(name, seed):
    maps, target = drawn(seed, skills=(1, 1, 1))
    maps[:] = maps[0]
    fused = fitted(name, maps, target)(maps)
    np.testing.assert_array_equal(fused.argmax(axis=1), maps[0].argmax(axis=1))


@pytest.mark.parametrize("name", names_with_law(ORDER))
@few
@given(seed=seeds, order=st.permutations(range(3)))
def test_the_order_of_the_members_has_no_effect(name, seed, order):
    maps, target = drawn(seed)
    fused = fitted(name, maps, target)(maps)
    other = fitted(name, maps[order], target)(maps[order])
    np.testing.assert_allclose(other, fused, atol=2e-3 if name == "stacking" else 2e-4)


@pytest.mark.parametrize("name", names_with_law(WEIGHT_0))
def test_a_member_with_weight_0_has_no_effect(name):
    maps, target = drawn(31)
    fusion = fitted(name, maps, target)
    weights = fusion.weights.copy()
    weights[1] = 0
    weights[0] += weights.sum(axis=0) == 0
    fusion = dataclasses.replace(fusion, weights=weights)
    other = maps.copy()
    other[1] = member(np.random.default_rng(32), target, 3)
    np.testing.assert_array_equal(fusion(other), fusion(maps))


def test_what_learns_weights_keeps_the_law_of_weight_0():
    with_weights = {name for name in LEARNED if hasattr(fitted(name, *drawn(33)), "weights")}
    # Their weights are of features, where 0 is no say but no member's absence either.
    assert with_weights - {"evidence", "stacking"} == set(names_with_law(WEIGHT_0))


@pytest.mark.parametrize("name", names_with_law(FINDS))
@pytest.mark.parametrize("place", [0, 2])
def test_what_learns_is_as_good_as_the_one_good_member(name, place):
    skills = [0.3, 0.3, 0.3]
    skills[place] = 4
    maps, target = drawn(6, skills, images=24)
    fusion = fitted(name, maps[:, :12], target[:12])
    held_out = maps[:, 12:]
    alone = masked_miou(held_out[place], target[12:])
    assert alone < 0.999
    assert masked_miou(fusion(held_out), target[12:]) >= alone - 0.002


def test_what_looks_at_the_target_finds_the_one_good_member():
    # Two never look at the target and trust the majority; one pools all members of full maps alike.
    exempt = {"gate", "simple", "staple"}
    # These learn much from few pixels: test_stacking.py holds them to it on more of them.
    elsewhere = {"stacking_boosted", "stacking_conv"}
    finds = {name for name in LEARNED if FINDS in LAWS[name]}
    assert set(LEARNED) - finds == exempt | elsewhere


def test_every_law_and_every_user_of_specialists_is_in_the_table():
    assert set(LAWS) == set(STRATEGIES)
    assert set(STRATEGIES) >= ACCEPTS_ONE_VS_REST


class TestMean:
    def test_is_the_mean(self):
        maps, target = drawn(7)
        np.testing.assert_allclose(fitted("mean", maps, target)(maps), maps.mean(axis=0), rtol=1e-5)


class TestGeometricMean:
    def test_is_the_renormalised_product(self):
        maps, target = drawn(8)
        root = np.prod(maps.astype(float), axis=0) ** (1 / 3)
        fused = fitted("geometric_mean", maps, target, floor=1e-9)(maps)
        np.testing.assert_allclose(fused, root / root.sum(axis=1, keepdims=True), rtol=1e-4)

    def test_a_zero_vetoes_only_down_to_the_floor(self):
        maps = np.array([[0.0, 1.0], [0.5, 0.5]], np.float32).reshape(2, 1, 2, 1, 1)
        fused = built("geometric_mean(floor=0.01)", 2)(maps).ravel()
        np.testing.assert_allclose(fused[0] / fused[1], 0.1, rtol=1e-5)

    def test_holds_with_so_many_members_that_their_product_is_no_float(self):
        maps = np.tile(np.array([1e-3, 0.999], np.float32).reshape(1, 1, 2, 1, 1), (60, 1, 1, 1, 1))
        np.testing.assert_allclose(built("geometric_mean", 60)(maps).ravel(), [1e-3, 0.999], 1e-3)


class TestWeightedMean:
    def test_given_weights_are_used(self):
        maps, _ = drawn(9)
        fused = built("weighted_mean(weights=[1, 0, 3])", 3)(maps)
        np.testing.assert_allclose(fused, maps[0] / 4 + maps[2] * 3 / 4, rtol=1e-5)

    @few
    @given(seed=seeds)
    def test_a_member_with_weight_0_has_no_effect(self, seed):
        maps, target = drawn(seed)
        other = maps.copy()
        other[1] = member(np.random.default_rng(seed + 1), target, 3)
        fusion = built("weighted_mean(weights=[1, 0, 3])", 3)
        np.testing.assert_array_equal(fusion(other), fusion(maps))

    @few
    @given(seed=seeds)
    def test_learned_weights_lose_no_more_than_those_of_a_long_em(self, seed):
        maps, target = drawn(seed, skills=(0.5, 1, 1.5))
        kept = (target != IGNORE) & (target != UNLABELLED)
        told = np.moveaxis(maps, (0, 2), (-2, -1))[kept]
        told = told[np.arange(len(told)), :, target[kept]].astype(float)
        weights = np.full(3, 1 / 3)
        for _ in range(2000):
            weights *= (told / (told @ weights)[:, None]).mean(axis=0)
        found = fitted("weighted_mean", maps, target, floor=1e-9).weights
        losses = [-np.log(told @ w).mean() for w in (found, weights)]
        assert losses[0] <= losses[1] + 1e-5

    def test_the_target_of_one_member_gets_all_the_weight(self):
        maps, target = drawn(10)
        maps[1] = member(np.random.default_rng(0), target, 60)
        np.testing.assert_allclose(
            fitted("weighted_mean", maps, target).weights, [0, 1, 0], atol=1e-3
        )

    def test_given_weights_of_classes_are_used(self):
        maps, _ = drawn(28)
        weights = np.array([[1, 0, 2, 1], [1, 5, 0, 1], [2, 0, 2, 1]])
        fused = built(f"weighted_mean(weights={weights.tolist()})", 3)(maps)
        scores = np.einsum("mc,mpchw->pchw", weights / weights.sum(axis=0), maps)
        np.testing.assert_allclose(fused, scores / scores.sum(axis=1, keepdims=True), rtol=1e-5)

    def test_where_nobody_asked_names_a_class_those_asked_for_any_decide(self):
        said = np.array([[0, 0, 0.6, 0.4], [1, 0, 0, 0], [0, 1, 0, 0]], np.float32)
        maps = said.reshape(3, 1, 4, 1, 1)
        weights = [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
        fused = built(f"weighted_mean(weights={weights})", 3)(maps)
        np.testing.assert_allclose(fused.ravel(), [0.5, 0, 0.3, 0.2], rtol=1e-6)

    @few
    @given(seed=seeds)
    def test_learned_weights_of_a_class_lose_no_more_than_those_of_a_long_em(self, seed):
        maps, target = drawn(seed, skills=(0.5, 1, 1.5))
        kept = (target != IGNORE) & (target != UNLABELLED)
        pixels = np.moveaxis(maps, (0, 2), (-2, -1))[kept].astype(float)
        found = fitted("weighted_mean(per_class=true)", maps, target, floor=1e-9).weights
        for label in SCORED:
            yes = pixels[:, :, label]
            told = np.where((target[kept] == label)[:, None], yes, 1 - yes)
            weights = np.full(3, 1 / 3)
            for _ in range(2000):
                weights *= (told / (told @ weights)[:, None]).mean(axis=0)
            losses = [-np.log(told @ w).mean() for w in (found[:, label], weights)]
            assert losses[0] <= losses[1] + 1e-5
        np.testing.assert_array_equal(found[:, IGNORE], np.float32(1 / 3))

    def test_each_class_gets_the_member_that_knows_it(self):
        maps, target = drawn(29, skills=(4, 4), images=24)
        maps[0, :, 2:] = maps[0, :, 2:].mean(axis=1, keepdims=True)
        maps[1, :, :2] = maps[1, :, :2].mean(axis=1, keepdims=True)
        weights = fitted("weighted_mean(per_class=true)", maps, target).weights
        assert weights[0, 1] > 0.9
        assert (weights[1, 2:] > 0.9).all()

    @pytest.mark.parametrize(
        ("weights", "words"),
        [
            ("[1, 2]", "weights [1.0, 2.0] are 2; expected 3, one per member"),
            ("[1, -2, 0]", "contain -2; expected numbers from 0 up"),
            ("[1, 1e999, 0]", "expected a finite number"),
            ("[0, 0, 0]", "weights [0.0, 0.0, 0.0] are all 0; expected one above 0"),
            ("[]", "weights [] are 0; expected 3, one per member"),
            (f"{[[1, 1, 0, 1]] * 3}", "are all 0 for class 2; expected one above 0"),
            ("[[1, 1], [1, 1], [1, 1]]", "contain a list of 2; expected 4, one per class"),
            (f"{[[1, 1, 1, -1]] * 3}", "contain -1; expected numbers from 0 up"),
        ],
    )
    def test_refuses_weights_that_are_none(self, weights, words):
        with pytest.raises(BadSpec) as caught:
            built(f"weighted_mean(weights={weights})", 3)
        assert words in str(caught.value)


def winner(pixel):
    """Count votes the slow way; `pixel` is (member, class)."""
    votes = Counter(int(one.argmax()) for one in pixel)
    return min(range(CLASSES), key=lambda k: (-votes[k], -pixel[:, k].sum(), k))


class TestMajorityVote:
    @few
    @given(seed=seeds, members=st.integers(1, 5))
    def test_the_winner_is_that_of_a_count_by_hand(self, seed, members):
        maps, target = drawn(seed, skills=(0.5,) * members, images=2)
        maps = in_steps(maps, 4)
        pred = fitted("majority_vote", maps, target)(maps).argmax(axis=1)
        by_hand = [
            winner(pixel)
            for pixel in np.moveaxis(maps, (0, 2), (-2, -1)).reshape(-1, members, CLASSES)
        ]
        np.testing.assert_array_equal(pred.ravel(), by_hand)

    @pytest.mark.parametrize(
        ("pixel", "pred"),
        [
            pytest.param([[0.6, 0.4], [0.6, 0.4], [0, 1]], 0, id="two against one sure one"),
            pytest.param([[0.6, 0.4], [0.1, 0.9]], 1, id="a tie goes to the more probable"),
            pytest.param([[0.4, 0.6], [0.6, 0.4]], 0, id="a full tie goes to the lowest"),
            pytest.param([[0.5, 0.5]], 0, id="a member in doubt votes for the lowest"),
        ],
    )
    def test_by_hand(self, pixel, pred):
        maps = np.array(pixel, np.float32)[:, None, :, None, None]
        assert built("majority_vote", len(pixel), classes=2)(maps).ravel().argmax() == pred

    @few
    @given(seed=seeds, steps=st.sampled_from([1, 3, 255]))
    def test_a_member_votes_where_argmax_points(self, seed, steps):
        one = np.rint(np.random.default_rng(seed).random((3, CLASSES, 8, 8)) * steps)
        voted = one_hot_votes(one.astype(np.float32))
        np.testing.assert_array_equal(voted.argmax(axis=1), one.argmax(axis=1))
        np.testing.assert_array_equal(voted.sum(axis=1), 1)

    @few
    @given(seed=seeds)
    def test_gives_the_share_of_the_votes_but_where_they_tie(self, seed):
        maps, target = drawn(seed, skills=(0.5,) * 4)
        fused = fitted("majority_vote", maps, target)(maps)
        votes = sum(
            maps[m].argmax(axis=1)[:, None] == np.arange(CLASSES)[:, None, None] for m in range(4)
        )
        tied = votes == votes.max(axis=1, keepdims=True)
        clear = np.broadcast_to(tied.sum(axis=1, keepdims=True) == 1, votes.shape)
        np.testing.assert_array_equal(fused[clear], (votes / 4)[clear])
        np.testing.assert_allclose(fused, votes / 4, atol=1 / 128)
        assert 0 < clear.mean() < 1

    @few
    @given(seed=seeds, members=st.sampled_from([2, 10]))
    def test_the_winner_of_a_tie_is_still_ahead_in_a_uint8_store(self, seed, members):
        maps, target = drawn(seed, skills=(0.5,) * members)
        fused = fitted("majority_vote", maps, target)(maps)
        stored = np.rint(fused * 255)
        np.testing.assert_array_equal(stored.argmax(axis=1), fused.argmax(axis=1))

    @pytest.mark.parametrize(
        ("ties", "pred"), [("mean_probability", 3), ("first_member", 2), ("lowest", 1)]
    )
    def test_ties_go_by_the_rule(self, ties, pred):
        # One vote for 0; two each for 1, 2 and 3: the last more probable, 2 named before 1.
        votes = [0, 2, 3, 1, 1, 2, 3]
        maps = (
            0.1
            + 0.5 * np.eye(4, dtype=np.float32)[votes]
            + 0.1 * (np.array(votes) == 3)[:, None] * np.eye(4)[3]
        )
        maps = (maps / maps.sum(axis=1, keepdims=True)).astype(np.float32)[:, None, :, None, None]
        assert built(f"majority_vote(ties={ties})", 7)(maps).ravel().argmax() == pred

    def test_counts_more_votes_than_a_byte_holds(self):
        maps = np.zeros((300, 1, 2, 1, 1), np.float32)
        maps[:280, :, 0] = maps[280:, :, 1] = 1
        assert built("majority_vote", 300, classes=2)(maps).ravel()[0] > 0.9


ONE_VS_REST = ("probabilities", "probabilities", "one_vs_rest")


class TestPerClassVote:
    @few
    @given(seed=seeds)
    def test_weights_are_the_held_out_iou(self, seed):
        maps, target = drawn(seed, skills=(0.5, 1, 1.5))
        kept = (target != IGNORE) & (target != UNLABELLED)
        expected = np.empty((3, CLASSES))
        for m, k in np.ndindex(3, CLASSES):
            said = maps[m, :, k] > 0.5 if m == 2 else maps[m].argmax(axis=1) == k
            hits, all_ = (said & kept & (target == k)).sum(), ((said | (target == k)) & kept).sum()
            expected[m, k] = hits / all_ if all_ else 0
        expected[:, ~expected.any(axis=0)] = 1
        fusion = fitted("per_class_vote", maps, target, kinds=ONE_VS_REST)
        np.testing.assert_allclose(fusion.weights, expected / expected.sum(axis=0), rtol=1e-5)

    def test_a_class_is_decided_by_those_who_know_it(self):
        # Member 0 knows classes 1 and 2, member 1 knows 3 alone; class 0 is not scored.
        target = np.array([1, 2, 3]).reshape(1, 1, 3)
        first = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0.6, 0.4, 0]], np.float32)
        second = np.array([[0, 0, 0.6, 0.4], [0, 0.6, 0.4, 0], [0, 0, 0, 1]], np.float32)
        maps = np.stack([one.T.reshape(1, 4, 1, 3) for one in (first, second)])
        fusion = fitted("per_class_vote", maps, target)
        np.testing.assert_array_equal(fusion.weights, [[0.5, 1, 1, 0], [0.5, 0, 0, 1]])
        np.testing.assert_allclose(fusion(maps)[0, :, 0, 2], [0, 0.3, 0.2, 0.5], atol=1e-6)

    def test_a_class_that_nobody_knows_is_decided_by_all_alike(self):
        maps, target = drawn(11)
        target[target == 3] = 1
        np.testing.assert_allclose(fitted("per_class_vote", maps, target).weights[:, 3], 1 / 3)

    @pytest.mark.parametrize("votes", ["soft", "hard"])
    def test_where_specialists_all_say_no_every_class_is_as_good(self, votes):
        maps, target = drawn(12, skills=(2,))
        fusion = fitted(f"per_class_vote(votes={votes})", maps, target, kinds=("one_vs_rest",))
        np.testing.assert_array_equal(fusion(np.zeros_like(maps)), np.float32(1 / CLASSES))

    @pytest.mark.parametrize("votes", ["soft", "hard"])
    def test_what_is_known_of_one_pixel_says_nothing_of_another(self, votes):
        maps, target = drawn(12, skills=(2,))
        fusion = fitted(f"per_class_vote(votes={votes})", maps, target, kinds=("one_vs_rest",))
        some = np.zeros_like(maps)
        some[0, 0, 1, 0, 0] = 0.4
        fused = fusion(some)
        np.testing.assert_array_equal(fused[0, :, 0, 0], [0, 1, 0, 0])
        np.testing.assert_array_equal(fused[0, :, 0, 1], np.float32(1 / CLASSES))

    def test_soft_votes_decide_where_hard_ones_name_no_class(self):
        maps, target = drawn(13, skills=(2,))
        soft, hard = (
            fitted(f"per_class_vote(votes={v})", maps, target, kinds=("one_vs_rest",))
            for v in ("soft", "hard")
        )
        np.testing.assert_array_equal(hard(maps * 0.4), soft(maps * 0.4))

    def test_hard_votes_are_counted_with_their_weights(self):
        maps, target = drawn(14)
        fusion = fitted("per_class_vote(votes=hard)", maps, target)
        ballots = np.eye(CLASSES)[maps.argmax(axis=2)].transpose(0, 1, 4, 2, 3)
        scores = np.einsum("mc,mpchw->pchw", fusion.weights, ballots)
        np.testing.assert_allclose(fusion(maps), scores / scores.sum(axis=1, keepdims=True), 1e-4)

    def test_power_0_asks_all_who_know_a_class_and_a_large_one_only_the_best(self):
        maps, target = drawn(15, skills=(0.5, 1, 3))
        alike, best = (
            fitted(f"per_class_vote(power={p})", maps, target).weights for p in (0, 1000)
        )
        np.testing.assert_allclose(alike, 1 / 3, rtol=1e-6)
        np.testing.assert_allclose(best[:, 1:], [[0] * 3, [0] * 3, [1] * 3], atol=1e-6)


class TestStacking:
    def reference(self, maps, target, l2):
        """Fit scikit-learn's regression on the very pixels that stacking takes."""
        taken = draw_pixels(
            [TrainingBlock(maps, target)], classes=CLASSES, ignore=IGNORE, pixels=900, seed=0
        )
        features = np.log(np.maximum(taken.maps, 1e-3)).reshape(len(taken.target), -1)
        model = LogisticRegression(C=1 / (l2 * len(taken.target)), max_iter=5000, tol=1e-8)
        return model.fit(features, taken.target, taken.weight * len(taken.target))

    @pytest.mark.parametrize("seed", range(3))
    def test_predicts_as_well_as_scikit_learn(self, seed):
        maps, target = drawn(seed, images=24)
        fit, held_out = slice(0, 16), slice(16, 24)
        model = self.reference(maps[:, fit], target[fit], l2=1e-5)
        spec = "stacking(l2=1e-5, sample_pixels=900)"
        fused = fitted(spec, maps[:, fit], target[fit])(maps[:, held_out])
        scored = (target[held_out] != IGNORE) & (target[held_out] != UNLABELLED)
        pixels = np.moveaxis(maps[:, held_out], (0, 2), (-2, -1))[scored]
        logs = np.log(np.maximum(pixels, 1e-3)).reshape(len(pixels), -1)
        told = np.eye(CLASSES, dtype=bool)[target[held_out][scored]]
        ours = -np.log(np.moveaxis(fused, 1, -1)[scored][told]).mean()
        theirs = -np.log(model.predict_proba(logs)[told[:, 1:]]).mean()
        assert abs(ours - theirs) < 1e-3

    def test_no_small_change_of_the_weights_lowers_what_is_minimised(self):
        maps, target = drawn(16)
        l2 = 0.1
        fusion = fitted(f"stacking(l2={l2})", maps, target)
        taken = draw_pixels(
            [TrainingBlock(maps, target)], classes=CLASSES, ignore=IGNORE, pixels=10**5, seed=0
        )
        logs = np.log(np.maximum(taken.maps, 1e-3)).reshape(len(taken.target), -1).astype(float)
        pool = np.tile(np.eye(CLASSES)[SCORED], 3) / 3

        def cost(weights, bias):
            told = log_softmax(logs @ weights.T + bias, axis=1)
            told = told[np.arange(len(logs)), taken.target - 1]
            return -taken.weight @ told + l2 / 2 * ((weights - pool) ** 2).sum()

        best = fusion.weights.reshape(3, -1).astype(float), fusion.bias.astype(float)
        rng = np.random.default_rng(0)
        for _ in range(50):
            moved = [part + rng.normal(scale=0.01, size=part.shape) for part in best]
            assert cost(*moved) > cost(*best)

    def test_a_strong_pull_gives_the_weights_of_the_geometric_mean(self):
        maps, target = drawn(17)
        weights = fitted("stacking(l2=1e6)", maps, target).weights
        pool = np.stack([np.eye(CLASSES)[SCORED] / 3] * 3, axis=1)
        np.testing.assert_allclose(weights, pool, atol=1e-4)

    def test_undoes_a_habit_that_no_mean_can(self):
        maps, target = drawn(18, skills=(3,))
        swapped = maps[:, :, [0, 2, 1, 3]]
        assert masked_miou(swapped[0], target) < 0.4
        fusion = fitted("stacking", swapped, target)
        assert masked_miou(fusion(swapped), target) > 0.8

    def test_two_members_that_are_the_same_do_no_harm(self):
        maps, target = drawn(19, skills=(2, 2))
        maps[1] = maps[0]
        fusion = fitted("stacking(l2=1e-9)", maps, target)
        assert masked_miou(fusion(maps), target) >= masked_miou(maps[0], target) - 0.02

    def test_the_ignored_class_gets_probability_0(self):
        maps, target = drawn(20)
        fused = fitted("stacking", maps, target)(maps)
        np.testing.assert_array_equal(fused[:, IGNORE], 0)
        assert (fitted("stacking", maps, target, ignore=None)(maps)[:, 0] > 0).all()

    def test_balance_names_a_rare_class_more_often(self):
        maps, target = drawn(21, skills=(1, 1), images=16)
        true, even = (fitted(f"stacking(balance={b})", maps, target)(maps) for b in (0, 1))
        assert (even.argmax(axis=1) == 3).sum() > 1.5 * (true.argmax(axis=1) == 3).sum()

    def test_refuses_a_scored_class_without_a_pixel(self):
        maps, target = drawn(22)
        target[target == 2] = 1
        with pytest.raises(BadData) as caught:
            fitted("stacking", maps, target)
        assert "target to fit on has no pixel of class 2" in str(caught.value)


class TestSample:
    def take(self, maps, target, **options):
        defaults = {"classes": CLASSES, "ignore": IGNORE, "pixels": 30, "seed": 0}
        return draw_pixels([TrainingBlock(maps, target)], **defaults | options)

    def test_takes_as_many_of_each_class_and_weighs_them_back(self):
        maps, target = drawn(23)
        taken = self.take(maps, target)
        counts = np.array([(target == k).sum() for k in SCORED])
        assert [(taken.target == k).sum() for k in SCORED] == [10, 10, 10]
        shares = [taken.weight[taken.target == k].sum() for k in SCORED]
        np.testing.assert_allclose(shares, counts / counts.sum())
        np.testing.assert_array_equal(taken.counts[1:], counts)

    def test_balance_1_weighs_classes_alike(self):
        taken = self.take(*drawn(23), balance=1.0)
        np.testing.assert_allclose(taken.weight, 1 / 30)

    def test_a_class_with_few_pixels_gives_all_it_has(self):
        maps, target = drawn(24)
        target[target == 3] = 1
        target[1, 1, 1] = 3
        taken = self.take(maps, target)
        np.testing.assert_array_equal(taken.maps[taken.target == 3], [maps[:, 1, :, 1, 1]])

    def test_maps_and_target_belong_together(self):
        _, target = drawn(25)
        maps = np.stack([member(np.random.default_rng(0), target, 50)] * 2)
        taken = self.take(maps, target)
        np.testing.assert_array_equal(
            taken.maps.argmax(axis=2), np.stack([taken.target] * 2, axis=1)
        )

    def test_every_pixel_is_as_likely(self):
        maps, target = drawn(26, images=2)
        target[:] = 1
        maps[0, :, 0] = np.arange(128).reshape(2, 8, 8)
        one_class = {"classes": 2, "ignore": 0, "pixels": 16}
        cut = [TrainingBlock(maps[:, p : p + 1], target[p : p + 1]) for p in range(2)]
        taken = [draw_pixels(cut, **one_class, seed=s).maps[:, 0, 0] for s in range(400)]
        assert {len(np.unique(t)) for t in taken} == {16}
        times = np.bincount(np.concatenate(taken).astype(int), minlength=128)
        # 50 expected of each; 6 standard deviations off would be 10 to 90.
        assert times.min() > 10
        assert times.max() < 90

    @pytest.mark.parametrize("fill", [IGNORE, UNLABELLED])
    @pytest.mark.parametrize("name", LEARNED)
    def test_no_scored_pixel_is_refused(self, name, fill):
        maps, target = drawn(27)
        with pytest.raises(BadData, match="target to fit on has no scored pixel"):
            fitted(name, maps, np.full_like(target, fill))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "stackin",
            "unknown fusion strategy 'stackin'; known: evidence, gate, geometric_mean, greedy",
        ),
        ("stacking(l2=0)", "option 'l2' got 0; expected greater than 0"),
        ("stacking(sample_pixels=0)", "expected greater than or equal to 1"),
        ("geometric_mean(floor=2)", "expected less than 1"),
        ("geometric_mean(floor=1e-50)", "expected greater than or equal to 0.000000000001"),
        ("per_class_vote(votes=loud)", "option 'votes' got loud; expected 'soft' or 'hard'"),
        ("majority_vote(ties=coin)", "option 'ties' got coin; expected 'mean_probability', 'first"),
        ("power_mean(exponent=0)", "expected greater than or equal to 1"),
        ("log_odds(floor=0.5)", "expected less than 0.5"),
        ("greedy(bag_share=0)", "expected greater than 0"),
        ("simple(alpha=-1)", "expected greater than or equal to 0"),
        ("mean(weights=[1])", "has no option 'weights'"),
    ],
)
def test_refuses_what_is_no_spec(spec, words):
    with pytest.raises(BadSpec) as caught:
        built(spec, 3)
    assert words in str(caught.value)


# To those that look around, what is said of a pixel counts for its neighbours.
@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - NEEDS_CONTEXT))
@few
@given(seed=seeds)
def test_learns_nothing_from_pixels_that_are_not_scored(name, seed):
    maps, target = drawn(seed)
    unscored = (target == IGNORE) | (target == UNLABELLED)
    noise = member(np.random.default_rng(seed + 1), target, -5)
    changed = np.where(unscored[:, None], noise, maps)
    assert_same_fusion(fitted(name, maps, target), fitted(name, changed, target))
