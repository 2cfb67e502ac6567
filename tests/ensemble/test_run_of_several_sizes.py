"""Whole runs of images of several sizes: every command works, and sizes do not mix.

Each size alone gives what the set of all sizes gives for it.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import ensemble as ens
from ensemble.cli import run_command
from ensemble.pipeline.candidates.postprocess import read_labels
from evaluation.confusion import confusion
from evaluation.core.ragged import extent_of
from evaluation.core.run_folder import Run
from evaluation.protocols import masked
from members.data.dataset import DataSet
from members.data.image_files import read_mask
from members.store import ProbabilityStore

SIZES = [(24, 32), (16, 24), (40, 20)]
STORED = np.array([10, 20, 200], np.uint8)
LABELS = ["--classes", "sky,rock,sand", "--ignore", "sky"]
CLASSES = {"names": ["sky", "rock", "sand"], "values": STORED.tolist(), "ignore": "sky"}


def draw_pairs(folder, count, seed):
    """Write images whose grey level tells the class, in an order that mixes sizes."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        rows, cols = SIZES[index % len(SIZES)]
        labels = np.zeros((rows, cols), np.uint8)
        labels[rows // 3 :] = 1
        labels[:, cols // 2 :] += labels[:, cols // 2 :] > 0
        labels = np.roll(labels, int(rng.integers(rows)), axis=0)
        image = (60 + 80 * labels + rng.integers(0, 30, labels.shape)).astype(np.uint8)
        for name, pixels in (("images", image), ("masks", STORED[labels])):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"p{index:02}.png")


@pytest.fixture(scope="module")
def mixed_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    draw_pairs(folder / "train", 24, 0)
    draw_pairs(folder / "validation", 9, 1)
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    words = ["train-members", "--data", folder / "train", "--validation", folder / "validation"]
    words += ["--run", folder / "run", "--folds", "2", "--workers", "1", "--epochs", "3"]
    words += ["--classes", folder / "classes.json"]
    words += ["--member", "one=unet(width=2, depth=2)", "--member", "two=unet(width=3, depth=1)"]
    words += ["--member", "ovr=specialists(unet(width=2, depth=1))"]
    assert run_command([str(word) for word in words]) == 0
    run = Run(folder / "run")
    for line in (
        "fuse --strategy mean",
        "fuse --strategy stacking",
        "fuse --strategy per_class_vote",
        "fuse --strategy mean(calibrate=temperature) --name calibrated",
        "postprocess --fusion stacking --chain suppress_background|crf(iterations=1)|mode_filter",
        "postprocess --fusion mean --chain class_bias --name biased",
        "score",
    ):
        assert run_command([*line.split(), "--run", str(run.path)]) == 0
    return run


def of_split(run, split):
    return DataSet.load(run.data(split))


def test_images_of_one_size_lie_next_to_each_other(mixed_run):
    data = of_split(mixed_run, "oof")
    assert [count for count, _ in data.extent.runs] == [8, 8, 8]
    assert sorted(data.ids) == [f"p{index:02}" for index in range(24)]


def test_masks_are_mapped_from_their_stored_values(mixed_run):
    data = of_split(mixed_run, "validation")
    assert data.classes.values == (10, 20, 200)
    for name, target in zip(data.ids, data.target(), strict=True):
        file = f"{name.removeprefix('validation-')}.png"
        stored = read_mask(mixed_run.path.parent / "validation" / "masks" / file)
        np.testing.assert_array_equal(STORED[target], stored)


@pytest.mark.parametrize("fusion", ["mean", "stacking", "calibrated"])
def test_fused_maps_have_the_sizes_of_the_images(mixed_run, fusion):
    run = ens.open_run(mixed_run.path)
    maps = run.maps(fusion, "validation")
    assert extent_of(maps) == of_split(mixed_run, "validation").extent
    assert all(np.isfinite(one).all() for one in maps)


def test_the_mean_of_each_size_is_that_of_the_size_alone(mixed_run):
    run = ens.open_run(mixed_run.path)
    fused = run.maps("mean", "validation")
    members = [run.maps(name, "validation") for name in ("one", "two", "ovr")]
    for index in range(len(fused)):
        alone = ens.fuse([np.asarray(member[index : index + 1]) for member in members])
        np.testing.assert_allclose(fused[index], alone[0], atol=1e-3)


def test_the_score_is_that_of_the_label_maps(mixed_run):
    data = of_split(mixed_run, "validation")
    for candidate in ("mean_argmax", "stacking_suppress_background.crf.mode_filter", "biased"):
        labels = read_labels(mixed_run, candidate, "validation")
        counts = sum(
            confusion(t[None], p[None], classes=3)[0]
            for t, p in zip(data.target(), labels, strict=True)
        )
        file = mixed_run.path / "scores" / candidate / "validation.json"
        document = json.loads(file.read_text())
        assert document["protocols"]["masked"]["miou"] == pytest.approx(
            float(masked()(counts, 0).miou)
        )


@pytest.mark.parametrize(
    "words",
    [
        "compare",
        "report",
        "members",
        "members worth",
        "members uncertainty --out uncertain",
        "data disagreements --sheet disagreements.png",
        "overlay --candidate mean_argmax --out overlay.png",
        "tune-postproc --fusion mean --trials 3",
        "tune-postproc --fusion mean --grid blur.sigma=1,2 --grid mode_filter.size=3,5 --out g.png",
        "audit mean_argmax biased",
        "score --metric boundary_iou --metric ece --per image",
        "status",
        "bench postproc --fusion mean --rounds 1",
        "plan",
    ],
)
def test_commands_take_images_of_several_sizes(mixed_run, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command([*words.split(), "--run", str(mixed_run.path)]) == 0


@pytest.mark.slow
def test_processes_give_what_threads_give(mixed_run, tmp_path):
    run = Run(shutil.copytree(mixed_run.path, tmp_path / "run"))
    for line in (
        "fuse --strategy stacking --name by_processes",
        "postprocess --fusion by_processes --chain class_bias --name biased_there",
        "postprocess --fusion stacking --chain class_bias --name biased_here --workers 1",
        "score",
    ):
        workers = [] if "--workers" in line else ["--workers", "2"]
        words = [*line.split(), "--run", str(run.path), *workers]
        # The tests' checked functions cannot be sent to processes.
        start = (
            "import sys; from ensemble.cli import run_command; sys.exit(run_command(sys.argv[1:]))"
        )
        assert subprocess.run([sys.executable, "-c", start, *words], check=False).returncode == 0
    for split in ("oof", "validation"):
        here, there = (ProbabilityStore(run.fused(n, split)) for n in ("stacking", "by_processes"))
        for block in here.extent.blocks():
            np.testing.assert_array_equal(there.read(block), here.read(block))
        here, there = (read_labels(run, n, split) for n in ("biased_here", "biased_there"))
        assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))


def test_submitted_labels_have_native_sizes_and_stored_values(mixed_run, tmp_path):
    run = ["--run", str(mixed_run.path), "--split", "validation"]
    words = ["submit", "--candidate", "mean_argmax", *run, "--out", str(tmp_path / "png")]
    assert run_command([*words, "--format", "png"]) == 0
    data = of_split(mixed_run, "validation")
    labels = read_labels(mixed_run, "mean_argmax", "validation")
    for name, own in zip(data.ids, labels, strict=True):
        np.testing.assert_array_equal(read_mask(tmp_path / "png" / f"{name}.png"), STORED[own])
    runs = ["submit", "--candidate", "mean_argmax", *run, "--out", str(tmp_path / "runs.csv")]
    assert run_command([*runs, "--format", "runs"]) == 0


def test_a_column_per_pixel_is_refused_for_several_sizes(mixed_run, tmp_path, refusal):
    words = ["submit", "--run", mixed_run.path, "--candidate", "mean_argmax"]
    line = refusal(*words, "--split", "validation", "--out", tmp_path / "pixels.csv")
    assert "3 sizes, 16x24 to 40x20; write them by --format png or runs" in line


def test_a_package_labels_images_as_the_run_does(mixed_run, tmp_path):
    run = ["--run", str(mixed_run.path)]
    package, out = str(tmp_path / "package"), tmp_path / "labels"
    candidate = "stacking_suppress_background.crf.mode_filter"
    assert run_command(["freeze", *run, "--candidate", candidate, "--out", package]) == 0
    images = mixed_run.path.parent / "validation"
    assert run_command(["apply", package, str(images), "--out", str(out)]) == 0
    data = of_split(mixed_run, "validation")
    labels = read_labels(mixed_run, candidate, "validation")
    for name, own in zip(data.ids, labels, strict=True):
        file = f"{name.removeprefix('validation-')}.png"
        np.testing.assert_array_equal(read_mask(out / file), STORED[own])
