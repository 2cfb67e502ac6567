"""`python -m benchmarks.fuse`: every comparison on tiny inputs, and what the document holds."""

import json
import sys
from importlib import import_module

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import memory, synthetic
from benchmarks.fuse import COMPARISONS, ComparisonResult, Workload
from benchmarks.fuse import __main__ as fuse
from benchmarks.fuse.comparisons import PEAK_COMMANDS
from benchmarks.memory import command_peaks, ens_peak_mb, peak_mb
from benchmarks.synthetic import draw_members
from ensemble.pipeline.bench.timing import interleaved
from ensemble.strategies import STRATEGIES
from evaluation.core.errors import BadRun, BadSpec

TINY = Workload(members=3, images=4, pixels=1 << 16, rounds=1)
TIMES = {"median_s", "minimum_s", "ratio", "ratio_of_minima"}
CONTENDERS = {
    "files": {"read", "mean"},
    "memory": {"mean", "np.stack(...).mean(0)"},
    "labels": {"store float16", "store uint8", "a .npz an image"},
    "stacking": {"ours", "scikit-learn"},
    "staple": {"ours", "SimpleITK"},
}


def measure(name, workload=TINY, log=lambda line: None):
    return fuse.bench_fuse(workload, [name], log)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTENDERS)
def test_a_comparison_times_its_contenders_in_turns(name, monkeypatch):
    calls = []

    def recorded(contenders, rounds):
        calls.append((set(contenders), rounds))
        return interleaved(contenders, rounds)

    module = import_module(COMPARISONS[name].partition(":")[0])
    monkeypatch.setattr(module, "interleaved", recorded)
    document = measure(name)
    sides = document[name]["sides"]
    assert calls == [(CONTENDERS[name], 1)]
    assert set(sides) == CONTENDERS[name]
    assert all(set(side) >= TIMES for side in sides.values())
    json.dumps(document, allow_nan=False)


@pytest.mark.slow
def test_every_strategy_is_compared_with_the_mean(monkeypatch):
    for name in ("ROWS", "COLS"):
        monkeypatch.setattr(synthetic, name, 32)
    sides = measure("steps")["steps"]["sides"]
    assert set(sides) > set(STRATEGIES) | {"mean(calibrate=isotonic)"}
    assert sides["mean"]["ratio"] == 1


def test_peaks_are_compared_with_those_of_ten_times_the_images(monkeypatch):
    counts = []

    def instead(arguments, folder):
        counts.append(len(np.load(folder / "b.npy", mmap_mode="r")))
        return {4: 100.0, 40: 120.0}[counts[-1]]

    monkeypatch.setattr(memory, "ens_peak_mb", instead)
    result = measure("peak")["peak"]
    assert counts == [4, 4, 40, 40]
    assert (result["fewer"], result["more"]) == (4, 40)
    assert result["sides"]["mean"] == {"mb_fewer": 100.0, "mb_more": 120.0, "ratio": 1.2}
    assert set(result["sides"]) == {"mean", "stacking"}


@pytest.mark.slow
def test_fusion_takes_more_memory_than_an_interpreter_alone(tmp_path):
    peaks = command_peaks(PEAK_COMMANDS, 4)
    interpreter = peak_mb([sys.executable, "-c", "import time; time.sleep(0.1)"], tmp_path)
    assert set(peaks) == {"mean", "stacking"}
    assert min(peaks.values()) > 1.5 * interpreter > 0


def test_a_peak_is_that_of_the_process(tmp_path, monkeypatch):
    script = "import numpy, sys, time; a = numpy.ones(int(sys.argv[1]) << 17); time.sleep(0.1)"
    monkeypatch.setattr(memory, "START", script)
    few, many = (ens_peak_mb([mib], tmp_path) for mib in ("1", "101"))
    assert many - few == pytest.approx(100 * 1.048576, abs=5)


def test_a_command_that_fails_while_memory_is_measured_is_named(tmp_path, capfd):
    with pytest.raises(BadRun, match=r"`ens fuse --maps none.npy` failed while its memory"):
        ens_peak_mb(["fuse", "--maps", "none.npy"], tmp_path)
    with pytest.raises(BadRun, match="`false` failed while its memory was measured"):
        peak_mb(["false"], tmp_path)


def test_stacking_reports_its_sample_and_what_is_extrapolated():
    result = measure("stacking")["stacking"]
    sides, sample = result["sides"], result["sample"]
    assert result["features"] == 15
    assert sides["ours"]["pixels"] == result["pixels"] // 20
    assert sides["scikit-learn"]["pixels"] == result["pixels"] // 8
    on_all = 8 * sides["scikit-learn"]["median_s"]
    assert result["scikit_learn_on_all_extrapolated_s"] == pytest.approx(on_all)
    assert result["times_faster_extrapolated"] == pytest.approx(on_all / sides["ours"]["median_s"])
    assert abs(result["log_loss_above_scikit_learn"]) < 0.02
    assert sides["ours"]["log_loss"] < 0.7
    np.testing.assert_allclose(sample["shares_drawn"], 1 / 4, atol=0.01)
    np.testing.assert_allclose(sample["shares_by_weight"], sample["shares_of_all"])
    np.testing.assert_allclose(sample["shares_of_all"], [0.5, 0.2, 0.27, 0.03], atol=0.01)


def test_staple_gives_the_label_maps_of_simple_itk():
    assert measure("staple")["staple"]["equal_share"] == 1


def test_a_missing_reference_tool_is_named_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(fuse, "find_spec", lambda name: None)
    lines = []
    with pytest.raises(BadSpec) as caught:
        fuse.bench_fuse(TINY, ["memory", "staple"], lines.append)
    assert str(caught.value) == (
        "part staple compares with SimpleITK, which is not installed; run"
        " `pip install -e '.[bench]'` in the source folder, or name other parts with --part"
    )
    assert not lines


def test_an_unknown_comparison_is_refused_with_the_known_ones():
    with pytest.raises(BadSpec, match="unknown part 'fils'; known: files, labels"):
        measure("fils")


def test_the_command_takes_all_comparisons_by_default_and_those_named_once(monkeypatch):
    calls = []

    def instead(workload, parts, log):
        calls.append((workload, parts))
        return {"machine": {}}

    monkeypatch.setattr(fuse, "bench_fuse", instead)
    line = "--part staple --part memory --part staple --pixels 70000"
    for arguments in ([], line.split()):
        answer = CliRunner().invoke(fuse.fuse, arguments, catch_exceptions=False)
        assert answer.exit_code == 0
    assert calls == [
        (Workload(10, 2000, 4_000_000, 7), list(COMPARISONS)),
        (Workload(10, 2000, 70_000, 7), ["staple", "memory"]),
    ]


def test_the_command_prints_one_document():
    line = "--part memory --part staple --members 2 --images 4 --rounds 1 --json"
    answer = CliRunner().invoke(fuse.fuse, line.split(), catch_exceptions=False)
    keys = ["machine", "members", "images", "pixels", "rounds", "memory", "staple"]
    assert list(json.loads(answer.stdout)) == keys
    assert answer.stderr == "memory is measured\nstaple is measured\n"


def test_the_text_has_one_table_per_comparison_with_all_facts():
    side = {"median_s": 0.5, "ratio": 1.0}
    stacking = ComparisonResult({"ours": side}, {"pixels": 9, "sample": {"shares": [0.25, 0.75]}})
    document = {
        "machine": {},
        "stacking": stacking.to_dict(),
        "files": ComparisonResult({"read": side}, {}).to_dict(),
    }
    tables = fuse.format_fuse(document).split("\n\n")
    assert [table.split()[0] for table in tables] == ["files", "stacking"]
    assert [line.split() for line in tables[1].splitlines()] == [
        ["stacking", "median_s", "ratio"],
        ["ours", "0.5", "1"],
        ["pixels", "9"],
        ["shares", "0.25", "0.75"],
    ]


def test_synthetic_maps_are_probabilities_and_members_differ():
    maps = draw_members(2, 3)
    np.testing.assert_allclose(maps.sum(axis=2), 1, atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 0.5


def test_every_comparison_is_tested():
    assert set(COMPARISONS) == {*CONTENDERS, "steps", "peak"}
