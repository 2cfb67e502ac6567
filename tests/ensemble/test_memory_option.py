"""--memory changes no label, fit or score, on images of several sizes; bad values are refused."""

import shutil

import numpy as np
import pytest

from benchmarks.many_sizes import write_run
from ensemble.cli import run_command
from ensemble.pipeline.candidates.postprocess import read_labels
from evaluation.core.provenance import RECORD
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import Run
from members.store import ProbabilityStore

EXTENT = Extent(((66, (16, 24)), (3, (20, 16))))
COMMANDS = (
    "fuse --strategy stacking",
    "fuse --strategy mean(calibrate=temperature) --name calibrated",
    "postprocess --fusion stacking --chain class_bias|mode_filter --name all",
    "score --split oof",
)
BUDGETS = (["--memory", "1KB"], [], ["--memory", "900GB"])


def results(run):
    """Return every file of the results but records, and the maps and labels as they are read."""
    files = {
        str(path.relative_to(run.path)): path.read_bytes()
        for part in ("fused", "labels", "scores")
        for path in (run.path / part).rglob("*")
        if path.is_file() and not path.name.endswith(RECORD)
    }
    for name in ("stacking", "calibrated"):
        store = ProbabilityStore(run.fused(name, "oof"))
        files[name] = b"".join(store.read(run).tobytes() for run, _ in store.extent.slices())
    labels = read_labels(run, "all", "oof")
    return files | {"all": b"".join(np.asarray(one).tobytes() for one in labels)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("memory") / "run")
    write_run(run, EXTENT)
    return run


def test_no_budget_changes_a_label_a_fit_or_a_score(prepared, tmp_path):
    outcomes = []
    for number, budget in enumerate(BUDGETS):
        run = Run(tmp_path / str(number) / "run")
        shutil.copytree(prepared.path, run.path)
        for line in COMMANDS:
            assert run_command([*line.split(), "--run", str(run.path), *budget]) == 0
        outcomes.append(results(run))
    for other in outcomes[1:]:
        different = [name for name in outcomes[0] if other.get(name) != outcomes[0][name]]
        assert (different, outcomes[0].keys()) == ([], other.keys())


@pytest.mark.parametrize("value", ["2", "much", "-2GB", "0GB"])
def test_a_budget_that_is_no_size_is_refused(value, prepared, capsys):
    before = sorted(prepared.path.rglob("*"))
    assert (
        run_command(["fuse", "--strategy", "mean", "--memory", value, "--run", str(prepared.path)])
        == 2
    )
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "--memory: size" in line
    assert sorted(prepared.path.rglob("*")) == before
