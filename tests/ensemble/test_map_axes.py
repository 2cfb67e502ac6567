"""Maps in plain files and arrays: classes last, and one channel of the foreground."""

import numpy as np
import pytest
import zarr

import ensemble as ens
from ensemble.cli import run_command
from evaluation.core.errors import BadMaps, EnsError

RNG = np.random.default_rng(5)
IMAGES, SIZE = 3, (6, 7)


def probabilities(classes):
    drawn = RNG.dirichlet(np.ones(classes), (IMAGES, *SIZE)).astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(drawn, -1, 1))


FIVE, TWO = [probabilities(5) for _ in range(2)], [probabilities(2) for _ in range(2)]
TARGET = RNG.integers(0, 2, (IMAGES, *SIZE)).astype(np.uint8)

AXES = {
    "classes first": lambda maps: maps,
    "classes last": lambda maps: np.moveaxis(maps, 1, -1),
    "one channel first": lambda maps: maps[:, 1:],
    "one channel last": lambda maps: np.moveaxis(maps[:, 1:], 1, -1),
    "no channel": lambda maps: maps[:, 1],
}


def as_array(path, maps):
    return maps


def as_list(path, maps):
    return list(maps)


def as_npy(path, maps):
    np.save(path.with_suffix(".npy"), maps)
    return path.with_suffix(".npy")


def as_named_npz(path, maps):
    order = [2, 0, 1]
    np.savez(path.with_suffix(".npz"), probs=maps[order], ids=[f"{i:05d}" for i in order])
    return path.with_suffix(".npz")


def as_folder(path, maps):
    path.mkdir()
    for index, image in enumerate(maps):
        np.save(path / f"{index:05d}.npy", image)
    return path


def as_zarr(path, maps):
    stored = zarr.create_array(path.with_suffix(".zarr"), shape=maps.shape, dtype=maps.dtype)
    stored[:] = maps
    return path.with_suffix(".zarr")


CARRIERS = [as_array, as_list, as_npy, as_named_npz, as_folder, as_zarr]


@pytest.mark.parametrize("carry", CARRIERS)
@pytest.mark.parametrize("axes", AXES)
def test_axes_of_maps_change_no_result(tmp_path, axes, carry):
    of_two = "channel" in axes
    maps = TWO if of_two else FIVE
    given = [carry(tmp_path / f"{i}", AXES[axes](each)) for i, each in enumerate(maps)]
    np.testing.assert_allclose(ens.fuse(given)[:], ens.fuse(maps), atol=1e-6)
    labels = ens.postprocess(given[0])
    np.testing.assert_array_equal(labels[:], maps[0].argmax(axis=1))
    score = [ens.score(TARGET, pred, classes=maps[0].shape[1]).iou for pred in (given[0], maps[0])]
    np.testing.assert_equal(score[0], score[1])


@pytest.mark.parametrize("axes", ["classes last", "one channel first", "no channel"])
def test_images_of_several_sizes_may_have_any_axes(tmp_path, axes):
    cut = [TWO[0][0], TWO[0][1][:, :4], TWO[0][2][:, :, :5]]
    expected = [image.argmax(axis=0) for image in cut]
    given = [AXES[axes](image[None])[0] for image in cut]
    for source in (given, as_folder(tmp_path / "maps", given)):
        for labels, image in zip(ens.postprocess(source), expected, strict=True):
            np.testing.assert_array_equal(labels, image)


@pytest.mark.parametrize("axes", AXES)
def test_logits_are_read_by_the_number_of_classes(axes):
    maps = TWO if "channel" in axes else FIVE
    logits = np.log(maps[0])
    if "channel" in axes:
        logits = logits - logits[:, :1]
    given = AXES[axes](logits)
    fused = ens.fuse([given], logits=True, classes=maps[0].shape[1])
    np.testing.assert_allclose(fused, maps[0], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 7, 6, 5), "`classes` 7 for \\(class, row, col\\), or `classes` 5 for \\(row, col"),
        ((3, 6, 7), "the maps of one image; .*`classes` 2"),
    ],
)
def test_logits_of_two_readings_are_refused_with_both(shape, words):
    with pytest.raises(BadMaps, match=words):
        ens.fuse([RNG.normal(size=shape)], logits=True)


@pytest.mark.parametrize(
    ("maps", "classes", "words"),
    [
        (TWO[0][:, 1], 5, "one channel of float32; expected 5 classes"),
        (TWO[0][:, 1:] * 3, None, "values go from"),
        ((TWO[0][:, 1:] * 255).astype(np.uint8), None, "one channel of uint8; expected floating"),
        (np.moveaxis(FIVE[0], 1, -1), 4, "4 classes are named; the maps have 5"),
        (np.moveaxis(FIVE[0], 1, -1) * 0.5, 5, "classes sum to 0.5"),
        (FIVE[0][0], None, "the maps of one image"),
    ],
)
def test_maps_that_fit_no_reading_are_refused(maps, classes, words):
    with pytest.raises(EnsError, match=words):
        ens.fuse([maps], classes=classes)


@pytest.mark.parametrize("maps", [TWO[0], TWO[0][:, 1], FIVE[0]])
def test_predictions_of_another_number_of_classes_are_not_scored(maps):
    with pytest.raises(BadMaps, match="expected 3"):
        ens.score(TARGET, maps, classes=3)


def test_commands_take_any_axes_and_name_their_options(tmp_path, capsys):
    last = as_folder(tmp_path / "last", np.moveaxis(FIVE[0], 1, -1))
    first = as_folder(tmp_path / "first", FIVE[0])
    out = tmp_path / "labels.npy"
    words = ["postprocess", "--maps", str(last), "--chain", "", "--out", str(out)]
    assert run_command(words) == 0
    np.testing.assert_array_equal(np.load(out), FIVE[0].argmax(axis=1))
    named = as_folder(tmp_path / "target", TARGET)
    preds = as_folder(tmp_path / "pred", np.load(out))
    printed = []
    for maps in (last, first):
        capsys.readouterr()
        words = ["score", "--target", str(named), "--pred", str(preds), "--classes", "5"]
        assert run_command([*words, "--metric", "log_loss", "--maps", str(maps)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    logits = as_npy(tmp_path / "logits", RNG.normal(size=(2, 7, 6, 5)))
    words = ["fuse", "--strategy", "mean", "--maps", str(logits), "--logits", "--out", str(out)]
    assert run_command(words) == 2
    assert "give --classes 7 for (class, row, col), or --classes 5" in capsys.readouterr().err
    assert run_command([*words[:-1], str(tmp_path / "f.npy"), "--classes", "5"]) == 0


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (TWO[0][0].astype(np.float64), "holds arrays of different types or numbers of axes; expec"),
        (TWO[0][0, 1], "holds arrays of different types or numbers of axes; expected one kind"),
        (FIVE[0][0], r"holds arrays of shapes \(2, 6, 7\), \(5, 6, 7\); expected as many classes"),
    ],
)
def test_the_images_of_a_list_are_of_one_kind(second, words):
    with pytest.raises(BadMaps, match=words):
        ens.fuse([[TWO[0][0], second]] * 2, "mean")
