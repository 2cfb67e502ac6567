"""Readers of maps: arrays of any type, stores and families give the same probabilities."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.core.classes import numbered
from evaluation.core.errors import BadMaps
from evaluation.core.ragged import Extent
from members.external.values import ValueRange, classify_range
from members.maps import ArrayMaps, read_checked
from members.probabilities import check_maps
from members.specialists import OneVsRestMember
from members.store import ProbabilityStore

IMAGES = 130


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), (IMAGES, 4, 5)).astype(np.float32)
    return np.moveaxis(probs, -1, 1).copy()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
def test_any_type_is_read_as_float32_probabilities(maps, tmp_path, dtype):
    stored = np.rint(maps * 255) if dtype == "uint8" else maps
    np.save(tmp_path / "maps.npy", stored.astype(dtype))
    reader = ArrayMaps("maps.npy", np.load(tmp_path / "maps.npy", mmap_mode="r"))
    reader.check()
    read = reader.read(slice(10, 20))
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, maps[10:20], atol=1 / 500)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (np.nan, "a.npy: 1 values are NaN"),
        (7.0, "a.npy: values go from"),
        (1.00125, "a.npy: values go from .* to 1.00125; expected probabilities from 0 to 1"),
        (0.9751, "a.npy: a pixel's classes sum to 1.0051; expected 1, within 0.005"),
        (0.999, "a.npy: a pixel's classes sum to 1.029; expected 1, within 0.005"),
    ],
)
def test_values_that_are_no_probabilities_are_refused(maps, broken, words):
    maps[70, :, 0, 0] = 0.01, 0.02, broken
    with pytest.raises(BadMaps, match=words):
        ArrayMaps("a.npy", maps).check()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("classes", [2, 5, 21])
def test_a_softmax_of_half_precision_is_taken_from_any_type(tmp_path, half, dtype, classes):
    logits = torch.randn(2, classes, 40, 50, generator=torch.Generator().manual_seed(0)) * 4
    values = logits.to(half).softmax(dim=1).float().numpy().astype(dtype)
    assert np.abs(values.sum(axis=1, dtype=np.float64) - 1).max() > 1e-4
    reader = ArrayMaps("half.npy", values)
    reader.check()
    check_maps(reader.read(slice(None)), dtype)
    sums = values.astype(np.float32).sum(axis=1)
    found = ValueRange(0.0, 1.0, float(sums.min()), float(sums.max()))
    assert classify_range(found, classes=classes, dtype=dtype)[0] == "as they are"


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((2, 4, 5), "float32", "a.npy has shape (2, 4, 5); expected (image, class, row, col)"),
        ((0, 3, 4, 5), "float32", "a.npy has shape (0, 3, 4, 5)"),
        ((2, 3, 4, 5), "int64", "a.npy is int64; expected floating point, or uint8 scaled by 255"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(shape, dtype, words):
    with pytest.raises(BadMaps) as refusal:
        ArrayMaps("a.npy", np.zeros(shape, dtype=dtype))
    assert words in str(refusal.value)


def stored(folder, maps, **more):
    store = ProbabilityStore.create(
        folder,
        ids=[str(number) for number in range(IMAGES)],
        classes=numbered(3, ignore=None),
        extent=Extent.uniform(len([str(number) for number in range(IMAGES)]), (4, 5)),
        seen=None,
        **more,
    )
    for block in store.missing_blocks():
        store.write(block, maps[block])
    return store


def family(folder, maps, *, raw):
    each = [
        stored(folder / str(label), maps[:, label : label + 1], label=label, kind="one_vs_rest")
        for label in range(3)
    ]
    return OneVsRestMember("three", each, raw=raw)


READERS: dict[str, Callable[..., Any]] = {
    "array": lambda _, maps: ArrayMaps("a.npy", maps),
    "uint8 array": lambda _, maps: ArrayMaps("a.npy", np.rint(maps * 255).astype(np.uint8)),
    "store": stored,
    "uint8 store": lambda folder, maps: stored(folder, maps, dtype="uint8"),
    "family": lambda folder, maps: family(folder, maps, raw=False),
    "raw family": lambda folder, maps: family(folder, maps, raw=True),
}


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_streams_what_it_reads(kind, maps, tmp_path):
    reader = READERS[kind](tmp_path, maps)
    whole = reader.read(slice(50, 130))
    np.testing.assert_allclose(whole, maps[50:130], atol=1 / 200)
    memory = np.empty((30, 3, 4, 5), np.float32)
    outs = [memory[:count] for count in (5, 30, 30, 1, 14)]
    streamed = [batch.copy() for batch in reader.stream(slice(50, 130), outs)]
    np.testing.assert_array_equal(np.concatenate(streamed), whole)
    total, others = np.empty((2, 80, 3, 4, 5), np.float32)
    others[:] = 0.3
    halves = [total[:37], total[37:]]
    stream = iter([others[:37], others[37:]])
    for batch in reader.stream(slice(50, 130), halves, accumulate_into=stream):
        assert np.shares_memory(batch, total)
    np.testing.assert_array_equal(total, whole + np.float32(0.3))


def test_a_block_with_a_value_that_is_not_finite_is_refused():
    maps = np.full((6, 2, 3, 4), 0.5, np.float16)
    maps[4, 1, 2, 3] = np.inf
    reader = ArrayMaps("theirs", maps)
    np.testing.assert_array_equal(read_checked(reader, slice(1, 4)), maps[1:4])
    with pytest.raises(BadMaps, match=r"^theirs holds NaN or infinite values in image 4; "):
        read_checked(reader, slice(3, 6))


@pytest.mark.parametrize("module", ["members.maps", "members.data.dataset", "members.store"])
def test_reading_maps_and_data_sets_imports_no_heavy_library(module):
    heavy = {"zarr", "torch", "scipy", "sklearn", "members.data.sample"}
    code = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert output.stdout.decode().split() == []
