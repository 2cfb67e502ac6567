"""What the machine does to a run: rights, folders that vanish, clocks, flipped bits."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults.children import Fault
from tests.faults.conftest import CANDIDATE, STAGES, Tiny
from tests.faults.trees import differing

pytestmark = pytest.mark.slow


def refused(ended):
    """Return the one line that a command ended with."""
    assert (ended.code, "Traceback" in ended.said) == (2, False), ended.said
    [line] = [line for line in ended.said.splitlines() if line.startswith("ens: ")]
    return line


@pytest.fixture
def open_to_all(tiny, stages, request):
    """The results before a stage, where an ordinary user can come to them."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user; run the tests as root to try this")
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o755)
    shutil.copytree(stages[0][request.param], folder / "work")
    for name in ("training.npz", "validation.npz"):
        shutil.copy(tiny.folder / name, folder)
    for path in [folder / "work", *(folder / "work").rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    yield Tiny(folder)
    shutil.rmtree(folder)


def without_right(place, stage):
    """Run a stage as an ordinary user; return the line it is refused in, once nothing changed."""
    before = place.holds()
    line = refused(place.do(place.stages()[stage], Fault("nobody")))
    assert "Permission denied" in line
    assert differing(place.holds(), before) == []
    return line


@pytest.mark.parametrize(
    ("open_to_all", "stage"), [(stage, stage) for stage in STAGES], indirect=["open_to_all"]
)
def test_without_the_right_to_write_a_command_is_refused_and_nothing_changes(open_to_all, stage):
    for path in [open_to_all.work, *open_to_all.work.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert "ask for the right" in without_right(open_to_all, stage)


@pytest.mark.parametrize("open_to_all", ["postprocess"], indirect=True)
def test_without_the_right_to_one_folder_a_command_is_refused_too(open_to_all):
    (open_to_all.run / "labels").mkdir(exist_ok=True)
    (open_to_all.run / "labels").chmod(0o555)
    assert "ask for the right" in without_right(open_to_all, "postprocess")


@pytest.mark.parametrize(
    ("open_to_all", "stage", "file"),
    [
        ("predict", "predict", "data/oof/pictures.npy"),
        ("fuse", "fuse", "probabilities/one/oof/maps.zarr/c/0/0/0/0"),
        ("postprocess", "postprocess", "data/oof/truth.npy"),
        ("submit", "submit", "experiment.yaml"),
    ],
    indirect=["open_to_all"],
)
def test_without_the_right_to_read_a_file_it_is_named(open_to_all, stage, file):
    (open_to_all.run / file).chmod(0)
    assert file in without_right(open_to_all, stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_removed_meanwhile_ends_in_one_line(tiny, stages, stage, points_of):
    kept, points, _ = stages
    for point in points_of(points[stage], stage):
        tiny.empty(like=kept[stage])
        ended = tiny.do(tiny.stages()[stage], Fault("gone", point))
        # What no longer needs the run may end well.
        assert ended.code == 0 or refused(ended).startswith("ens: ")
    tiny.empty()


def test_a_clock_that_goes_backwards_changes_nothing(tiny, stages):
    _, _, expected = stages
    tiny.empty()
    for commands in tiny.stages().values():
        ended = tiny.do(commands, Fault("clock"))
        assert ended.code == 0, ended.said
    for path in tiny.work.rglob("*"):
        os.utime(path, (4e9, 4e9))  # as though made in the future
    for commands in tiny.stages().values():
        assert tiny.do(commands).code == 0
    assert differing(tiny.holds(), expected["end"]) == []


def test_what_has_its_name_is_on_the_disk_and_not_in_memory_alone(tiny, stages):
    tiny.empty()
    for stage, commands in tiny.stages().items():
        ended = tiny.do(commands, Fault("power"))
        assert (ended.code, "in memory alone" in ended.said) == (0, False), (stage, ended.said)
    assert differing(tiny.holds(), stages[2]["end"]) == []


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


def test_a_flipped_bit_in_weights_is_told_before_they_are_trained_again(tiny, stages):
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
