"""Sets of several sizes: every function of the Python API gives what each size gives alone."""

import numpy as np
import pytest
from PIL import Image

import ensemble as ens
from ensemble.block_fusion import TrainingBlocks, cross_fit
from ensemble.fusion import LearnedFusion, fuse_block
from ensemble.pipeline.scoring.metrics import measure_files
from ensemble.strategies import STRATEGIES
from ensemble.strategy import build_strategy
from evaluation.core.errors import BadData, BadMaps, BadSpec
from evaluation.core.label_options import LabelOptions
from evaluation.core.ragged import Ragged, stack_images
from members.maps import ArrayMaps
from postproc.steps import STEPS

CLASSES = 3
SIZES = [(12, 20), (12, 20), (17, 9), (12, 20), (24, 24), (17, 9)]
GROUPS = {size: [i for i, s in enumerate(SIZES) if s == size] for size in dict.fromkeys(SIZES)}
WITH_IMAGES = ("stacking(intensity=true)", "stacking_conv(intensity=true, steps=20)")
CALIBRATED = ("mean(calibrate=temperature)", "stacking(calibrate=isotonic)")
OPTIONS = {
    "remove_small": "remove_small(min_area_px=5)",
    "threshold": "threshold(at=[0.2, 0.3, 0.5])",
}
CHAINS = ["", *(OPTIONS.get(name, name) for name in STEPS)]


def drawn(seed, *, accuracy=0.7):
    """Draw maps of one member, of the same targets for every seed."""
    rng, maps = np.random.default_rng(seed), []
    for target in targets():
        blocky = np.kron(rng.random((8, 8)) > accuracy, np.ones((3, 3), bool))
        wrong = blocky[: target.shape[0], : target.shape[1]]
        pred = np.where(wrong, (target + 1) % CLASSES, target)
        each = np.eye(CLASSES, dtype=np.float32)[pred].transpose(2, 0, 1)
        each += rng.random(each.shape, dtype=np.float32)
        maps.append(each / each.sum(axis=0))
    return maps


def targets():
    rng = np.random.default_rng(5)
    blocks = [np.kron(rng.integers(0, CLASSES, (6, 6)), np.ones((4, 4), int)) for _ in SIZES]
    return [b[:rows, :cols].astype(np.uint8) for b, (rows, cols) in zip(blocks, SIZES, strict=True)]


def images():
    rng = np.random.default_rng(6)
    return [rng.integers(0, 255, size, dtype=np.uint8) for size in SIZES]


MEMBERS = [drawn(seed) for seed in range(3)]
TARGET, IMAGE = targets(), images()


def learns(spec):
    kinds = ("probabilities",) * len(MEMBERS)
    built = build_strategy(spec, classes=CLASSES, ignore=0, kinds=kinds, floor=1e-6, seed=0)
    return isinstance(built, LearnedFusion)


def alone(function, *lists, **keywords):
    """Call a function for the images of each size and return the images in order."""
    results = [None] * len(SIZES)
    for indices in GROUPS.values():
        part = function(*([each[i] for i in indices] for each in lists), **keywords)
        for index, image in zip(indices, part, strict=True):
            results[index] = image
    return results


def check_equal(together, one_by_one):
    assert len(together) == len(one_by_one) == len(SIZES)
    for image, expected in zip(together, one_by_one, strict=True):
        assert np.isfinite(image).all()
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(
    "spec",
    [*STRATEGIES, *CALIBRATED, *WITH_IMAGES],
)
def test_fusions_give_what_each_size_gives(spec):
    with_images = spec in WITH_IMAGES
    fitting = {}
    if learns(spec):
        fitting = {"fit_maps": [drawn(seed) for seed in (7, 8, 9)], "fit_target": TARGET}
        fitting |= {"fit_images": IMAGE} if with_images else {}

    def fuse(*maps, images=None):
        given = {"images": images} if with_images else {}
        return ens.fuse(list(maps), spec, ignore=0, **fitting, **given)

    together = fuse(*MEMBERS, images=IMAGE)
    assert isinstance(together, Ragged)
    one_by_one = alone(lambda images, *maps: fuse(*maps, images=images), IMAGE, *MEMBERS)
    check_equal(together, one_by_one)


@pytest.mark.parametrize("step", CHAINS)
def test_chains_give_what_each_size_gives(step):
    fitting = {"fit_maps": drawn(7), "fit_target": TARGET} if step == "class_bias" else {}

    def label(maps, images):
        return ens.postprocess(maps, step, images=images, ignore=0, **fitting)

    check_equal(label(MEMBERS[0], IMAGE), alone(label, MEMBERS[0], IMAGE))


def test_scores_are_those_of_each_size_added():
    pred = ens.postprocess(MEMBERS[0])
    result = ens.score(TARGET, pred, classes=CLASSES, ignore=0)
    parts = alone(
        lambda target, labels: ens.score(target, labels, classes=CLASSES, ignore=0).counts,
        TARGET,
        list(pred),
    )
    np.testing.assert_array_equal(result.counts, parts)
    assert result.miou == ens.score(TARGET, MEMBERS[0], classes=CLASSES, ignore=0).miou


def test_candidates_are_compared_and_audited_on_several_sizes():
    preds = {name: ens.postprocess(maps) for name, maps in zip("ab", MEMBERS[:2], strict=True)}
    board = ens.compare(TARGET, preds, classes=CLASSES, ignore=0)
    frame = board.to_frame()
    audit = ens.audit(TARGET, preds["a"], preds["b"], classes=CLASSES, ignore=0)
    scores = {n: ens.score(TARGET, p, classes=CLASSES, ignore=0).miou for n, p in preds.items()}
    for name, miou in scores.items():
        assert frame.loc[name, "score"] == pytest.approx(miou)
    gain = audit.gains["masked"]
    assert gain.pixels + gain.denominator == pytest.approx(scores["b"] - scores["a"])


def test_folders_are_read_file_by_file_and_written_by_name(tmp_path):
    for number, maps in enumerate(MEMBERS):
        (tmp_path / str(number)).mkdir()
        for index, each in enumerate(maps):
            np.save(tmp_path / str(number) / f"n{index}_probs.npy", each)
    folders = [tmp_path / str(number) for number in range(3)]
    fused = ens.fuse(folders, out=tmp_path / "fused")
    check_equal(fused, list(ens.fuse(MEMBERS)))
    check_equal(fused[:], list(ens.fuse(MEMBERS)))
    labels = ens.postprocess(tmp_path / "fused", out=tmp_path / "labels")
    check_equal(labels, list(ens.postprocess(ens.fuse(MEMBERS))))
    names = sorted(file.name for file in (tmp_path / "labels").iterdir())
    assert names == [f"n{index}.png" for index in range(len(SIZES))]


def test_one_file_takes_one_size(tmp_path):
    with pytest.raises(BadSpec, match=r"takes images of one size; .* name a folder instead"):
        ens.fuse(MEMBERS, out=tmp_path / "fused.npy")


def test_a_folder_that_holds_something_is_not_replaced(tmp_path):
    (tmp_path / "kept.txt").touch()
    with pytest.raises(BadSpec, match="exists and is not empty"):
        ens.fuse(MEMBERS, out=tmp_path)
    assert (tmp_path / "kept.txt").exists()


def test_folders_of_other_images_are_not_fused(tmp_path):
    for folder, names in (("a", "xy"), ("b", "xz")):
        (tmp_path / folder).mkdir()
        for name, maps in zip(names, MEMBERS[0], strict=False):
            np.save(tmp_path / folder / f"{name}.npy", maps)
    with pytest.raises(BadMaps, match=r"a lacks 1 of the 3 images .*first: 'z'"):
        ens.fuse([tmp_path / "a", tmp_path / "b"])


def test_images_may_be_in_colour_with_channels_last():
    colour = [np.stack([image, image // 2, 255 - image], axis=-1) for image in IMAGE]

    def label(maps, images):
        return ens.postprocess(maps, "crf(iterations=2)", images=images)

    check_equal(label(MEMBERS[0], colour), alone(label, MEMBERS[0], colour))


@pytest.mark.parametrize("folder", ["images", "fit_images", "fit_target"])
def test_folders_of_images_and_targets_have_the_names_of_the_maps(tmp_path, folder):
    arrays = {"maps": MEMBERS[0], "images": IMAGE, "fit_images": IMAGE, "fit_target": TARGET}
    for name, each in arrays.items():
        (tmp_path / name).mkdir()
        for index, array in enumerate(each):
            np.save(tmp_path / name / f"n{index + (name == folder)}.npy", array)
    paths = {name: tmp_path / name for name in arrays if name != "maps"}
    maps = [tmp_path / "maps"]
    with pytest.raises(BadData, match="hold files of different names"):
        ens.fuse(maps, "stacking(intensity=true)", fit_maps=maps, **paths)


def test_metrics_of_each_image_do_not_depend_on_the_others(tmp_path):
    for name, arrays in (("target", TARGET), ("pred", list(ens.postprocess(MEMBERS[0])))):
        for size, indices in (*GROUPS.items(), ("all", range(len(SIZES)))):
            folder = tmp_path / str(size) / name
            folder.mkdir(parents=True)
            for index in indices:
                Image.fromarray(arrays[index]).save(folder / f"n{index}.png")

    def measured(size):
        folder = tmp_path / str(size)
        files = folder / "target", folder / "pred", None
        labels = LabelOptions(CLASSES, ignore=0)
        (metrics,) = measure_files(*files, ["all"], labels=labels, per="image")[
            "candidates"
        ].values()
        return {name: list(m["each"].values()) for name, m in metrics.items() if "each" in m}

    together = measured("all")
    assert len(together) > 5
    for size, indices in GROUPS.items():
        for name, values in measured(size).items():
            assert values == [together[name][index] for index in indices], name


def test_logits_are_softmaxed_on_demand():
    logits = [np.log(maps) + 3 for maps in MEMBERS[0]]
    for image, expected in zip(ens.fuse([logits], logits=True), MEMBERS[0], strict=True):
        np.testing.assert_allclose(image, expected, atol=1e-5)
    with pytest.raises(BadMaps, match="nothing says which axis is that of the classes"):
        ens.fuse([np.zeros((2, 12, 20, 3), np.float32)], logits=True)
    with pytest.raises(BadMaps, match="holds probabilities, not logits"):
        ens.fuse(MEMBERS, logits=True)
    with pytest.raises(BadMaps, match=r"values go from .* if these are logits"):
        ens.fuse([logits])


@pytest.mark.parametrize("spec", ["stacking(calibrate=temperature)", "stacking_conv(steps=5)"])
def test_what_learns_is_fitted_without_a_fold_on_groups_of_several_sizes(spec):
    members = [ArrayMaps(str(i), stack_images(maps)) for i, maps in enumerate(MEMBERS)]
    groups = np.array(["a", "a", "b", "c", "c", "d"])
    blocks = TrainingBlocks(members, stack_images(TARGET), groups=groups)
    context = {"classes": CLASSES, "ignore": 0, "kinds": ("probabilities",) * 3, "seed": 0}
    strategy = build_strategy(spec, floor=1e-6, **context)
    for fusion in cross_fit(strategy, blocks, np.array([0, 0, 1, 0, 0, 1])):
        assert np.isfinite(
            fuse_block(fusion, np.stack([maps[0] for maps in MEMBERS])[:, None])
        ).all()
