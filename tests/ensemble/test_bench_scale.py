"""`ens bench scale`: tiny walks, what they give, and how the model extrapolates."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.scale import suite, workers
from benchmarks.scale.scan import walked
from benchmarks.scale.suite import Sizes, as_text, bench_scale, cost_model
from benchmarks.scale.synthetic_maps import drawn_readers, drawn_target, open_stores, write_stores
from ensemble.cli.bench import command
from evaluation.core.errors import BadRun
from tests.ensemble.clusters import forked, without_checks

BLOCK = 64


def side(source="float16", images=4000, cpu=1.0):
    return {"source": source, "images": images, "cpu_ms_per_image": cpu}


class TestDrawnMaps:
    def test_are_the_same_block_again_and_again(self):
        one, _ = drawn_readers(2, 3 * BLOCK)
        assert one.size == (3 * BLOCK, 5, 64, 128)
        first, last = one.read(slice(0, 3)), one.read(slice(2 * BLOCK, 2 * BLOCK + 3))
        np.testing.assert_array_equal(first, last)

    def test_stream_what_they_read(self):
        one, _ = drawn_readers(2, 2 * BLOCK)
        place = np.empty((5, 5, 64, 128), np.float32)
        (given,) = one.stream(slice(BLOCK, BLOCK + 5), [place])
        np.testing.assert_array_equal(given, one.read(slice(BLOCK, BLOCK + 5)))

    def test_members_differ(self):
        one, two = drawn_readers(2, BLOCK)
        assert np.abs(one.read(slice(0, 1)) - two.read(slice(0, 1))).max() > 0.5


def test_a_walk_scores_what_argmax_without_background_scores():
    (reader,) = drawn_readers(1, 2 * BLOCK)
    pred = reader.read(slice(0, BLOCK))[:, 1:].argmax(axis=1) + 1
    target = drawn_target()
    ious = [
        ((pred == k) & (target == k)).sum() / (((pred == k) | (target == k)) & (target > 0)).sum()
        for k in range(1, 5)
    ]
    assert walked([reader], 2 * BLOCK) == pytest.approx(np.mean(ious))


def test_stores_hold_the_maps_that_are_drawn(tmp_path):
    write_stores(tmp_path, 2, 70, "float16")
    stores, drawn = open_stores(tmp_path, 2), drawn_readers(2, 70)
    for store, reader in zip(stores, drawn, strict=True):
        assert store.size == reader.size
        np.testing.assert_array_equal(store.read(slice(64, 70)), reader.read(slice(64, 70)))


class TestTheModel:
    def test_multiplies_one_image_by_a_hundred_million(self):
        found = cost_model({"a": side()}, members=10)
        assert found["map_bytes_per_image"] == 10 * 5 * 64 * 128 * 2
        assert found["core_hours"] == pytest.approx(1e8 * 1e-3 / 3600)
        assert found["hours_on_1000_cores"] == pytest.approx(found["core_hours"] / 1000)
        assert found["gigabytes_a_second"] == pytest.approx(1000 * 819_200 * 1e3 / 1e9)
        assert found["store_files"] == 20 * found["blocks"] == 20 * 1_562_500

    def test_takes_the_largest_walk_over_stores(self):
        sides = {"a": side(cpu=1), "b": side(images=9000, cpu=2), "c": side("drawn", 10**6, 3)}
        assert cost_model(sides, 1)["cpu_ms_per_image"] == 2
        assert cost_model({"c": sides["c"]}, 1)["cpu_ms_per_image"] == 3


def test_every_side_is_walked_once_a_round_in_turns(monkeypatch):
    asked = []

    def instead(words, place):
        asked.append((int(words[4]), len(words) > 5))
        seconds = int(words[4]) / 100
        found = {"wall_s": seconds, "cpu_s": 2 * seconds, "miou": 0.5}
        (place / "walk.json").write_text(json.dumps(found))
        return 100.0 + int(words[4])

    monkeypatch.setattr(suite, "peak_mb", instead)
    monkeypatch.setattr(suite, "write_stores", lambda *given: None)
    found = bench_scale(Sizes(2, (10, 20), (30,), 2), lambda line: None)
    once = [(10, False), (20, False), (30, True), (30, True)]
    assert asked == once + once[1:] + once[:1]
    assert found["sides"]["drawn 20"]["images_a_second"] == pytest.approx(100)
    assert found["sides"]["drawn 20"]["cpu_ms_per_image"] == pytest.approx(20)
    assert found["spread"]["drawn"]["peak_mb"] == pytest.approx(120 / 110)
    assert found["spread"]["drawn"]["images_a_second"] == pytest.approx(1)
    assert "drawn 20" in as_text(found)


@pytest.mark.slow
def test_the_verb_walks_from_stores_and_from_drawn_maps():
    line = "scale --members 2 --images 64 --stored 64 --rounds 1 --on-workers 0 --json"
    answer = CliRunner().invoke(command, line.split(), catch_exceptions=False)
    document = json.loads(answer.stdout)
    assert set(document["sides"]) == {"drawn 64", "uint8 64", "float16 64"}
    scores = {found["miou"] for found in document["sides"].values()}
    assert max(scores) - min(scores) < 0.01
    assert document["sides"]["drawn 64"]["miou"] == document["sides"]["float16 64"]["miou"]
    assert all(found["peak_mb"] > 50 for found in document["sides"].values())


def test_a_walk_that_fails_is_told(tmp_path):
    from benchmarks.fuse.peak import peak_mb

    with pytest.raises(BadRun, match="failed while its memory was measured"):
        peak_mb(["false"], tmp_path)


@pytest.mark.slow
def test_workers_are_timed_beside_threads_and_their_labels_compared(monkeypatch):
    without_checks(monkeypatch)
    forked(monkeypatch)
    monkeypatch.setattr(workers, "WORKERS", (0, 1, 2))
    found = workers.bench_workers(images=70, rounds=1)
    assert list(found["sides"]) == ["threads", "1 workers", "2 workers"]
    assert all(side["equal"] is True for side in found["sides"].values())
    times = [found["sides"][f"{count} workers"]["median_s"] for count in (1, 2)]
    assert found["two_over_one"] == pytest.approx(times[0] / times[1])
    assert "2 workers label" in workers.workers_text(found)


def test_labels_that_differ_are_told(monkeypatch):
    digests = iter(["same", "same", "same", "same", "same", "other"])
    monkeypatch.setattr(workers, "on_cluster", lambda workers: nullcontext())
    monkeypatch.setattr(workers, "WORKERS", (0, 1, 2))
    monkeypatch.setattr(workers, "_labels", lambda *_: next(digests))
    found = workers.bench_workers(images=70, rounds=1)
    assert [side["equal"] for side in found["sides"].values()] == [True, True, False]
    assert "OTHER BITS" in workers.workers_text(found)
