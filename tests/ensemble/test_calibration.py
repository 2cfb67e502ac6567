import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.isotonic import IsotonicRegression

from ensemble.block_fusion import TrainingBlocks
from ensemble.calibration import CALIBRATORS
from ensemble.calibration.calibrated import calibrated, describe_calibration
from ensemble.cli.plain_files import fuse_files
from ensemble.fitted_json import load_fitted, save_fitted
from ensemble.fusion import CLASS_AXIS, LearnedFusion, TrainingBlock, some_members
from ensemble.strategies.means import Mean
from ensemble.strategy import build_strategy, check_strategy
from evaluation.core.errors import BadData, BadSpec
from evaluation.core.label_options import LabelOptions
from evaluation.reliability import expected_calibration_error, reliability
from members.maps import ArrayMaps

CLASSES, IGNORE, UNLABELLED = 4, 0, 255
SCORED = [1, 2, 3]
CONTEXT = {
    "classes": CLASSES,
    "ignore": IGNORE,
    "floor": 1e-6,
    "kinds": ("probabilities",) * 3,
    "seed": 0,
}


def drawn(seed, sharpness=1.0, images=20):
    """Members that are right as often as they say where `sharpness` is 1, and too sure above."""
    rng = np.random.default_rng(seed)
    shape = (images, CLASSES, 16, 16)
    logits = 1.5 * rng.normal(size=shape)
    odds = softmax(logits[:, SCORED], axis=1).cumsum(axis=1)
    target = 1 + (rng.random((images, 1, 16, 16)) > odds).sum(axis=1).clip(max=2)
    noise = [np.exp(rng.normal(size=(images, 1, 16, 16)) * 0.01) for _ in range(3)]
    maps = [softmax(sharpness * logits * part, axis=1) for part in noise]
    target[0, 0, :3] = IGNORE, UNLABELLED, IGNORE
    return np.stack(maps).astype(np.float32), target.astype(np.uint8)


def fitted(spec, maps, target, cuts=(slice(None),)):
    return build_strategy(spec, **CONTEXT).fit([TrainingBlock(maps[:, c], target[c]) for c in cuts])


def error(fused, target):
    return expected_calibration_error(reliability(fused, target, ignore=IGNORE))


def log_loss(fused, target):
    kept = np.isin(target, SCORED)
    said = np.moveaxis(fused, 1, -1)[kept][:, SCORED]
    said = said / said.sum(axis=1, keepdims=True)
    return -np.log(said[np.arange(len(said)), target[kept] - 1]).mean()


@pytest.mark.parametrize("at", ["pool", "members"])
@pytest.mark.parametrize("name", sorted(CALIBRATORS))
@pytest.mark.parametrize("strategy", ["mean", "stacking"])
class TestEveryCalibrator:
    """What holds for any calibrator behind any strategy, before or after it pools."""

    def spec(self, strategy, name, at):
        return f"{strategy}(calibrate={name}, calibrate_at={at})"

    def test_gives_probabilities_that_are_nearly_right(self, strategy, name, at):
        maps, target = drawn(0, sharpness=3)
        seen, unseen = slice(0, 10), slice(10, 20)
        fused = fitted(self.spec(strategy, name, at), maps[:, seen], target[seen])(maps[:, unseen])
        assert fused.dtype == np.float32
        np.testing.assert_allclose(fused.sum(axis=CLASS_AXIS), 1, atol=1e-5)
        before = error(maps[0, unseen], target[unseen])
        assert before > 0.15
        assert error(fused, target[unseen]) < 0.05

    def test_blocks_and_whole_agree(self, strategy, name, at):
        maps, target = drawn(1, sharpness=2)
        spec = self.spec(strategy, name, at)
        whole = fitted(spec, maps, target)
        parts = fitted(spec, maps, target, cuts=[slice(0, 7), slice(7, 20)])
        np.testing.assert_allclose(parts(maps), whole(maps), rtol=1e-5, atol=1e-7)
        halves = np.concatenate([whole(maps[:, :3]), whole(maps[:, 3:])])
        np.testing.assert_allclose(halves, whole(maps), rtol=1e-5)

    def test_comes_back_from_disk(self, strategy, name, at, tmp_path):
        maps, target = drawn(2)
        spec = self.spec(strategy, name, at)
        fusion = fitted(spec, maps, target)
        save_fitted(tmp_path / "fitted", spec, fusion, CONTEXT)
        back = load_fitted(tmp_path / "fitted").fusion
        assert type(back) is type(fusion)
        np.testing.assert_array_equal(back(maps), fusion(maps))


class TestTemperature:
    def test_finds_how_much_too_sure_the_maps_are(self):
        maps, target = drawn(3, sharpness=2.5, images=80)
        fusion = fitted("mean(calibrate=temperature)", maps[:1].repeat(3, axis=0), target)
        np.testing.assert_allclose(fusion.calibrator.temperature, 2.5, rtol=0.05)

    def test_changes_no_prediction(self):
        maps, target = drawn(4, sharpness=3)
        pooled = Mean()(maps)
        fused = fitted("mean(calibrate=temperature)", maps, target)(maps)
        np.testing.assert_array_equal(fused.argmax(axis=1), pooled.argmax(axis=1))

    def test_what_is_0_stays_0(self):
        maps, target = drawn(5)
        fused = fitted("stacking(calibrate=temperature)", maps, target)(maps)
        np.testing.assert_array_equal(fused[:, IGNORE], 0)

    def test_no_other_temperature_has_a_lower_log_loss(self):
        maps, target = drawn(6, sharpness=2)
        fusion = fitted("mean(calibrate=temperature)", maps, target)
        best = log_loss(fusion(maps), target)
        for factor in (0.95, 1.05):
            other = dataclasses.replace(
                fusion.calibrator, temperature=fusion.calibrator.temperature * factor
            )
            assert log_loss(dataclasses.replace(fusion, calibrator=other)(maps), target) > best


@pytest.mark.parametrize("name", ["vector", "isotonic"])
def test_the_ignored_class_keeps_what_it_had(name):
    maps, target = drawn(7, sharpness=2)
    pooled = Mean()(maps)
    fused = fitted(f"mean(calibrate={name})", maps, target)(maps)
    np.testing.assert_allclose(fused[:, IGNORE], pooled[:, IGNORE], rtol=1e-4)


def test_vector_takes_back_a_class_that_is_named_too_often():
    maps, target = drawn(8)
    maps = maps * np.array([1, 1, 1, 8], np.float32)[:, None, None]
    maps /= maps.sum(axis=2, keepdims=True)
    often = (Mean()(maps).argmax(axis=1) == 3).mean()
    fused = fitted("mean(calibrate=vector)", maps, target)(maps)
    assert often > 0.5
    assert (fused[:, SCORED].argmax(axis=1) == 2).mean() < 0.4


def test_isotonic_is_the_curve_of_scikit_learn():
    maps, target = drawn(9, sharpness=2)
    calibrator = fitted("mean(calibrate=isotonic)", maps, target).calibrator
    pooled, kept = Mean()(maps), np.isin(target, SCORED)
    said = np.moveaxis(pooled, 1, -1)[kept][:, SCORED].astype(float)
    said /= said.sum(axis=1, keepdims=True)
    curves = [
        IsotonicRegression(out_of_bounds="clip").fit(said[:, k], target[kept] == label)
        for k, label in enumerate(SCORED)
    ]
    rows = np.stack([curve.predict(said[:, k]) for k, curve in enumerate(curves)], axis=1)
    rows = np.maximum(rows, 1e-6)
    ours = np.moveaxis(calibrator(pooled[None]), 1, -1)[kept][:, SCORED]
    ours /= ours.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, rows / rows.sum(axis=1, keepdims=True), atol=1e-3)


def test_a_calibrator_does_not_learn_from_what_its_strategy_learned_from():
    # Members that say nothing, and trees that know their few pixels by heart.
    rng = np.random.default_rng(0)
    maps = np.moveaxis(rng.dirichlet(np.ones(CLASSES), (3, 10, 6, 6)), -1, 2).astype(np.float32)
    target = rng.integers(1, CLASSES, (10, 6, 6))
    spec = "stacking_boosted(rounds=15, rate=1.0, calibrate=temperature)"
    fusion = fitted(spec, maps, target)
    seen = np.moveaxis(fusion.inner(maps), 1, -1).max(axis=-1).mean()
    assert seen > 0.7
    assert fusion(maps).max(axis=1).mean() < 0.5


def test_too_few_images_are_refused():
    maps, target = drawn(10, images=4)
    with pytest.raises(BadData, match=r"^4 images with target .* needs 5 or more: add images"):
        fitted("stacking(calibrate=vector)", maps, target)


def test_every_fifth_image_that_has_target_is_kept_for_the_calibrator():
    maps, target = drawn(11, images=25)
    target[np.arange(25) % 5 == 4] = UNLABELLED
    fused = fitted("stacking(calibrate=vector)", maps, target)(maps)
    assert np.isfinite(fused).all()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mean(calibrate=temprature)", "unknown calibrator 'temprature'; known: isotonic, temp"),
        ("mean(calibrate=vector(l=1))", "calibrator 'vector' has no option 'l'; known: floor"),
        ("mean(calibrate=vector, calibrate_at=end)", "got end; expected pool or members"),
        ("mean(calibrate_at=pool)", "has calibrate_at without calibrate; add calibrate=NAME"),
        ("meen(calibrate=vector)", "unknown fusion strategy 'meen'"),
        ("mean(calibrate=[1])", "cannot read spec '[1]'"),
    ],
)
def test_refuses_what_is_no_spec(spec, words):
    with pytest.raises(BadSpec) as caught:
        check_strategy(spec)
    assert words in str(caught.value)


def numbered_blocks(groups, target):
    """Blocks of one member whose probability of class 1 is the image's number in percent."""
    maps = np.zeros((len(target), CLASSES, 4, 4), np.float32)
    maps[:, 1] = np.arange(len(target))[:, None, None] / 100
    maps[:, 2] = 1 - maps[:, 1]
    return TrainingBlocks([ArrayMaps("numbers", maps)], target, size=7, groups=groups)


def split(blocks):
    """Return the images that the first strategy, the calibrator and the last strategy saw."""
    strategies, calibrators = [], []

    def fit(given):
        known = [(block.target != UNLABELLED).any(axis=(1, 2)) for block in given]
        strategies.append(np.flatnonzero(np.concatenate(known)))
        return Mean()

    def learn(drawn):
        calibrators.append(np.unique(np.rint(100 * drawn.maps[:, 0, 1]).astype(int)))
        return Mean()

    both = {"classes": CLASSES, "ignore": IGNORE, "seed": 0, "stage": "pool"}
    calibrated(LearnedFusion(fit), learn, **both).fit(blocks)
    first, last = strategies
    return first, calibrators[0], last


@pytest.mark.parametrize("sizes", [[4] * 10, [1, 20, 2, 9, 8], [39, 1]])
def test_no_group_teaches_both_a_strategy_and_its_calibrator(sizes):
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([f"g{place}" for place in range(len(sizes))], sizes))
    target = rng.integers(1, CLASSES, (40, 4, 4)).astype(np.uint8)
    target[[3, 17]] = UNLABELLED
    first, held_out, last = split(numbered_blocks(groups, target))
    assert len(first)
    assert len(held_out)
    assert not set(groups[first]) & set(groups[held_out])
    labelled = sorted(set(range(40)) - {3, 17})
    np.testing.assert_array_equal(np.sort(np.concatenate([first, held_out])), labelled)
    np.testing.assert_array_equal(last, labelled)


def test_without_groups_a_calibrator_learns_from_every_fifth_image_with_target():
    target = np.ones((20, 4, 4), np.uint8)
    target[0] = UNLABELLED
    first, held_out, _ = split(numbered_blocks(None, target))
    np.testing.assert_array_equal(held_out, [5, 10, 15])
    assert len(first) == 16


def test_a_strategy_that_learns_is_not_calibrated_on_a_single_group():
    blocks = numbered_blocks(np.array(["here"] * 20), np.ones((20, 4, 4), np.uint8))
    with pytest.raises(BadData, match="1 group of images with target to fit on; calibrating a"):
        split(blocks)


def test_specialists_are_not_calibrated_one_by_one():
    context = CONTEXT | {"kinds": ("probabilities", "one_vs_rest", "one_vs_rest")}
    spec = "per_class_vote(calibrate=vector, calibrate_at=members)"
    with pytest.raises(BadSpec, match="specialists have no map to calibrate one by one"):
        build_strategy(spec, **context)


def written(folder, maps, target):
    paths = [folder / f"{place}.npy" for place in range(len(maps))]
    for path, one in zip(paths, maps, strict=True):
        np.save(path, one)
    np.save(folder / "target.npy", target)
    return paths


def fused_files(folder, maps, target, spec, **options):
    paths = written(folder, maps, target)
    return fuse_files(
        paths,
        spec,
        out=folder / "out.npy",
        fit_maps=paths,
        fit_target=folder / "target.npy",
        labels=LabelOptions(ignore=IGNORE),
        seed=0,
        **options,
    )


def test_files_say_the_error_before_and_after_of_what_was_fitted_on_the_other_half(tmp_path):
    maps, target = drawn(12, sharpness=3)
    found = fused_files(tmp_path, maps, target, "mean(calibrate=temperature)")["calibration"]
    pooled = Mean()(maps)
    assert found["before"] == pytest.approx(error(pooled, target))
    halves = [np.arange(20) % 2 == half for half in (0, 1)]
    after = np.empty_like(pooled)
    for one, other in (halves, halves[::-1]):
        learnt = fitted("mean(calibrate=temperature)", maps[:, one], target[one])
        after[other] = learnt(maps[:, other])
    assert found["after"] == pytest.approx(error(after, target), abs=1e-3)
    assert found["pixels"] == np.isin(target, SCORED).sum()


def test_files_say_where_half_of_the_images_are_too_few_to_measure(tmp_path):
    maps, target = drawn(13, images=6)
    found = fused_files(tmp_path, maps, target, "stacking(calibrate=temperature)")["calibration"]
    assert "3 images with target to fit on" in found["not_measured"]
    assert describe_calibration(found).startswith("calibration error not measured: 3 images")


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        ("mean(calibrate=temperature, calibrate_at=members)", True),
        ("stacking(calibrate=temperature)", True),
        ("stacking(calibrate=temperature, calibrate_at=members)", False),
    ],
)
def test_what_learned_from_calibrated_maps_has_no_error_before(tmp_path, spec, known):
    found = fused_files(tmp_path, *drawn(15, sharpness=3), spec)["calibration"]
    assert (found["before"] is not None) == known
    assert ("error unknown before" in describe_calibration(found)) == (not known)
    assert describe_calibration(found).endswith(f"{found['after']:.4f} after")
    assert found["pixels"] > 0


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        ("stacking(intensity=True)", {}, "needs images; give --images and --fit-images"),
        ("stacking", {"images": Path("target.npy")}, "uses no images; leave --images and"),
    ],
)
def test_files_and_images_go_together(tmp_path, spec, options, words):
    with pytest.raises(BadSpec, match=words):
        fused_files(tmp_path, *drawn(14), spec, **options)


@pytest.mark.parametrize("at", ["pool", "members"])
def test_images_that_a_member_lacks_are_calibrated_as_all_others(at):
    """Renormalised, the fusion of some members is that of a run that never had the others."""
    maps, target = drawn(0, sharpness=3)
    fusion = fitted(f"mean(calibrate=temperature, calibrate_at={at})", maps, target)
    some = some_members(fusion, (0, 2))
    assert not some.needs_images
    if at == "pool":
        expected = fusion.calibrator(maps[[0, 2]].mean(axis=0)[None])
    else:
        parts = [fusion.calibrators[m](maps[m][None]) for m in (0, 2)]
        expected = np.mean(parts, axis=0)
    np.testing.assert_allclose(some(maps[[0, 2]]), expected, atol=1e-6)


def test_a_fusion_of_all_members_alone_takes_no_part_of_them():
    maps, target = drawn(0)
    with pytest.raises(BadSpec, match="is defined for all of its members only"):
        some_members(fitted("stacking", maps, target), (0, 2))
