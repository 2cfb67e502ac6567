"""`python -m benchmarks.scale`: tiny scans, and how the model extrapolates."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.scale import __main__ as scale
from benchmarks.scale import workers
from benchmarks.scale.__main__ import ScaleConfig, bench_scale, cost_model, format_scale
from benchmarks.scale.scan import (
    RESULT,
    draw_target,
    open_stores,
    repeated_members,
    scan,
    write_stores,
)
from evaluation.core.ragged import Extent
from tests.ensemble.clusters import forked, without_checks

BLOCK = 64


def side(source="float16", images=4000, cpu=1.0):
    return {"source": source, "images": images, "cpu_ms_per_image": cpu}


def test_repeated_maps_are_the_same_block_again_and_again():
    reader, other = repeated_members(2, 3 * BLOCK)
    assert reader.extent == Extent.uniform(3 * BLOCK, (64, 128))
    assert reader.num_classes == 5
    first, last = reader.read(slice(0, 3)), reader.read(slice(2 * BLOCK, 2 * BLOCK + 3))
    np.testing.assert_array_equal(first, last)
    assert np.abs(first - other.read(slice(0, 3))).max() > 0.5
    batch = np.empty((5, 5, 64, 128), np.float32)
    (streamed,) = reader.stream(slice(BLOCK, BLOCK + 5), [batch])
    np.testing.assert_array_equal(streamed, reader.read(slice(BLOCK, BLOCK + 5)))


def test_a_scan_scores_what_argmax_without_background_scores():
    (reader,) = repeated_members(1, 2 * BLOCK)
    pred = reader.read(slice(0, BLOCK))[:, 1:].argmax(axis=1) + 1
    target = draw_target()
    ious = [
        ((pred == k) & (target == k)).sum() / (((pred == k) | (target == k)) & (target > 0)).sum()
        for k in range(1, 5)
    ]
    assert scan([reader], 2 * BLOCK) == pytest.approx(np.mean(ious))


def test_stores_hold_the_repeated_maps(tmp_path):
    write_stores(tmp_path, 2, 70, "float16")
    for store, reader in zip(open_stores(tmp_path, 2), repeated_members(2, 70), strict=True):
        assert (store.extent, store.num_classes) == (reader.extent, reader.num_classes)
        np.testing.assert_array_equal(store.read(slice(64, 70)), reader.read(slice(64, 70)))


def test_the_model_multiplies_one_image_by_a_hundred_million():
    model = cost_model({"a": side()}, members=10)
    assert model["map_bytes_per_image"] == 10 * 5 * 64 * 128 * 2
    assert model["core_hours"] == pytest.approx(1e8 * 1e-3 / 3600)
    assert model["hours_on_1000_cores"] == pytest.approx(model["core_hours"] / 1000)
    assert model["gigabytes_a_second"] == pytest.approx(1000 * 819_200 * 1e3 / 1e9)
    assert model["store_files"] == 20 * model["blocks"] == 20 * 1_562_500


def test_the_model_takes_the_largest_scan_of_stores():
    sides = {"a": side(cpu=1), "b": side(images=9000, cpu=2), "c": side("drawn", 10**6, 3)}
    assert cost_model(sides, 1)["cpu_ms_per_image"] == 2
    assert cost_model({"c": sides["c"]}, 1)["cpu_ms_per_image"] == 3


def test_every_size_is_scanned_once_per_round_in_turns(monkeypatch):
    calls = []

    def instead(command, folder, *, name):
        images = int(command[4])
        calls.append((images, len(command) > 5))
        seconds = images / 100
        result = {"wall_s": seconds, "cpu_s": 2 * seconds, "miou": 0.5}
        (folder / RESULT).write_text(json.dumps(result))
        return 100.0 + images

    monkeypatch.setattr(scale, "peak_mb", instead)
    monkeypatch.setattr(scale, "write_stores", lambda *_: None)
    document = bench_scale(ScaleConfig(2, (10, 20), (30,), 2), lambda line: None)
    once = [(10, False), (20, False), (30, True), (30, True)]
    assert calls == once + once[1:] + once[:1]
    assert document["sides"]["drawn 20"]["images_a_second"] == pytest.approx(100)
    assert document["sides"]["drawn 20"]["cpu_ms_per_image"] == pytest.approx(20)
    assert document["spread"]["drawn"]["peak_mb"] == pytest.approx(120 / 110)
    assert document["spread"]["drawn"]["images_a_second"] == pytest.approx(1)
    assert "drawn 20" in format_scale(document)


@pytest.mark.slow
def test_the_command_scans_stores_and_synthetic_maps():
    line = "--members 2 --images 64 --stored 64 --rounds 1 --on-workers 0 --json"
    answer = CliRunner().invoke(scale.scale, line.split(), catch_exceptions=False)
    sides = json.loads(answer.stdout)["sides"]
    assert set(sides) == {"drawn 64", "uint8 64", "float16 64"}
    scores = {side["miou"] for side in sides.values()}
    assert max(scores) - min(scores) < 0.01
    assert sides["drawn 64"]["miou"] == sides["float16 64"]["miou"]
    assert all(side["peak_mb"] > 50 for side in sides.values())


@pytest.mark.slow
def test_workers_are_timed_and_their_labels_compared_with_those_of_threads(monkeypatch):
    without_checks(monkeypatch)
    forked(monkeypatch)
    monkeypatch.setattr(workers, "WORKERS", (0, 1, 2))
    document = workers.bench_workers(images=70, rounds=1)
    sides = document["sides"]
    assert list(sides) == ["threads", "1 workers", "2 workers"]
    assert all(side["equal"] is True for side in sides.values())
    times = [sides[f"{count} workers"]["median_s"] for count in (1, 2)]
    assert document["two_over_one"] == pytest.approx(times[0] / times[1])
    assert "2 workers are" in workers.format_workers(document)


def test_labels_of_workers_that_differ_are_reported(monkeypatch):
    digests = iter(["same", "same", "same", "same", "same", "other"])
    monkeypatch.setattr(workers, "on_cluster", lambda workers: nullcontext())
    monkeypatch.setattr(workers, "WORKERS", (0, 1, 2))
    monkeypatch.setattr(workers, "_label_digest", lambda *_: next(digests))
    document = workers.bench_workers(images=70, rounds=1)
    assert [side["equal"] for side in document["sides"].values()] == [True, True, False]
    assert "OTHER LABELS" in workers.format_workers(document)
