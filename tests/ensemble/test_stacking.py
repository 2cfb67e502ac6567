import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier

from ensemble.block_fusion import FusionPerImage, TrainingBlocks, fuse
from ensemble.fusion import (
    CLASS_AXIS,
    TrainingBlock,
    fuse_block,
    needs_images,
)
from ensemble.pixel_context import ContextFeatures
from ensemble.sampling import draw_images, draw_pixels
from ensemble.strategies import STRATEGIES
from ensemble.strategies.stacking_boosted import BINS, compile_trees, round_on_logit_grid
from evaluation.core.errors import BadData
from members.maps import ArrayMaps

CLASSES, IGNORE = 4, 0
CONTEXT = {
    "classes": CLASSES,
    "ignore": IGNORE,
    "floor": 1e-4,
    "kinds": ("probabilities",) * 3,
    "seed": 0,
}
STACKERS = [
    "stacking(objective=log_loss)",
    "stacking_boosted",
    "stacking_conv(steps=200, width=8, objective=log_loss)",
]
LOOKING = [
    "stacking(neighbours=1, intensity=True, objective=log_loss)",
    "stacking_boosted(rounds=2, neighbours=1, intensity=True)",
    "stacking_conv(steps=2, width=4, intensity=True, objective=log_loss)",
]


def drawn(seed, images=10, skills=(1.0, 1.0, 1.0), side=16):
    """Blobs of classes, maps with noise of their own at each pixel, and grey values by class."""
    rng = np.random.default_rng(seed)
    fields = gaussian_filter(rng.normal(size=(images, 3, side, side)), (0, 0, 2, 2))
    target = 1 + fields.argmax(axis=1)
    leaning = target[:, None] == np.arange(CLASSES)[:, None, None]
    maps = [softmax(s * leaning + rng.normal(size=leaning.shape), axis=1) for s in skills]
    shades = np.array([0, 60, 120, 180])[target] + rng.integers(0, 50, target.shape)
    return TrainingBlock(
        np.stack(maps).astype(np.float32), target.astype(np.uint8), shades[:, None].astype(np.uint8)
    )


def fitted(spec, *blocks, **context):
    return STRATEGIES.build(spec, **CONTEXT | context).fit(list(blocks))


def part(block, cut):
    return TrainingBlock(block.maps[:, cut], block.target[cut], block.images[cut])


def right(fused, target):
    return (fused.argmax(axis=1) == target).mean()


@pytest.mark.parametrize("spec", STACKERS)
class TestEveryStacker:
    @pytest.mark.slow
    def test_is_as_good_as_the_one_good_member(self, spec):
        learnt, other = (drawn(s, images=20, skills=(0.3, 4, 0.3)) for s in (0, 1))
        fused = fitted(spec, learnt)(other.maps)
        assert right(fused, other.target) >= right(other.maps[1], other.target) - 0.004

    def test_refuses_a_scored_class_without_a_pixel(self, spec):
        block = drawn(2)
        block.target[block.target == 2] = 1
        name = spec.partition("(")[0]
        with pytest.raises(BadData, match=f"no pixel of class 2; {name} needs some"):
            fitted(spec, block)

    def test_the_ignored_class_gets_probability_0(self, spec):
        block = drawn(3)
        np.testing.assert_array_equal(fitted(spec, block)(block.maps)[:, IGNORE], 0)


@pytest.mark.parametrize("spec", LOOKING)
class TestWhatLooksAtImages:
    def test_gives_probabilities_and_the_same_in_blocks_as_in_the_whole(self, spec):
        block = drawn(4)
        fusion = fitted(spec, block)
        whole = fuse_block(fusion, block.maps, block.images)
        np.testing.assert_allclose(whole.sum(axis=CLASS_AXIS), 1, atol=1e-5)
        parts = [part(block, cut) for cut in (slice(0, 3), slice(3, 10))]
        found = [fuse_block(fusion, one.maps, one.images) for one in parts]
        np.testing.assert_allclose(np.concatenate(found), whole, rtol=1e-5)
        again = fitted(spec, *parts)
        np.testing.assert_allclose(
            fuse_block(again, block.maps, block.images), whole, rtol=1e-4, atol=1e-6
        )

    def test_a_stream_gives_what_arrays_in_memory_give(self, spec):
        block = drawn(5)
        members = [ArrayMaps(f"{m}", one) for m, one in enumerate(block.maps)]
        blocks = TrainingBlocks(members, block.target, size=4, images=block.images)
        fusion = STRATEGIES.build(spec, **CONTEXT).fit(blocks)
        cross = FusionPerImage([fusion, fusion], np.arange(10) % 2)
        for each in (fusion, cross):
            out = np.zeros(block.maps.shape[1:], np.float32)
            fuse(members, each, out.__setitem__, images=block.images, size=4)
            expected = fuse_block(fitted(spec, block), block.maps, block.images)
            np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-6)

    def test_says_that_it_needs_them(self, spec):
        block = drawn(6)
        assert STRATEGIES.build(spec, **CONTEXT).needs_images
        with pytest.raises(BadData, match="needs images; give them too"):
            fitted(spec, block._replace(images=None))
        fusion = fitted(spec, block)
        assert needs_images(fusion)
        with pytest.raises(BadData, match="needs images; give them with the maps"):
            fuse_block(fusion, block.maps)

    def test_the_image_makes_it_better(self, spec):
        learnt, other = drawn(7, skills=(0.5,) * 3), drawn(8, skills=(0.5,) * 3)
        spec = spec.replace("rounds=2", "rounds=10").replace("steps=2", "steps=100")
        blind = fitted(spec.replace("intensity=True", "intensity=False"), learnt)(other.maps)
        seeing = fuse_block(fitted(spec, learnt), other.maps, other.images)
        assert right(seeing, other.target) > right(blind, other.target) + 0.03

    def test_images_that_do_not_fit_are_refused(self, spec):
        block = drawn(9)
        members = [ArrayMaps("a", one) for one in block.maps]
        with pytest.raises(BadData, match=r"uint8 \(9, 1, 16, 16\); expected .* float32 \(10,"):
            TrainingBlocks(members, block.target, images=block.images[:9])
        fusion = fitted(spec, block)
        with pytest.raises(BadData, match="images are float64"):
            fuse(members, fusion, lambda *_: None, images=block.images / 2)


def test_what_neighbours_say_makes_it_better():
    learnt, other = drawn(10, skills=(0.7,) * 3), drawn(11, skills=(0.7,) * 3)
    alone, among = (
        right(fitted(f"stacking(neighbours={r})", learnt)(other.maps), other.target) for r in (0, 2)
    )
    assert among > alone + 0.1
    network = fitted("stacking_conv(steps=100,objective=log_loss)", learnt)(other.maps)
    assert right(network, other.target) > alone + 0.1


class TestSurroundings:
    def test_are_the_means_over_the_square_and_the_grey_value(self):
        block = drawn(12)
        found = ContextFeatures(2, intensity=True, floor=1e-4).compute(block)
        padded = np.pad(block.maps.mean(axis=0), [(0, 0), (0, 0), (2, 2), (2, 2)], mode="edge")
        around = padded[:, :, 3:8, 0:5].mean(axis=(2, 3))
        np.testing.assert_allclose(found[:, :CLASSES, 3, 0], np.log(around), rtol=1e-4)
        np.testing.assert_allclose(found[:, 4], block.images[:, 0] / 255, rtol=1e-5)
        np.testing.assert_allclose(found[:, 5], (block.images[:, 0] / 255) ** 2, rtol=1e-5)

    def test_grey_is_the_mean_of_the_channels(self):
        block = drawn(13)
        three = np.concatenate([block.images // k for k in (1, 2, 4)], axis=1)
        found = ContextFeatures(0, intensity=True, floor=1e-4)(block.maps, three)
        np.testing.assert_allclose(found[:, 0], three.mean(axis=1) / 255, rtol=1e-5)

    def test_are_drawn_with_their_pixels(self):
        block = drawn(14)
        marked = block._replace(maps=np.tile(block.images / 1000, (3, 1, CLASSES, 1, 1)))
        taken = draw_pixels(
            [marked],
            classes=CLASSES,
            ignore=IGNORE,
            pixels=90,
            seed=0,
            extra_features=ContextFeatures(0, intensity=True, floor=1e-4).compute,
        )
        np.testing.assert_allclose(
            taken.extra_features[:, 0], taken.maps[:, 0, 0] * 1000 / 255, rtol=1e-5
        )


class TestTrees:
    @pytest.mark.parametrize("labels", [2, 3])
    def test_are_those_of_scikit_learn(self, labels):
        rng = np.random.default_rng(labels)
        rows = rng.normal(size=(2000, 5)).round(1).astype(np.float32)
        sums = rows[:, 0] + rows[:, 1] * rows[:, 2] + rng.normal(size=2000) / 3
        target = np.digitize(sums, [0.0, 1.0][: labels - 1])
        model = HistGradientBoostingClassifier(
            max_iter=12, max_leaf_nodes=8, early_stopping=False
        ).fit(rows, target)
        start = model._baseline_prediction.ravel()
        trees = compile_trees(model._predictors, len(start))
        found = trees.predict(np.ascontiguousarray(rows.T)).T + start
        odds = softmax(np.pad(found, [(0, 0), (labels - found.shape[1], 0)]), axis=1)
        np.testing.assert_allclose(odds, model.predict_proba(rows), atol=1e-5)

    @pytest.mark.parametrize("ignore", [0, None])
    def test_a_fusion_predicts_what_scikit_learn_does(self, ignore):
        block = drawn(15)
        block.target[0, 0, :2] = 0, 0
        taken = draw_pixels([block], classes=CLASSES, ignore=ignore, pixels=100_000, seed=0)
        model = HistGradientBoostingClassifier(
            max_iter=5, max_leaf_nodes=8, max_bins=BINS, early_stopping=False, random_state=0
        )
        rows = round_on_logit_grid(taken.maps).reshape(len(taken.target), -1)
        model.fit(rows, taken.target, taken.weight * len(taken.target))
        fused = fitted("stacking_boosted(rounds=5)", block, ignore=ignore)(block.maps)
        every = np.moveaxis(block.maps, (0, 2), (-2, -1)).reshape(-1, 3 * CLASSES)
        scored = [k for k in range(CLASSES) if k != ignore]
        ours = np.moveaxis(fused, 1, -1).reshape(-1, CLASSES)[:, scored]
        np.testing.assert_allclose(ours, model.predict_proba(every), atol=1e-5)


class TestImageSample:
    def draw(self, *blocks, pixels):
        return draw_images(
            blocks,
            lambda block: block.maps[0],
            classes=CLASSES,
            ignore=IGNORE,
            pixels=pixels,
            seed=0,
        )

    def test_is_the_same_in_blocks_as_in_the_whole(self):
        block = drawn(16, images=30)
        whole = self.draw(block, pixels=8 * 256)
        parts = self.draw(part(block, slice(0, 11)), part(block, slice(11, 30)), pixels=8 * 256)
        assert whole.features.shape == (8, CLASSES, 16, 16)
        np.testing.assert_array_equal(whole.features, parts.features)
        np.testing.assert_array_equal(whole.target, parts.target)

    def test_counts_all_images_and_takes_none_without_a_scored_pixel(self):
        block = drawn(17, images=6)
        block.target[:4] = 255
        block.target[4, 0] = IGNORE
        taken = self.draw(block, pixels=10**6)
        np.testing.assert_array_equal(taken.features, block.maps[0, 4:].astype(np.float16))
        assert (taken.target[0, 0] == 255).all()
        expected = [0, *(int((block.target[4:] == k).sum()) for k in (1, 2, 3))]
        assert taken.counts.tolist() == expected


def test_a_network_fuses_an_image_the_same_to_the_bit_wherever_it_stands():
    block = drawn(18)
    fusion = fitted("stacking_conv(steps=2)", block)
    whole = fusion(block.maps)
    for place in range(10):
        np.testing.assert_array_equal(fusion(block.maps[:, place : place + 1])[0], whole[place])


def test_a_network_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    fitted("stacking_conv(steps=2, width=2)", drawn(19))
    assert torch.rand(1) == expected
