"""What the machine does to a run: rights, folders that vanish, clocks, power."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults.children import Fault, is_refused, refused
from tests.faults.conftest import STAGES, Tiny
from tests.faults.trees import differing

pytestmark = pytest.mark.slow


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
    assert "ask for write permission" in without_right(open_to_all, stage)


@pytest.mark.parametrize("open_to_all", ["postprocess"], indirect=True)
def test_without_the_right_to_one_folder_a_command_is_refused_too(open_to_all):
    (open_to_all.run / "labels").mkdir(exist_ok=True)
    (open_to_all.run / "labels").chmod(0o555)
    assert "ask for write permission" in without_right(open_to_all, "postprocess")


@pytest.mark.parametrize(
    ("open_to_all", "stage", "file"),
    [
        ("predict", "predict", "data/oof/images.npy"),
        ("fuse", "fuse", "probabilities/one/oof/maps.zarr/c/0/0/0/0"),
        ("postprocess", "postprocess", "data/oof/target.npy"),
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
    wrong = []
    for point in points_of(points[stage], stage):
        tiny.empty(like=kept[stage])
        ended = tiny.do(tiny.stages()[stage], Fault("gone", point))
        # What no longer needs the run may end well.
        if ended.code and not is_refused(ended):
            wrong.append(f"step {point}: {ended}")
    assert wrong == []
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
