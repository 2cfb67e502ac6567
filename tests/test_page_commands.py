"""The `ens` commands of README and the how-to pages run, in their order, with small networks."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ensemble.cli import run_command
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from tests.members.external.nnunet import volumes, write_png_set, write_results
from tests.members.external_networks.networks import save_torchscript
from tests.page_commands import ROOT, commands

PAGES = (
    "README.md",
    "docs/members.md",
    "docs/disagreements.md",
    "docs/cleaning.md",
    "docs/refine-masks.md",
    "docs/data.md",
    "docs/import.md",
    "docs/crf.md",
    "docs/scale.md",
    "docs/distillation.md",
    "docs/onnx.md",
    "docs/recipe-search.md",
)
TRAINING = ("train-members", "search", "search-loss", "predict", "distill")
IN_THIS_PROCESS = ["--workers", "1"]
"""Spares these commands processes of their own, which take seconds to start."""
FRESH_RUN = "docs/recipe-search.md"
"""The page whose run is another than README's."""
TINY = "unet(width=2, depth=1)"
SMALL_MEMBER = f"--member '{{architecture: \"{TINY}\", epochs: 1}}'"
STUDENT = SMALL_MEMBER.replace("{", "student={", 1)
TUNED = "tune-postproc --fusion per_class_vote"
THREE_LOSSES = "--losses 'dice,focal(gamma=2),cross_entropy'"
SMALLER = {
    "--epochs 20": "--epochs 1 --folds 2",
    "unet(width=16)": TINY,
    "unet(width=16, bottleneck=aspp)": "unet(width=2, depth=1, bottleneck=aspp)",
    "--member deeplab_v3_plus": f"--member 'third={TINY}'",
    "unet(width=8)": "unet(width=2)",
    "epochs: 10": "epochs: 1",
    "epochs: 40": "epochs: 1",
    "--trials 30": "--trials 2",
    f"{TUNED} --run": f"{TUNED} --trials 2 --run",
    "--space space.yaml": "--space space.yaml --trials 2",
    "--candidate tuned --budget-ms 5 ": f"--candidate tuned --budget-ms 5000 {STUDENT} ",
    "--candidate C --budget-ms 5 ": (
        f"--candidate unet_argmax --budget-ms 5000 {STUDENT.replace('student', 'first')} "
    ),
    "--budget-ms 8": "--budget-ms 5000",
    "--losses dice,focal --step 0.25": f"--losses dice,focal --step 0.5 --folds 2 {SMALL_MEMBER}",
    f"{THREE_LOSSES} --step 0.25": "--losses 'dice,focal(gamma=2)' --step 0.5",
    "--candidate student_argmax": "--candidate first_argmax",
    "--precision int8": "--precision int8 --margin 0.9",
    "other.onnx": "other.pt",
    "mars_for_students.npz": "tiles.npz",
    "--fusion harmonic_mean": "--fusion per_class_vote",
    "--fusion mean --chain 'suppress": "--fusion both --run runs/mars --chain 'suppress",
    "--strategy stacking --memory": "--strategy stacking --run runs/mars --memory",
    "--fusion stacking --chain crf": "--fusion stacking --run runs/mars --chain crf",
    "--run runs/zoo": "--run runs/mars",
    "bilateral_sxy=5,15,30": "bilateral_sxy=5",
    "bilateral_srgb=3,8,20": "bilateral_srgb=3,8",
    "--run RUN": "--run runs/mars",
    "--candidate C ": "--candidate unet_argmax ",
}
"""What is replaced in the pages, so that a command takes a second; each occurs in one of them."""
RUN_ELSEWHERE = {
    ("README.md", "train-members"): "tests/ensemble/test_three_lines.py",
    ("README.md", "fuse --strategy stacking"): "tests/ensemble/test_three_lines.py",
    ("README.md", "score"): "tests/ensemble/test_three_lines.py",
    ("README.md", "overlay --run runs/demo"): "the run of `ens demo`",
    ("docs/distillation.md", "distill --run RUN --candidate greedy_argmax"): "an experiment",
}
"""Commands that are not run here: the words they begin with (or are, if short), and where."""


def smaller(text):
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


def test_what_is_replaced_or_left_out_is_still_there():
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    assert not [large for large in SMALLER if not any(large in text for text in texts.values())]
    for page, start in RUN_ELSEWHERE:
        assert f"ens {start}" in texts[page]


def maps_of(images, rng, masks):
    found = rng.random((images, 5, *masks.shape[1:])).astype(np.float32)
    found += 2 * (np.arange(5)[:, np.newaxis, np.newaxis] == masks[:, np.newaxis])
    return found / found.sum(axis=1, keepdims=True)


def save_images(folder, arrays, suffix=".png"):
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        Image.fromarray(array).save(folder / f"{name}{suffix}")


def write_inputs():
    """Write the files that the pages suppose a reader to have."""
    training, validation = draw_sample(images=120, test=6, validation=40, size=(32, 48)).save(
        Path()
    )
    with np.load(training) as file:
        np.savez("tiles.npz", **{key: file[key] for key in file.files if key != "test_set"})
    validation.rename("more.npz")
    rng = np.random.default_rng(0)
    with np.load("more.npz") as file:
        images, masks = file["images"], file["masks"]
    np.savez("new.npz", images=images[:7, ::-1])
    save_images(Path("images"), {f"new-{i}": image for i, image in enumerate(images[:3])})
    np.save("x.npy", images)
    np.save("y.npy", masks)
    np.save("y_val.npy", masks)
    for name in ("a", "a_val", "b_val"):
        np.save(f"{name}.npy", maps_of(len(masks), rng, masks))
    np.savez("b.npz", maps=maps_of(len(masks), rng, masks))
    names = {f"view-{i}": i for i in range(4)}
    for member in ("unet", "segformer"):
        Path(member).mkdir()
        for name, i in names.items():
            np.save(f"{member}/{name}.npy", np.log(maps_of(1, rng, masks[i : i + 1])[0]))
    save_images(Path("masks"), {name: masks[i] for name, i in names.items()})
    Path("classes.yaml").write_text(
        "names: [background, soil, bedrock, sand, rock]\nignore: background\n"
    )
    for scan in "abc":
        save_images(Path(f"scans/{scan}/t1"), {scan: images[0]}, ".tif")
        save_images(Path(f"scans/{scan}/seg"), {f"{scan}_gt": masks[0]})
    Path("ids.txt").write_text("")
    torch.manual_seed(0)
    save_torchscript(torch.nn.Conv2d(1, 5, 3, padding=1), Path("other.pt"))
    Path("space.yaml").write_text("remove_small: {min_area_px: [4, 8]}\n")
    Path("docs").mkdir()
    space = (ROOT / "docs/search-space.yaml").read_text(encoding="utf-8")
    for large, small in (("epochs: 12", "epochs: 1"), ("[4, 8, 16]", "[2, 3]")):
        assert large in space
        space = space.replace(large, small)
    Path("docs/search-space.yaml").write_text(space)
    cases = volumes([f"case{n:02d}" for n in range(12)], 1)
    write_png_set(Path("RAW/Dataset001_X"), cases)
    write_results(Path("RESULTS/nnUNetTrainer__nnUNetPlans__2d"), Path("RAW/Dataset001_X"), cases)


def write_maps_of_theirs(run):
    """Write one file per image of what 'theirs' predicts."""
    rng = np.random.default_rng(1)
    for split in ("oof", "validation"):
        data = DataSet.load(Run(run).data(split))
        Path("theirs", split).mkdir(parents=True)
        for name, mask in zip(data.ids, data.target(), strict=True):
            np.savez(f"theirs/{split}/{name}.npz", maps_of(1, rng, np.array(mask)[None])[0])


def is_run_here(page, words):
    command = " ".join(words)
    starts = [start for where, start in RUN_ELSEWHERE if where == page]
    return not any(
        command == start or (" --run " in start and command.startswith(start)) for start in starts
    )


def remove_output(words):
    """Remove what an earlier page wrote to the same place."""
    for option, word in pairwise(words):
        if option in ("--out", "--sheet", "--preview") and Path(word).exists():
            shutil.rmtree(word) if Path(word).is_dir() else Path(word).unlink()


def expanded(word):
    """Return the files that a word stands for in a shell, or the word."""
    if word.startswith("--") or "*" not in word or "{" in word:
        return [word]
    return sorted(map(str, Path().glob(word))) or [word]


@pytest.mark.slow
def test_commands_of_the_pages_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="no onnxruntime here: pip install 'ens[onnx]'")
    monkeypatch.chdir(tmp_path)
    write_inputs()
    for page in PAGES:
        if page == FRESH_RUN:
            shutil.rmtree("runs")
        text = (ROOT / page).read_text(encoding="utf-8")
        for shown, words in zip(commands(text), commands(smaller(text)), strict=True):
            if is_run_here(page, shown):
                if words[0] == "import" and not Path("theirs").exists():
                    write_maps_of_theirs(Path("runs/mars"))
                remove_output(words)
                found = [name for word in words for name in expanded(word)]
                found += IN_THIS_PROCESS if words[0] in TRAINING else []
                code = run_command(found)
                assert code == 0, (page, words, capsys.readouterr().err)
