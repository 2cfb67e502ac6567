"""`python -m benchmarks.gpu` rehearsed on the CPU, at tiny sizes."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import prepare, steps
from benchmarks.gpu.setting import Setting
from members.architectures import ARCHITECTURES


def rows_of(part, capsys, tiles=None):
    gpu.run_part(part, "cpu", True, tiles)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[-1]["done"]
    assert {row["part"] for row in rows} == {part}
    return rows[:-1]


@pytest.fixture
def _two_networks(monkeypatch):
    monkeypatch.setattr(steps, "ARCHITECTURES", dict.fromkeys(["unet", "double_unet"]))


@pytest.mark.slow
@pytest.mark.usefixtures("_two_networks")
def test_every_loss_trainer_and_augmentation_takes_a_step(capsys):
    rows = rows_of("a", capsys)
    assert [row for row in rows if not row["ok"]] == []
    assert len({row["kind"] for row in rows}) == 4


@pytest.mark.usefixtures("_two_networks")
def test_networks_agree_with_themselves(capsys):
    rows = rows_of("b", capsys)
    assert [row["gradients"] for row in rows] == [0.0, 0.0]
    assert all(row["ok"] for row in rows)


def test_a_network_that_differs_is_not_ok(capsys, monkeypatch):
    monkeypatch.setattr(steps, "ARCHITECTURES", {"unet": None})
    results = iter([1.0, 2.0])
    monkeypatch.setattr(steps, "_one_step", lambda *_: [steps.torch.full((2,), next(results))] * 3)
    [row] = rows_of("b", capsys)
    assert not row["ok"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["c", "d", "e", "f"])
def test_parts_that_measure_give_numbers(part, capsys):
    for row in rows_of(part, capsys):
        numbers = [value for value in row.values() if isinstance(value, float)]
        assert np.isfinite(numbers).all()


@pytest.mark.slow
def test_a_whole_run_is_labelled_alike_on_both_devices(capsys):
    *steps_done, difference = rows_of("g", capsys)
    assert all(row["ok"] for row in steps_done)
    assert difference == {"part": "g", "labels that differ": 0.0}


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_ends_all_jobs(capsys):
    rows = rows_of("h", capsys)
    assert all(row["ok"] for row in rows[:-1])
    assert rows[-1]["jobs"] == 2


@pytest.mark.slow
def test_each_of_failing_jobs_has_its_outcome(capsys):
    rows = rows_of("i", capsys)
    assert len(rows) == 6
    assert all(row["ok"] for row in rows)


def test_tiles_are_read_from_the_file_that_was_prepared(tmp_path, monkeypatch, sample_files):
    monkeypatch.setattr(prepare.subprocess, "run", lambda *_, **__: None)
    assert "MB" in prepare.prepare_files(tmp_path, sample_files[0])
    data = Setting("cpu", True, tmp_path / "tiles.npz").data()
    assert len(data) > 60
    assert data.images.shape[2:] == (16, 24)
    assert data.groups is not None


def test_wheels_have_the_pinned_versions_of_that_python():
    pinned = prepare._pinned()
    assert all("==" in name for name in pinned)
    assert len(pinned) == len(prepare.PACKAGES)


class TestLimits:
    @pytest.fixture(autouse=True)
    def _parts(self, monkeypatch, tmp_path):
        monkeypatch.setattr(gpu, "PARTS", {"x": ("none:none", 0), "y": ("none:none", 30)})

    @pytest.mark.slow
    def test_a_part_that_fails_leaves_the_others(self, capfd):
        gpu._run_limited("y", ["--device", "cpu", "--tiny"], 60)
        assert json.loads(capfd.readouterr().out.splitlines()[-1])["error"] == "ended with code 1"

    def test_a_part_without_time_is_left_out(self):
        result = CliRunner().invoke(gpu.main, ["--parts", "x", "--seconds", "0"])
        assert json.loads(result.stdout.splitlines()[-1]) == {"part": "x", "error": "no time left"}

    def test_a_part_that_hangs_is_ended(self, monkeypatch, capsys):
        monkeypatch.setattr(gpu.sys, "executable", "sleep")
        real = gpu.subprocess.Popen
        monkeypatch.setattr(
            gpu.subprocess, "Popen", lambda _, **options: real(["sleep", "60"], **options)
        )
        gpu._run_limited("y", [], 0.2)
        assert json.loads(capsys.readouterr().out)["error"] == "stopped after 0 s"


def test_every_part_has_a_function_and_all_fit_into_the_run():
    assert set(gpu.PARTS) == set("abcdefghi")
    assert len(ARCHITECTURES) > 10
    for name, limit in gpu.PARTS.values():
        module, function = name.split(":")
        assert hasattr(gpu.importlib.import_module(f"benchmarks.gpu.{module}"), function)
        assert limit < gpu.LIMIT_S
