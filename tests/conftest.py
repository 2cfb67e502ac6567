"""What all tests share."""

import os
import sys
from collections import defaultdict

import pytest

# Many small tensors on shared cores: threads would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["KERAS_BACKEND"] = "torch"
# The same seed gives other weights on a GPU, whose sums have no fixed order: tests compare bits.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items):
    """Begin with the files of slow tests, so that parallel workers end at about the same time."""
    slow = defaultdict(list)
    for item in items:
        slow[item.path].append(item.get_closest_marker("slow") is not None)
    items.sort(key=lambda item: -sum(slow[item.path]) / len(slow[item.path]))


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk():
    """What a process has written is there for others, on the disk or not."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda fd: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _real_plot():
    """Let trainings write no curves but a file: drawing takes half of a tiny training."""
    if "torch" not in sys.modules:  # for tests that train nothing it is too slow to import
        yield None
        return
    from members.trainers import training_curves

    plot = training_curves._plot
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(training_curves, "_plot", lambda path, *_: path.write_bytes(b"a plot"))
        yield plot


@pytest.fixture
def drawn(_real_plot, monkeypatch):
    """Let trainings draw their curves, as they do outside the tests."""
    if _real_plot is not None:
        monkeypatch.setattr("members.trainers.training_curves._plot", _real_plot)


@pytest.fixture(scope="session")
def sample_files(tmp_path_factory):
    """Training and validation file of a small synthetic data set, 16 x 24 pixels."""
    from members.data.sample import draw_sample

    folder = tmp_path_factory.mktemp("sample")
    return draw_sample(images=80, test=9, validation=40, size=(16, 24)).save(folder)


@pytest.fixture(scope="session")
def trained_run(sample_files, tmp_path_factory):
    """A run with two networks and a family of specialists, trained for one epoch."""
    from ensemble.cli import run_command

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    data, validation = map(str, sample_files)
    tiny = "unet(width=2, depth=1)"
    members = (
        f"one={tiny}",
        f"two={{architecture: '{tiny}', loss: dice}}",
        f"specialists=specialists({tiny})",
    )
    words = ["train-members", "--data", data, "--validation", validation, "--run", str(folder)]
    words += ["--folds", "2", "--workers", "1", "--epochs", "1"]
    assert run_command([*words, *(f"--member={member}" for member in members)]) == 0
    return folder


@pytest.fixture
def answer(capsys):
    """Run a command that must succeed, and return what it wrote to stdout."""
    from ensemble.cli import run_command

    def run(*words):
        capsys.readouterr()
        assert run_command([str(word) for word in words]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refusal(capsys):
    """Run a command that must refuse, and return its one line on stderr."""
    from ensemble.cli import run_command

    def run(*words, after_work=False):
        capsys.readouterr()
        assert run_command([str(word) for word in words]) == 2
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        assert printed.out == ""
        assert [line.startswith("ens: ") for line in lines].count(True) == 1
        assert len(lines) == 1 or after_work, printed.err
        return lines[-1]

    return run
