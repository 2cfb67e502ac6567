"""Stores of the largest classes: what they keep, what they lose, and how they add up."""

import numpy as np
import pytest

from evaluation.core.blocks import blocks
from evaluation.core.classes import numbered
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.ragged import Extent
from members.codecs import codec
from members.store import ProbabilityStore, stream_sum
from members.top_chunks import choose_top

CLASSES, IMAGES, SIZE = 20, 5, (30, 90)  # more pixels than a tile
DTYPE = "topk(k=3)"


def drawn(seed=0, *, sharpness=6.0, images=IMAGES):
    rng = np.random.default_rng(seed)
    scores = sharpness * rng.normal(size=(images, CLASSES, *SIZE))
    maps = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (maps / maps.sum(axis=1, keepdims=True)).astype(np.float32)


def written(folder, maps, dtype=DTYPE):
    about = {"config": {}, "input_digests": {}, "seen": None, "dtype": dtype}
    about["ids"] = [str(number) for number in range(len(maps))]
    about["classes"] = numbered(maps.shape[1], ignore=None)
    about["extent"] = Extent.uniform(len(maps), maps.shape[2:])
    with ProbabilityStore.writing(folder, **about) as store:
        for block in blocks(about["extent"]):
            store.write(block, maps[block])
    return ProbabilityStore(folder)


def by_numpy(maps, k):
    """Keep the k largest classes in steps of 1/255, and spread the rest evenly."""
    order = np.argsort(-maps, axis=1, kind="stable")[:, :k]
    steps = np.rint(np.take_along_axis(maps, order, axis=1) * np.float32(255)).astype(int)
    excess = steps.sum(axis=1) - 255
    steps[:, -1] -= np.maximum(excess, 0)
    others = maps.shape[1] - (steps > 0).sum(axis=1, keepdims=True)
    rest = (255 - steps.sum(axis=1, keepdims=True)) / (255 * others)
    kept = np.broadcast_to(rest, maps.shape).copy()
    np.put_along_axis(kept, order, np.where(steps > 0, steps / 255, rest), axis=1)
    return kept, (steps >= 0).all(axis=1)


def test_keeps_the_largest_classes_and_spreads_the_rest(tmp_path):
    maps = drawn()
    read = written(tmp_path / "a" / "oof", maps).read(slice(None))
    expected, simple = by_numpy(maps, 3)
    assert simple.mean() > 0.9
    where = np.broadcast_to(simple[:, None], maps.shape)
    np.testing.assert_allclose(read[where], expected[where], atol=1e-6)
    np.testing.assert_allclose(read.sum(axis=1), 1, atol=1e-6)
    assert read.min() >= 0


@pytest.mark.parametrize("sharpness", [0.0, 0.01, 0.3, 6.0])
def test_the_largest_class_stays_the_largest(tmp_path, sharpness):
    maps = drawn(sharpness=sharpness)
    read = written(tmp_path / "a" / "oof", maps).read(slice(None))
    first = np.take_along_axis(read, maps.argmax(axis=1, keepdims=True), axis=1)
    assert (first >= read.max(axis=1, keepdims=True) - 1e-7).all()


def test_the_error_in_the_metadata_is_that_of_what_was_written(tmp_path):
    maps = drawn()
    store = written(tmp_path / "a" / "oof", maps)
    off = np.abs(store.read(slice(None)) - maps)
    assert store.error == pytest.approx((off.max(), off.mean()), rel=1e-3)
    assert ProbabilityStore(store.folder).error == store.error
    assert written(tmp_path / "b" / "oof", maps, "compact").error is None


def test_sums_of_stores_are_the_sums_of_their_maps(tmp_path):
    stores = [
        written(tmp_path / str(seed) / "oof", drawn(seed), dtype)
        for seed, dtype in enumerate(("topk(k=3)", "topk(k=1)", "topk"))
    ]
    expected = sum(store.read(slice(1, 5)) for store in stores)
    outs = [np.full((count, CLASSES, *SIZE), np.nan, np.float32) for count in (3, 1)]
    summed = np.concatenate([batch.copy() for batch in stream_sum(stores, slice(1, 5), outs)])
    np.testing.assert_allclose(summed, expected, atol=1e-6)
    mixed = [*stores, written(tmp_path / "c" / "oof", drawn(), "float16")]
    expected = sum(store.read(slice(1, 5)) for store in mixed)
    summed = np.concatenate([batch.copy() for batch in stream_sum(mixed, slice(1, 5), outs)])
    np.testing.assert_allclose(summed, expected, atol=1e-6)


def test_what_was_read_may_be_written_again(tmp_path):
    once = written(tmp_path / "a" / "oof", drawn()).read(slice(None))
    np.testing.assert_array_equal(written(tmp_path / "b" / "oof", once).read(slice(None)), once)


def test_the_floor_is_below_what_is_spread():
    maps = np.zeros((1, CLASSES, *SIZE), np.float32)
    maps[:, 0] = 254 / 255
    maps[:, 1:] = 1 / (255 * (CLASSES - 1))
    chosen, _ = choose_top(maps, 3)
    assert (chosen[:, 0] == 254).all()
    assert codec(DTYPE).floor(CLASSES) < 1 / (255 * (CLASSES - 3))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("topk(k=0)", "store dtype topk got k=0; expected 1 to 8"),
        ("topk(k=9)", "store dtype topk got k=9; expected 1 to 8"),
        ("topk(k=2.0)", "store dtype topk got k=2.0; expected 1 to 8"),
        ("topk(n=2)", "unknown store dtype"),
        ("float64", "unknown store dtype 'float64'; known: compact, float16, float32, topk"),
    ],
)
def test_bad_names_are_refused(name, words):
    with pytest.raises(BadSpec, match=words.replace("(", r"\(").replace(")", r"\)")):
        codec(name)


def test_maps_of_few_classes_are_refused_before_anything_is_written(tmp_path):
    few = drawn()[:, :15] / drawn()[:, :15].sum(axis=1, keepdims=True)
    with pytest.raises(BadSpec, match=r"topk\(k=3\) got maps of 15 classes; expected 16 or more"):
        written(tmp_path / "a" / "oof", few)
    assert not (tmp_path / "a" / "oof").exists()


def test_a_damaged_chunk_is_named_where_its_bytes_are_streamed(tmp_path):
    store = written(tmp_path / "a" / "oof", drawn())
    assert len(list(store.stream_top(slice(1, 4)))) == 3
    chunk = next(p for p in (tmp_path / "a").rglob("*") if p.is_file() and p.stat().st_size > 9999)
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(BadRun, match=r"checksum of .* does not match"):
        list(store.stream_top(slice(1, 4)))
