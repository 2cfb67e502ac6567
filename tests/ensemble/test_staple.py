"""What goes by label maps alone: combinations of predictions, STAPLE and SIMPLE."""

import time
from collections import Counter

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

import ensemble.strategies.staple
import ensemble.vote_patterns
from ensemble.blas import one_blas_thread
from ensemble.fusion import TrainingBlock
from ensemble.strategies import STRATEGIES
from ensemble.vote_patterns import vote_patterns

UNLABELLED = 255
seeds = st.integers(0, 2**32 - 1)


def rated(seed, classes, rates, shape=(4, 16, 16)):
    """Labels by raters that are right at least as often as their rate says, and the target."""
    rng = np.random.default_rng(seed)
    images, rows, cols = shape
    target = rng.integers(0, classes, (images, rows // 4, cols // 4)).repeat(4, 1).repeat(4, 2)
    rates = np.reshape(rates, (-1, 1, 1, 1))
    noise = rng.integers(0, classes, (len(rates), *shape))
    return np.where(rng.random(noise.shape) < rates, target, noise), target


def as_maps(labels, classes):
    return np.ascontiguousarray(np.moveaxis(np.eye(classes, dtype=np.float32)[labels], -1, 2))


def fitted(spec, labels, target, classes, ignore=None):
    strategy = STRATEGIES.build(spec, classes=classes, ignore=ignore)
    return strategy.fit([TrainingBlock(as_maps(labels, classes), target)])


def fused(spec, labels, target, classes):
    return fitted(spec, labels, target, classes)(as_maps(labels, classes)).argmax(axis=1)


def by_simple_itk(images, shape):
    return SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(images)).reshape(shape)


def start_of_simple_itk(_, met, classes):
    """Start as SimpleITK 2.5 does: ties count for class 0, by the label after the prediction."""
    counts = np.zeros((len(met.labels), classes + 1, classes))
    votes = (met.labels[..., None] == np.arange(classes)).sum(axis=0)
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    for own, predicted in zip(counts, met.labels, strict=True):
        places = predicted.astype(int) + tied, np.where(tied, 0, votes.argmax(axis=1))
        np.add.at(own, places, met.counts)
    counts = counts[:, :classes]
    return counts / np.maximum(counts.sum(axis=2, keepdims=True), 1)


def as_images(labels):
    return [SimpleITK.GetImageFromArray(np.concatenate(one).astype(np.uint8)) for one in labels]


class TestCombinations:
    @settings(max_examples=10, deadline=None)
    @given(seed=seeds, cut=st.integers(0, 3), limit=st.sampled_from([2**63, 30]))
    def test_are_those_that_a_counter_finds_in_any_blocks(self, seed, cut, limit):
        labels, target = rated(seed, 3, [0.5] * 5, shape=(4, 8, 8))
        target[0, 0] = UNLABELLED
        maps = as_maps(labels, 3)
        kept = (target != 0) & (target != UNLABELLED)
        expected = Counter(map(tuple, labels[:, kept].T.tolist()))
        with pytest.MonkeyPatch.context() as patch:
            # A small limit is what many members do to a large one.
            patch.setattr(ensemble.vote_patterns, "MAX_CODE", limit)
            cuts = [slice(0, cut), slice(cut, 4)]
            met = vote_patterns(
                [TrainingBlock(maps[:, c], target[c]) for c in cuts], classes=3, ignore=0
            )
        assert dict(zip(map(tuple, met.labels.T.tolist()), met.counts, strict=True)) == expected
        assert sorted(expected) == list(map(tuple, met.labels.T.tolist()))

    def test_hold_with_so_many_members_that_no_integer_numbers_them(self):
        labels, target = rated(0, 4, [0.9] * 70, shape=(1, 8, 8))
        met = vote_patterns([TrainingBlock(as_maps(labels, 4), target)], classes=4, ignore=None)
        expected = Counter(map(tuple, labels.reshape(70, -1).T.tolist()))
        assert dict(zip(map(tuple, met.labels.T.tolist()), met.counts, strict=True)) == expected


class TestStaple:
    @settings(max_examples=15, deadline=None)
    @given(
        seed=seeds,
        classes=st.integers(2, 5),
        rates=st.lists(st.floats(0.4, 0.95), min_size=2, max_size=7),
    )
    def test_from_the_start_of_simple_itk_it_ends_where_that_does(self, seed, classes, rates):
        labels, target = rated(seed, classes, rates)
        theirs = by_simple_itk(as_images(labels), target.shape)
        decided = theirs <= labels.max()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ensemble.strategies.staple, "_from_majority", start_of_simple_itk)
            ours = fused("staple", labels, target, classes)
        # Both stop when no confusion changes by 1e-5; a pixel in the balance may go either way.
        assert (ours != theirs)[decided].sum() <= 1
        assert decided.mean() > 0.5

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("members", [3, 5, 8])
    def test_gives_the_label_maps_of_simple_itk(self, members, seed):
        rng = np.random.default_rng(seed)
        classes = int(rng.integers(2, 6))
        labels, target = rated(seed, classes, rng.uniform(0.6, 0.95, members))
        theirs = by_simple_itk(as_images(labels), target.shape)
        np.testing.assert_array_equal(fused("staple", labels, target, classes), theirs)

    def test_of_two_members_it_is_right_more_often_than_simple_itk_and_than_the_vote(self):
        right = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            classes = int(rng.integers(2, 6))
            labels, target = rated(seed, classes, rng.uniform(0.6, 0.95, 2))
            theirs = by_simple_itk(as_images(labels), target.shape)
            found = fused("staple", labels, target, classes), theirs, _voted(labels, classes)
            right.append([(one == target).mean() for one in found])
        ours, of_itk, voted = np.mean(right, axis=0)
        assert ours > voted + 0.01 > of_itk + 0.05

    @pytest.mark.slow
    def test_is_not_slower_than_simple_itk_on_24_images(self):
        labels, target = rated(0, 5, np.linspace(0.6, 0.95, 8), shape=(24, 64, 128))
        images, maps = as_images(labels), as_maps(labels, 5)
        strategy = STRATEGIES.build("staple", classes=5, ignore=None)
        theirs, ours = [], []
        with one_blas_thread():
            for _ in range(3):
                # Of the processor, for SimpleITK may run on several cores.
                start = time.process_time()
                expected = by_simple_itk(images, target.shape)
                middle = time.process_time()
                found = strategy.fit([TrainingBlock(maps, target)])(maps).argmax(axis=1)
                theirs.append(middle - start)
                ours.append(time.process_time() - middle)
        np.testing.assert_array_equal(found, expected)
        assert min(ours) < min(theirs)

    def test_one_good_member_outweighs_three_that_share_no_errors(self):
        labels, target = rated(1, 4, [0.9, 0.6, 0.6, 0.6], shape=(8, 16, 16))
        vote = _voted(labels, 4)
        assert (fused("staple", labels, target, 4) == target).mean() > (
            vote == target
        ).mean() + 0.01

    def test_mends_a_member_that_takes_one_class_for_another(self):
        labels, target = rated(2, 3, [0.95, 0.8, 0.8], shape=(8, 16, 16))
        labels[0] = np.where(labels[0] == 0, 0, 3 - labels[0])
        assert (labels[0] == target).mean() < 0.5
        confusion = np.exp(fitted("staple", labels, target, 3).evidence[:, 0])
        np.testing.assert_array_equal(confusion.argmax(axis=1), [0, 2, 1])

    def test_the_evidence_is_how_often_members_confuse_classes(self):
        labels, target = rated(3, 3, [0.9, 0.85, 0.8, 0.9], shape=(16, 32, 32))
        evidence = np.exp(fitted("staple", labels, target, 3).evidence)
        for k, m in np.ndindex(3, 4):
            counted = np.bincount(labels[m][target == k], minlength=3) / (target == k).sum()
            np.testing.assert_allclose(evidence[k, m], counted, atol=0.02)

    def test_a_class_that_was_never_met_is_believed_to_whoever_names_it(self):
        labels, target = rated(4, 3, [0.9, 0.8, 0.8])
        fusion = fitted("staple", labels, target, 4)
        new = as_maps(np.full((3, 1, 1, 1), 3), 4)
        assert fusion(new).argmax(axis=1).item() == 3

    def test_of_the_target_only_counts_which_pixels_are_scored(self):
        labels, target = rated(5, 3, [0.9, 0.8, 0.8])
        fusions = [fitted("staple", labels, t, 3, ignore=0) for t in (target, 1 * (target > 0))]
        np.testing.assert_array_equal(*(fusion.evidence for fusion in fusions))


def _voted(labels, classes):
    return STRATEGIES.build("majority_vote")(as_maps(labels, classes)).argmax(axis=1)


def simple_by_hand(labels, classes, alpha):
    """Drop members the slow way, on the label maps themselves."""
    kept, weights = set(range(len(labels))), np.ones(len(labels))
    while True:
        votes = sum(weights[m] * (labels[m][..., None] == np.arange(classes)) for m in sorted(kept))
        estimate = votes.argmax(axis=-1)
        for m, own in enumerate(labels):
            dice = [
                2
                * ((own == k) & (estimate == k)).sum()
                / ((own == k).sum() + (estimate == k).sum())
                for k in range(classes)
                if (own == k).any() or (estimate == k).any()
            ]
            weights[m] = np.mean(dice)
        among = weights[sorted(kept)]
        good = {m for m in kept if weights[m] >= among.mean() - alpha * among.std()}
        if len(good) < 3 or good == kept:
            return np.array([weights[m] if m in kept else 0 for m in range(len(labels))])
        kept = good


class TestSimple:
    @settings(max_examples=10, deadline=None)
    @given(
        seed=seeds,
        rates=st.lists(st.floats(0.3, 0.95), min_size=1, max_size=8),
        alpha=st.sampled_from([0, 1, 1.5]),
    )
    def test_keeps_those_and_weighs_them_as_a_count_by_hand(self, seed, rates, alpha):
        labels, target = rated(seed, 3, rates)
        weights = simple_by_hand(labels, 3, alpha)
        found = fitted(f"simple(alpha={alpha})", labels, target, 3).weights
        np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-5)

    def test_drops_the_wild_and_is_better_than_the_vote_of_all(self):
        labels, target = rated(6, 4, [0.9, 0.85, 0.1, 0.88, 0.9, 0.12])
        weights = fitted("simple", labels, target, 4).weights
        assert (weights[[2, 5]] == 0).all()
        assert np.count_nonzero(weights) >= 3
        ours = fused("simple", labels, target, 4)
        assert (ours == target).mean() > (_voted(labels, 4) == target).mean()

    def test_never_leaves_fewer_than_three_of_three_or_more(self):
        labels, target = rated(7, 4, [0.9, 0.5, 0.2])
        assert (fitted("simple(alpha=0)", labels, target, 4).weights > 0).all()

    def test_the_vote_is_a_share_of_the_weights(self):
        labels, target = rated(8, 3, [0.9, 0.8, 0.7, 0.6])
        fusion = fitted("simple", labels, target, 3)
        votes = np.einsum("m,mpchw->pchw", fusion.weights, as_maps(labels, 3))
        np.testing.assert_allclose(fusion(as_maps(labels, 3)), votes, rtol=1e-5, atol=1e-7)
