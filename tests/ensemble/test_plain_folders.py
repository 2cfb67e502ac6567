"""Commands on folders with one file per image, of several sizes, give what arrays give."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import ensemble as ens
from ensemble.cli import run_command
from tests.ensemble.test_several_sizes import MEMBERS, TARGET

VALUES = np.array([10, 20, 255], np.uint8)
"""What masks store for the classes."""

CLASSES = "classes.json"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"n{index}" for index in range(len(TARGET))]
    for folder, arrays in (("a", MEMBERS[0]), ("b", MEMBERS[1]), ("target", TARGET)):
        (tmp_path / folder).mkdir()
        for name, array in zip(names, arrays, strict=True):
            if folder == "target":
                Image.fromarray(VALUES[array]).save(f"target/{name}.png")
            else:
                np.save(f"{folder}/{name}_logits.npy", np.log(array))
    contract = {"names": ["x", "y", "z"], "ignore": "x", "values": VALUES.tolist()}
    (tmp_path / CLASSES).write_text(json.dumps(contract | {"unlabelled": 0}))
    return tmp_path


@pytest.fixture
def call(capsys):
    def run(text, code=0):
        capsys.readouterr()
        assert run_command(text.split()) == code
        return capsys.readouterr()

    return run


FUSE = "fuse --strategy mean --maps a --maps b --logits --out fused"
LABEL = f"postprocess --maps fused --chain suppress_background --classes {CLASSES} --out labels"
SCORE = f"score --target target --pred labels --classes {CLASSES} --json"


def test_folders_go_through_all_commands(folders, call):
    call(FUSE)
    call(LABEL)
    expected = ens.postprocess(ens.fuse(MEMBERS[:2]), "suppress_background", ignore=0)
    for index, labels in enumerate(expected):
        written = np.asarray(Image.open(f"labels/n{index}.png"))
        np.testing.assert_array_equal(written, VALUES[labels])
    miou = ens.score(TARGET, expected, classes=3, ignore=0).miou
    document = json.loads(call(SCORE).out)
    assert document["protocols"]["masked"]["miou"] == pytest.approx(miou)
    measured = json.loads(call(f"{SCORE} --metric log_loss --maps fused").out)
    assert measured["candidates"]["labels"]["log_loss"]["overall"] > 0
    audited = f"audit --target target --pred labels --pred target --classes {CLASSES} --json"
    document = json.loads(call(audited).out)["protocols"]["masked"]
    assert (document["before"], document["after"]) == (pytest.approx(miou), 1.0)


def test_names_may_have_one_suffix_in_a_folder(folders, call):
    call(FUSE)
    call(LABEL)
    document = call(SCORE).out
    for file in (folders / "labels").iterdir():
        file.rename(file.with_name(f"{file.stem}_pred.png"))
    assert call(SCORE).out == document


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FUSE.replace(" --logits", ""), "values go from .* if these are logits, give --logits"),
        (FUSE.replace("--out fused", "--out f.npy"), "f.npy takes images of one size"),
        (FUSE.replace("--out fused", "--out target"), "target exists and is not empty"),
        (FUSE.replace("--out fused", "--out f.png"), r"--out f\.png; .*ends in \.npy, or a folder"),
        (FUSE.replace("--maps b", "--maps target"), "target.* label maps"),
        (SCORE.replace("labels", "a"), "logits become labels"),
        (SCORE + " --logits", "--logits goes with --maps"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(folders, call, text, words):
    said = call(text, code=2).err
    assert len(said.splitlines()) == 1 or said.startswith("Usage")
    assert re.search(words, said)


def test_folders_of_other_names_are_not_scored(folders, call):
    call(FUSE)
    call(LABEL)
    (folders / "labels" / "n3.png").rename(folders / "labels" / "m3.png")
    said = call(SCORE, code=2).err
    assert "target and labels hold files of different names (first: 'm3')" in said


def test_a_prediction_of_another_size_is_not_scored(folders, call):
    call(FUSE)
    call(LABEL)
    Image.fromarray(VALUES[np.zeros((5, 5), int)]).save("labels/n3.png")
    assert "prediction of image 3 has (5, 5) pixels; expected (12, 20)" in call(SCORE, code=2).err
