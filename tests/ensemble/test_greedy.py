"""Greedy selection, against a brute force that counts every pixel again for every candidate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from ensemble.fusion import TrainingBlock
from ensemble.strategies import STRATEGIES

CLASSES, IGNORE, UNLABELLED = 4, 0, 255
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=8, deadline=None)


def drawn(seed, skills, images=4):
    rng = np.random.default_rng(seed)
    target = rng.choice(CLASSES, p=[0.2, 0.5, 0.2, 0.1], size=(images, 8, 8))
    target[0, 0, :4] = range(CLASSES)
    target[0, 1, :3] = UNLABELLED
    leaning = (target[:, None] == np.arange(CLASSES)[:, None, None]) * 1.0
    maps = [softmax(s * leaning + rng.normal(size=leaning.shape), axis=1) for s in skills]
    return np.stack(maps).astype(np.float32), target


def weights_of(options, maps, target):
    strategy = STRATEGIES.build(f"greedy({options})", classes=CLASSES, ignore=IGNORE, seed=0)
    return strategy.fit([TrainingBlock(maps, target)]).weights


def masked_miou(pooled, target):
    kept = (target != IGNORE) & (target != UNLABELLED)
    pred, true = pooled.argmax(axis=1)[kept], target[kept]
    ious = [
        ((pred == k) & (true == k)).sum() / ((pred == k) | (true == k)).sum()
        for k in range(CLASSES)
        if k != IGNORE and ((pred == k) | (true == k)).any()
    ]
    return np.mean(ious)


def by_hand(maps, target, rounds):
    """Add members one by one, and return the share of each in the best set met on the way."""
    chosen, found = [], []
    for _ in range(rounds):
        scores = [
            masked_miou(maps[[*chosen, m]].astype(float).sum(axis=0), target)
            for m in range(len(maps))
        ]
        best = np.flatnonzero(np.isclose(scores, max(scores), rtol=1e-12))
        used = [m for m in best if m in chosen]
        chosen = [*chosen, min(used or best)]
        found.append((scores[chosen[-1]], list(chosen)))
    score = max(score for score, _ in found)
    first = next(chosen for s, chosen in found if s >= score - 1e-12)
    return np.bincount(first, minlength=len(maps)) / len(first)


@few
@given(seed=seeds, members=st.integers(1, 4), rounds=st.integers(1, 8))
def test_chooses_what_a_brute_force_chooses(seed, members, rounds):
    maps, target = drawn(seed, [1.0] * members)
    found = weights_of(f"bags=0, rounds={rounds}", maps, target)
    np.testing.assert_allclose(found, by_hand(maps, target, rounds), rtol=1e-6)


@few
@given(seed=seeds, bags=st.integers(0, 5))
def test_is_never_below_the_best_member_on_what_it_learned_from(seed, bags):
    maps, target = drawn(seed, [0.2, 1.5, 0.5, 0.2])
    weights = weights_of(f"bags={bags}, rounds=5", maps, target)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    pooled = np.tensordot(weights, maps, axes=1)
    assert masked_miou(pooled, target) >= max(masked_miou(one, target) for one in maps) - 1e-9


def test_more_rounds_never_lower_the_score():
    maps, target = drawn(1, [1, 1, 1, 0.8])
    scores = [
        masked_miou(np.tensordot(weights_of(f"bags=0, rounds={r}", maps, target), maps, 1), target)
        for r in (1, 2, 4, 8, 16)
    ]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0]


def test_of_two_that_are_the_same_only_the_one_used_already_is_used():
    maps, target = drawn(2, [1, 1, 1])
    maps[2] = maps[0]
    weights = weights_of("bags=0, rounds=8", maps, target)
    assert weights[0] > 0
    assert weights[2] == 0


def test_a_bag_of_everybody_is_no_bag():
    maps, target = drawn(3, [1, 0.8, 0.6])
    np.testing.assert_array_equal(
        weights_of("bags=3, bag_share=1", maps, target), weights_of("bags=0", maps, target)
    )


def test_bags_ask_more_members():
    maps, target = drawn(4, [0.8] * 8)
    asked = [np.count_nonzero(weights_of(f"bags={b}, rounds=3", maps, target)) for b in (0, 20)]
    assert asked[1] > asked[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_of_as_many_of_each_class_scores_as_all_pixels_do(seed):
    # Member 0 names the rare class too often. Of the sample that class is a third: were it not
    # weighed back, its false alarms would look fewer than they are, and member 0 the better.
    maps, target = drawn(seed, [2, 1.5], images=40)
    maps[0, :, 3] *= 4
    maps[0] /= maps[0].sum(axis=1, keepdims=True)
    assert masked_miou(maps[1], target) > masked_miou(maps[0], target) + 0.02
    weights = weights_of("bags=0, rounds=1, sample_pixels=750", maps, target)
    np.testing.assert_array_equal(weights, [0, 1])
