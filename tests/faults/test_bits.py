"""A bit that flips in what is stored is found, whoever reads it, and its file named."""

import pytest

from tests.faults.children import refused
from tests.faults.conftest import CANDIDATE
from tests.faults.trees import differing

pytestmark = pytest.mark.slow

WEIGHTS = "members/one/fold-0/weights.safetensors"
NEW = ["predict", "--data", "training.npz", "--split", "newer"]
OTHER = ["fuse", "--strategy", "mean", "--name", "other"]
HAND_OVER = ["submit", "--split", "validation", "--candidate", CANDIDATE, "--out", "x.csv"]
LABEL = ["postprocess", "--fusion", "stacked", "--chain", "suppress_background"]
FREEZE = ["freeze", "--candidate", CANDIDATE, "--out", "package"]


@pytest.mark.parametrize(
    ("file", "words", "named"),
    [
        (WEIGHTS, NEW, "fold-0"),
        (WEIGHTS, FREEZE, "fold-0"),
        ("probabilities/one/oof/maps.zarr/c/0/0/0/0", OTHER, "c/0/0/0/0"),
        ("probabilities/one/new/maps.zarr/c/0/0/0/0", OTHER, "one/new/maps.zarr/c/0/0/0/0"),
        ("fused/stacked/oof/maps.zarr/c/0/0/0/0", LABEL, "stacked/oof/maps.zarr/c/0/0/0/0"),
        ("fused/stacked/new/maps.zarr/c/0/0/0/0", LABEL, "stacked/new/maps.zarr/c/0/0/0/0"),
        (f"labels/{CANDIDATE}/validation/labels.npy", HAND_OVER, "validation/labels.npy"),
        (f"labels/{CANDIDATE}/fitted.json", FREEZE, "fitted.json"),
        (f"scores/{CANDIDATE}/oof.npz", ["score"], "oof.npz"),
        (f"scores/{CANDIDATE}/validation.json", ["score"], "validation.json"),
        (f"scores/{CANDIDATE}/validation.npz", ["compare"], "validation.npz"),
        (f"scores/{CANDIDATE}/validation.json", ["report"], "validation.json"),
        ("fused/stacked/fitted/fitted.npz", FREEZE, "fitted.npz"),
        ("fused/stacked/fitted/fitted.json", FREEZE, "fitted.json"),
    ],
)
def test_a_flipped_bit_is_found_and_its_file_named(tiny, stages, file, words, named):
    tiny.empty(like=stages[0]["end"])
    flip(tiny.run / file)
    places = {"training.npz": tiny.folder, "x.csv": tiny.work, "package": tiny.work}
    command = [places[word] / word if word in places else word for word in words]
    line = refused(tiny.do([[*command, "--run", tiny.run]]))
    assert named in line
    assert "SHA-256" in line or "checksum" in line


def test_a_flipped_bit_in_weights_is_reported_before_they_are_trained_again(tiny, stages):
    kept, _, expected = stages
    tiny.empty(like=kept["end"])
    flip(tiny.run / WEIGHTS)
    ended = tiny.do(tiny.stages()["train"])
    assert ended.code == 0
    told = [line for line in ended.said.splitlines() if WEIGHTS in line]
    assert told == [
        f"{tiny.run / WEIGHTS} is not what was written (SHA-256); one fold 0 is trained again"
    ]
    assert differing(tiny.holds(), expected["end"]) == []


PACKED = ("weights/one/fold-1/weights.safetensors", "fusion/fitted.npz", "README.md")


@pytest.mark.parametrize("file", PACKED)
def test_a_flipped_bit_in_a_package_is_found_and_its_file_named(tiny, stages, file):
    tiny.empty(like=stages[0]["end"])
    flip(tiny.work / "package" / file)
    words = ["apply", tiny.work / "package", tiny.folder / "validation.npz"]
    line = refused(tiny.do([[*words, "--out", tiny.work / "labels.npy"]]))
    assert file in line
    assert "SHA-256" in line


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
