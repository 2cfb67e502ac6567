"""Maps in plain arrays: any type in, float32 probabilities out; what is none is refused."""

import numpy as np
import pytest

from evaluation.ground.errors import BadMaps
from members.maps import ArrayMaps

PICTURES = 130


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    drawn = rng.dirichlet(np.ones(3), (PICTURES, 4, 5)).astype(np.float32)
    return np.moveaxis(drawn, -1, 1).copy()


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
        (0.999, "a.npy: a pixel's classes sum to 1.029; expected 1"),
    ],
)
def test_what_is_no_probability_is_refused(maps, broken, words):
    maps[70, :, 0, 0] = 0.01, 0.02, broken
    with pytest.raises(BadMaps, match=words):
        ArrayMaps("a.npy", maps).check()


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((2, 4, 5), "float32", "a.npy has shape (2, 4, 5); expected (picture, class, row, col)"),
        ((0, 3, 4, 5), "float32", "a.npy has shape (0, 3, 4, 5)"),
        ((2, 3, 4, 5), "int64", "a.npy is int64; expected floating point, or uint8 scaled by 255"),
    ],
)
def test_other_arrays_are_refused(shape, dtype, words):
    with pytest.raises(BadMaps) as refusal:
        ArrayMaps("a.npy", np.zeros(shape, dtype=dtype))
    assert words in str(refusal.value)
