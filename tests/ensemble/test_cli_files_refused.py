"""Plain files that do not fit together are refused in one line; nothing is written."""

import numpy as np
import pytest

from ensemble.cli import run_command

IMAGES, CLASSES, ROWS, COLS = 4, 3, 8, 10


@pytest.fixture
def files(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name, classes in (
        ("a", CLASSES),
        ("b", CLASSES),
        ("four", CLASSES + 1),
        ("4", CLASSES + 1),
    ):
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


FUSE = "fuse --maps a.npy --maps b.npy --out o.npy"
SCORE = "score --target target.npy --pred target.npy --classes 3"
AUDIT = "audit --target target.npy --pred target.npy --pred target.npy --classes 3"
FITTED = "--fit-maps a.npy --fit-maps b.npy --fit-target target.npy"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"{FUSE} --strategy mean --members a,b", "--members is of a run, --maps of files"),
        ("postprocess --maps a.npy --chain crf --fusion mean", "--fusion is of a run, --maps of"),
        (
            f"{SCORE} --candidate mean_argmax",
            "--candidate is of a run, --target of files; give one of them",
        ),
        (
            f"{SCORE} --split oof",
            "--split is of a run, --target of files; give one of them",
        ),
        (
            f"{SCORE} --per image",
            "--per goes with --metric",
        ),
        (
            f"{AUDIT} --split oof",
            "--split is of a run, --target of files; give one of them",
        ),
        (
            f"{AUDIT} --run r",
            "--run is of a run, --target of files; give one of them",
        ),
        (
            f"{SCORE} --metric iou --protocol keras",
            "--protocol ranks, --metric measures something else",
        ),
        (
            f"{SCORE} --maps a.npy",
            "--maps are for metrics of probabilities; give --metric with them",
        ),
        (
            f"{FUSE} --strategy mean {FITTED}",
            "strategy mean has nothing to learn; leave --fit-maps",
        ),
        (f"{FUSE} --strategy mean --images grey.npy", "uses no images; leave --images"),
        (
            f"{FUSE} --strategy stacking(intensity=true) {FITTED}",
            "needs images; give --images and",
        ),
        (
            f"{FUSE} --strategy stacking --fit-maps a.npy --fit-target target.npy",
            "1 --fit-maps for 2 --maps; expected one per member, in the same order",
        ),
        (
            (
                f"{FUSE} --strategy stacking --fit-maps four.npy --fit-maps 4.npy"
                " --fit-target target.npy"
            ),
            "four.npy has 4 classes; expected 3 as in a.npy",
        ),
        ("fuse --maps a.npy --strategy mean --out o.png", "--out o.png; expected a name that ends"),
        ("score --target target.npy", "--target and --pred belong together"),
        ("audit --target target.npy --pred a.npy", "with files give --target, and --pred twice"),
        ("fuse --strategy mean --out o.npy", "--out goes with --maps; a run has its own"),
        (
            "import a.npy --name a --split oof --data tiles.npz",
            "--data creates a new run; name its folder by --run",
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
def test_options_or_files_that_do_not_fit_together_are_refused(files, refusal, words, message):
    assert message in refusal(*words.split())
    assert not (files / "o.npy").exists()


def test_colour_images_may_have_their_channels_last(files):
    np.save("first.npy", np.load("rgb.npy").transpose(0, 3, 1, 2))
    chain = ["--chain", "crf(iterations=2)"]
    for name in ("rgb", "first"):
        words = ["postprocess", "--maps", "a.npy", "--images", f"{name}.npy", "--out"]
        assert run_command([*words, f"{name}_labels.npy", *chain]) == 0
    last, first = np.load("rgb_labels.npy"), np.load("first_labels.npy")
    np.testing.assert_array_equal(last, first)


def test_strategy_that_needs_images_uses_those_of_the_maps(files):
    strategy = "stacking(intensity=true,objective=log_loss)"
    words = f"{FUSE} --strategy {strategy} {FITTED} --fit-images grey.npy".split()
    assert run_command([*words, "--images", "grey.npy"]) == 0
    seen = np.load("o.npy")
    np.save("dark.npy", 0 * np.load("grey.npy"))
    assert run_command([*words, "--images", "dark.npy"]) == 0
    assert np.abs(np.load("o.npy") - seen).max() > 1e-4
    np.testing.assert_allclose(seen.sum(axis=1), 1, atol=1e-4)
