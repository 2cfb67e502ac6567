"""Plain files that do not go together: refused in a line that says which; nothing is written."""

import numpy as np
import pytest

from ensemble.cli import run

IMAGES, CLASSES, ROWS, COLS = 4, 3, 8, 10


@pytest.fixture
def files(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name, classes in (("a", CLASSES), ("b", CLASSES), ("four", CLASSES + 1)):
        maps = rng.random((IMAGES, classes, ROWS, COLS), dtype=np.float32) + 0.1
        np.save(tmp_path / f"{name}.npy", maps / maps.sum(axis=1, keepdims=True))
    target = np.arange(IMAGES * ROWS * COLS).reshape(IMAGES, ROWS, COLS) % CLASSES
    np.save(tmp_path / "target.npy", target.astype(np.uint8))
    grey = rng.integers(0, 255, (IMAGES, ROWS, COLS), dtype=np.uint8)
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "rgb.npy", np.stack([grey] * 3, axis=-1))
    np.save(tmp_path / "flat.npy", grey[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, words):
    assert run(words.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


FUSE = "fuse --maps a.npy --maps b.npy --out o.npy"
FITTED = "--fit-maps a.npy --fit-maps b.npy --fit-target target.npy"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (f"{FUSE} --strategy mean --members a,b", "--members is of a run, --maps of files"),
        ("postprocess --maps a.npy --chain crf --fusion mean", "--fusion is of a run, --maps of"),
        (
            "score --target target.npy --pred target.npy --classes 3 --candidate mean_argmax",
            "--candidate is of a run, --target of files; give one of them",
        ),
        (
            "score --target target.npy --pred target.npy --classes 3 --split oof",
            "--split is of a run, --target of files; give one of them",
        ),
        (
            "score --target target.npy --pred target.npy --classes 3 --per image",
            "--per goes with --metric",
        ),
        (
            "audit --target target.npy --pred target.npy --pred target.npy --classes 3 --split oof",
            "--split is of a run, --target of files; give one of them",
        ),
        (
            "audit --target target.npy --pred target.npy --pred target.npy --classes 3 --run r",
            "--run is of a run, --target of files; give one of them",
        ),
        (
            "score --target target.npy --pred target.npy --classes 3 --metric iou --protocol keras",
            "--protocol ranks, --metric measures something else",
        ),
        (
            "score --target target.npy --pred target.npy --classes 3 --maps a.npy",
            "--maps are for metrics of probabilities; give --metric with them",
        ),
        (
            f"{FUSE} --strategy mean {FITTED}",
            "strategy mean has nothing to learn; leave --fit-maps",
        ),
        (f"{FUSE} --strategy mean --images grey.npy", "looks at no images; leave --images"),
        (
            f"{FUSE} --strategy stacking(intensity=true) {FITTED}",
            "looks at images; give --images and",
        ),
        (
            f"{FUSE} --strategy stacking --fit-maps a.npy --fit-target target.npy",
            "1 --fit-maps for 2 --maps; expected one a member, in the same order",
        ),
        (
            (
                f"{FUSE} --strategy stacking --fit-maps four.npy --fit-maps four.npy"
                " --fit-target target.npy"
            ),
            "four.npy has 4 classes; expected 3 as in a.npy",
        ),
        ("fuse --maps a.npy --strategy mean --out o.png", "--out o.png; expected a name that ends"),
        ("fuse --strategy mean --out o.npy", "--out goes with --maps; a run has its own"),
        (
            "import a.npy --name a --split oof --data tiles.npz",
            "--data lays out a new run; name its folder by --run",
        ),
        (
            "postprocess --fusion mean --chain argmax --out o.npy",
            "--out goes with --maps; a run has",
        ),
        (
            "postprocess --maps a.npy --chain crf --images flat.npy --out o.npy",
            "flat.npy has shape (8, 10); expected (image, row, col) or 4 axes",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(files, capsys, words, told):
    assert told in refused(capsys, words)
    assert not (files / "o.npy").exists()


def test_colour_images_may_have_their_channels_last(files):
    np.save("first.npy", np.load("rgb.npy").transpose(0, 3, 1, 2))
    chain = ["--chain", "crf(iterations=2)"]
    for name in ("rgb", "first"):
        words = ["postprocess", "--maps", "a.npy", "--images", f"{name}.npy", "--out"]
        assert run([*words, f"{name}_labels.npy", *chain]) == 0
    last, first = np.load("rgb_labels.npy"), np.load("first_labels.npy")
    np.testing.assert_array_equal(last, first)


def test_a_strategy_that_looks_at_images_sees_those_of_the_maps(files):
    words = f"{FUSE} --strategy stacking(intensity=true) {FITTED} --fit-images grey.npy".split()
    assert run([*words, "--images", "grey.npy"]) == 0
    seen = np.load("o.npy")
    np.save("dark.npy", 0 * np.load("grey.npy"))
    assert run([*words, "--images", "dark.npy"]) == 0
    assert np.abs(np.load("o.npy") - seen).max() > 1e-4
    np.testing.assert_allclose(seen.sum(axis=1), 1, atol=1e-4)
