"""`ens bench fuse`: every part tiny, and what the document says."""

import json
from importlib import import_module

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.fuse import (
    PARTS,
    peak,
    suite,
    synthetic,
)
from benchmarks.fuse.suite import as_text, bench_fuse
from benchmarks.fuse.synthetic import Size, drawn_members
from ensemble.cli.bench import command
from ensemble.pipeline.bench.timing import in_turns
from ensemble.strategies import STRATEGIES
from evaluation.core.errors import BadRun, BadSpec

TINY = Size(members=3, images=4, pixels=1 << 16, rounds=1)
TIMED = {"median_s", "minimum_s", "ratio", "ratio_of_minima"}
SIDES = {
    "files": {"read", "mean"},
    "memory": {"mean", "np.stack(...).mean(0)"},
    "labels": {"store float16", "store uint8", "a .npz an image"},
    "stacking": {"ours", "scikit-learn"},
    "staple": {"ours", "SimpleITK"},
}


@pytest.fixture
def small(monkeypatch):
    """Smaller maps, for what fits all strategies."""
    monkeypatch.setattr(synthetic, "ROWS", 32)
    monkeypatch.setattr(synthetic, "COLS", 32)


def measure(name, size=TINY, log=lambda line: None):
    return bench_fuse(size, [name], log)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SIDES))
def test_a_part_times_its_sides_in_turns(name, monkeypatch):
    turns = []

    def recorded(sides, rounds):
        turns.append((set(sides), rounds))
        return in_turns(sides, rounds)

    monkeypatch.setattr(import_module(f"benchmarks.fuse.{name}"), "in_turns", recorded)
    document = measure(name)
    sides = document[name]["sides"]
    assert turns == [(SIDES[name], 1)]
    assert set(sides) == SIDES[name]
    assert all(set(side) >= TIMED for side in sides.values())
    json.dumps(document, allow_nan=False)


@pytest.mark.slow
def test_steps_are_those_of_every_strategy_against_the_mean(small):
    sides = measure("steps")["steps"]["sides"]
    assert set(sides) > set(STRATEGIES) | {"mean(calibrate=isotonic)"}
    assert sides["mean"]["ratio"] == 1


def test_peaks_are_of_ten_times_the_images(monkeypatch):
    asked = []

    def instead(arguments, folder):
        asked.append(len(np.load(folder / "b.npy", mmap_mode="r")))
        return {4: 100.0, 40: 120.0}[asked[-1]]

    monkeypatch.setattr(peak, "anonymous_mb", instead)
    found = measure("peak")["peak"]
    assert asked == [4, 4, 40, 40]
    assert (found["fewer"], found["more"]) == (4, 40)
    assert found["sides"]["mean"] == {"mb_fewer": 100.0, "mb_more": 120.0, "ratio": 1.2}
    assert set(found["sides"]) == {"mean", "stacking"}


@pytest.mark.slow
def test_fusing_takes_more_memory_than_an_interpreter_alone(tmp_path):
    found = peak._peaks_mb(tmp_path, 4)
    assert set(found) == {"mean", "stacking"}
    assert min(found.values()) > 50


def test_a_peak_is_that_of_the_process(tmp_path, monkeypatch):
    script = "import numpy, sys, time; a = numpy.ones(int(sys.argv[1]) << 17); time.sleep(0.1)"
    monkeypatch.setattr(peak, "START", script)
    few, many = (peak.anonymous_mb([mib], tmp_path) for mib in ("1", "101"))
    assert many - few == pytest.approx(100 * 1.048576, abs=5)


def test_a_failure_while_memory_is_measured_is_told(tmp_path, capfd):
    with pytest.raises(BadRun, match=r"`ens fuse --maps none.npy` failed while its memory"):
        peak.anonymous_mb(["fuse", "--maps", "none.npy"], tmp_path)


def test_stacking_says_what_was_sampled_and_what_is_extrapolated():
    found = measure("stacking")["stacking"]
    sides = found["sides"]
    assert found["features"] == 15
    assert sides["ours"]["pixels"] == found["pixels"] // 20
    assert sides["scikit-learn"]["pixels"] == found["pixels"] // 8
    on_all = 8 * sides["scikit-learn"]["median_s"]
    assert found["scikit_learn_on_all_extrapolated_s"] == pytest.approx(on_all)
    assert found["times_faster_extrapolated"] == pytest.approx(on_all / sides["ours"]["median_s"])
    assert abs(found["log_loss_above_scikit_learn"]) < 0.02
    assert sides["ours"]["log_loss"] < 0.7


def test_the_stratified_sample_is_weighed_back_to_the_true_shares():
    found = measure("stacking")["stacking"]["sample"]
    np.testing.assert_allclose(found["shares_drawn"], 1 / 4, atol=0.01)
    np.testing.assert_allclose(found["shares_by_weight"], found["shares_of_all"])
    np.testing.assert_allclose(found["shares_of_all"], [0.5, 0.2, 0.27, 0.03], atol=0.01)


def test_staple_gives_the_label_maps_of_simple_itk():
    assert measure("staple")["staple"]["equal_share"] == 1


def test_a_missing_referee_is_named_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(suite, "find_spec", lambda name: None)
    told = []
    with pytest.raises(BadSpec) as caught:
        bench_fuse(TINY, ["memory", "staple"], told.append)
    assert str(caught.value) == (
        "part staple compares with SimpleITK, which is not installed; run"
        " `pip install -e '.[bench]'` in the source folder, or name other parts with --part"
    )
    assert not told


def test_an_unknown_part_is_refused_with_the_known_ones():
    with pytest.raises(BadSpec, match="unknown part 'fils'; known: files, labels"):
        measure("fils")


def test_the_verb_takes_all_parts_by_default_and_those_named_once(monkeypatch):
    asked = []

    def instead(size, parts, log):
        asked.append((size, parts))
        return {"machine": {}}

    monkeypatch.setattr(suite, "bench_fuse", instead)
    few = ["fuse", "--part", "staple", "--part", "memory", "--part", "staple", "--pixels", "70000"]
    for arguments in (["fuse"], few):
        answer = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert answer.exit_code == 0
    assert asked == [
        (Size(10, 2000, 4_000_000, 7), list(PARTS)),
        (Size(10, 2000, 70_000, 7), ["staple", "memory"]),
    ]


def test_the_verb_prints_one_document():
    line = "fuse --part memory --part staple --members 2 --images 4 --rounds 1 --json"
    answer = CliRunner().invoke(command, line.split(), catch_exceptions=False)
    document = json.loads(answer.stdout)
    assert {"machine", "members", "images", "pixels", "rounds", "memory", "staple"} == set(document)
    assert answer.stderr == "memory is measured\nstaple is measured\n"


def test_people_read_a_table_a_part_and_all_facts():
    side = {"median_s": 0.5, "ratio": 1.0}
    document = {
        "machine": {},
        "stacking": {"sides": {"ours": side}, "pixels": 9, "sample": {"shares": [0.25, 0.75]}},
        "files": {"sides": {"read": side}},
    }
    tables = as_text(document).split("\n\n")
    assert [table.split()[0] for table in tables] == ["files", "stacking"]
    assert [line.split() for line in tables[1].splitlines()] == [
        ["stacking", "median_s", "ratio"],
        ["ours", "0.5", "1"],
        ["pixels", "9"],
        ["shares", "0.25", "0.75"],
    ]


def test_drawn_maps_are_probabilities_and_members_differ():
    maps = drawn_members(2, 3)
    np.testing.assert_allclose(maps.sum(axis=2), 1, atol=1e-5)
    assert np.abs(maps[0] - maps[1]).max() > 0.5


def test_every_part_has_a_file_of_its_name():
    assert all(PARTS[name].endswith(f".{name}:{name}") for name in PARTS)
    assert set(PARTS) == {*SIDES, "steps", "peak"}
