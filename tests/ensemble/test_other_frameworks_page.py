"""The page on other frameworks: its commands, on small networks, and its export of plain torch."""

import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ensemble.cli import run_command
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.external_networks.input_readings import IMAGENET as NORMALISATION
from members.store import ProbabilityStore
from tests.members.external.nnunet import volumes, write_nifti_set, write_results
from tests.members.external_networks.networks import Brightness, images_of, save_onnx, save_pt2
from tests.page_commands import commands

PAGE = Path(__file__).parents[2] / "docs" / "from-other-frameworks.md"
SECTION = re.compile(r"^## Plain torch\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def shown():
    """Return the export, and what `--network` says, of the section."""
    (section,) = SECTION.findall(PAGE.read_text(encoding="utf-8"))
    code, _, rest = section.partition("\n\n    ens predict --network 'plain=")
    lines = [line[4:] for line in code.splitlines() if line.startswith("    ")]
    return "\n".join(lines), rest.partition("'")[0]


@pytest.mark.slow
def test_it_is_registered_and_predicts_as_in_torch(trained_run, tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 5, 1)
    ).eval()
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, said = shown()
        exec(compile(code, str(PAGE), "exec"), {"torch": torch, "network": network})
    assert not (tmp_path / "network.onnx.data").exists()
    shutil.copytree(trained_run, tmp_path / "run")
    words = ["predict", "--network", f"plain={said}", "--run", str(tmp_path / "run")]
    assert run_command([*words, "--workers", "1"]) == 0
    run = Run(tmp_path / "run")
    images = torch.from_numpy(np.array(DataSet.load(run.data("validation")).images))
    with torch.inference_mode():
        expected = network(images.float().div(255).expand(-1, 3, -1, -1)).softmax(dim=1)
    found = ProbabilityStore(run.probabilities("plain", "validation")).read(slice(None))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)


IMAGENET = {"scale": 1.0, "mean": 0.485, "std": 0.229}


def write_files():
    """Write a labelled set, maps of it, and the files that the commands name."""
    sets = {"oof": images_of(channels=3), "validation": images_of(channels=3, images=8, seed=1)}
    for split, data in sets.items():
        np.savez(f"{split}.npz", images=data.images, masks=data.masks)
    maps = np.eye(3, dtype=np.float32)[sets["oof"].masks].transpose(0, 3, 1, 2)
    np.save("own.npy", 0.7 * maps + 0.1)
    for name in ("smp", "segformer", "deeplab"):
        save_onnx(Path(f"{name}.onnx"), channels=3, **IMAGENET)
    mean, std = map(list, NORMALISATION)
    said = {"input_range": "0..1", "mean": mean, "std": std}
    Path("segformer.onnx.yaml").write_text(yaml.safe_dump(said))
    save_onnx(Path("unet.onnx"), channels=3, scale=1.0, last=True)
    save_onnx(Path("network.onnx"), channels=3, scale=1.0)
    save_pt2(Brightness(3, scale=1.0), Path("monai.pt2"), channels=3)
    return sets["validation"]


@pytest.mark.slow
def test_its_commands_run_and_the_networks_label_as_they_should(tmp_path, monkeypatch, capsys):
    pytest.importorskip("nibabel", reason="NIfTI needs the extra nifti")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("nnUNet_results", "results")
    monkeypatch.setenv("nnUNet_raw", "raw")
    validation = write_files()
    start = "import own.npy --name own --split oof --data oof.npz --validation validation.npz"
    assert run_command([*start.split(), "--run", "runs/mars"]) == 0
    run = Run(tmp_path / "runs/mars")
    Path("labels").mkdir()
    for name, mask in zip(DataSet.load(run.data("validation")).ids, validation.masks, strict=True):
        Image.fromarray(mask).save(f"labels/{name}.png")
    cases = volumes([f"case{n:02d}" for n in range(12)], 2)
    write_nifti_set(tmp_path / "raw/Dataset001_X", cases, np.eye(4))
    trained = tmp_path / "results/Dataset001_X/nnUNetTrainer__nnUNetPlans__2d"
    write_results(trained, tmp_path / "raw/Dataset001_X", cases)
    text = PAGE.read_text(encoding="utf-8")
    for words in commands(text.replace("512x512", "24x32").replace("256x256", "16x16")):
        if words[0] == "submit":
            shutil.rmtree("labels")
        found = [os.path.expandvars(word) for word in words]
        found += [] if "--run" in words else ["--run", "runs/mars"]
        found += ["--workers", "1"] if words[0] == "predict" else []
        assert run_command(found) == 0, (words, capsys.readouterr().err)
        if words[0] == "predict":
            name = words[words.index("--network") + 1].partition("=")[0]
            maps = ProbabilityStore(run.probabilities(name, "validation")).read(slice(None))
            assert (maps.argmax(axis=1) == validation.masks).mean() > 0.95, name
    assert "warning" not in capsys.readouterr().err
    assert len(list(Path("labels").glob("*.nii.gz"))) == 12
