import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.block_fusion import (
    FusionPerImage,
    TrainingBlocks,
    fuse,
    pixel_bytes,
    read_members,
)
from ensemble.strategies import STRATEGIES
from evaluation.core.errors import BadLabels, BadMaps
from evaluation.core.memory import memory_limit
from members.maps import ArrayMaps, check_agreement
from members.probabilities import check_maps

CLASSES = 3


def drawn(seed, images=7, rows=4, cols=5):
    rng = np.random.default_rng(seed)
    maps = rng.dirichlet(np.full(CLASSES, 0.5), size=(images, rows, cols))
    return np.moveaxis(maps, -1, 1).astype(np.float32)


def readers(members, **shape):
    return [ArrayMaps(f"{name}.npy", drawn(name, **shape)) for name in range(members)]


def target_of(images=7, rows=4, cols=5):
    return np.random.default_rng(0).integers(0, CLASSES, (images, rows, cols))


class TestFuse:
    @settings(max_examples=15, deadline=None)
    @given(members=st.integers(1, 3), images=st.integers(1, 9), size=st.integers(1, 10))
    def test_blocks_give_what_the_whole_gives_each_written_once(self, members, images, size):
        given_ = readers(members, images=images)
        mean = STRATEGIES.build("mean")
        out = np.full((images, CLASSES, 4, 5), np.nan, np.float32)
        written = []

        def write(block, fused):
            written.append(block)
            out[block] = fused

        fuse(given_, mean, write, size=size)
        np.testing.assert_allclose(out, mean(read_members(given_, slice(None))), rtol=1e-6)
        assert sorted(b.start for b in written) == list(range(0, images, size))

    @pytest.mark.slow
    def test_memory_does_not_grow_with_the_number_of_images(self):
        def peak(images):
            one = drawn(0, images=1, rows=16, cols=16)
            endless = ArrayMaps("endless", np.broadcast_to(one, (images, *one.shape[1:])))
            tracemalloc.start()
            mean = STRATEGIES.build("mean")
            fuse([endless, endless], mean, lambda *_: None, size=8)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak

        few, many = peak(80), peak(1600)
        assert many < 1.5 * few

    def test_an_error_of_the_writer_comes_through(self):
        def write(block, _):
            raise BadMaps(f"no room for {block.start}")

        with pytest.raises(BadMaps, match="no room for 0"):
            fuse(readers(2), STRATEGIES.build("mean"), write)

    @pytest.mark.filterwarnings("ignore:invalid value encountered")
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("strategy", ["mean", "majority_vote", "median"])
    def test_names_the_member_and_image_that_hold_no_number(self, strategy, value):
        members = readers(3)
        members[1].array[5, 0, 2, 3] = value
        out = np.empty((7, CLASSES, 4, 5), np.float32)

        def write(block, fused):
            check_maps(fused, "float32")
            out[block] = fused

        context = {"classes": CLASSES, "ignore": 0, "kinds": ("probabilities",) * 3, "seed": 0}
        fusion = STRATEGIES.build(strategy, **context)
        words = r"^1\.npy holds NaN or infinite values in image 5; expected probabilities: "
        with pytest.raises(BadMaps, match=words):
            fuse(members, fusion, write, size=2)

    def test_keeps_to_one_thread_where_blocks_are_large(self):
        writers = set()

        def write(*_):
            time.sleep(0.002)
            writers.add(threading.get_ident())

        with memory_limit(1):
            fuse(readers(2), STRATEGIES.build("mean"), write, size=1)
        assert len(writers) == 1

    @pytest.mark.parametrize(("memory", "threads"), [(1, 1), (3, 3), (99, 8)])
    def test_has_as_many_blocks_under_way_as_memory_and_cores_allow(
        self, monkeypatch, memory, threads
    ):
        block_bytes = pixel_bytes(readers(2)) * 5 * 4 * 5
        monkeypatch.setattr("os.cpu_count", lambda: 8)
        asked = []

        def mapped(*_, threads, **__):
            asked.append(threads)
            return []

        monkeypatch.setattr("ensemble.block_fusion.map_blocks", mapped)
        with memory_limit(memory * block_bytes):
            fuse(readers(2), STRATEGIES.build("mean"), lambda *_: None, size=5)
        assert asked == [threads]


class TestAgreement:
    @pytest.mark.parametrize(
        ("other", "words"),
        [
            ({"images": 6}, "6 images of 3 classes and 4x5 pixels"),
            ({"rows": 5}, "7 images of 3 classes and 5x5 pixels"),
        ],
    )
    def test_names_the_member_that_differs(self, other, words):
        members = [*readers(2), ArrayMaps("odd.npy", drawn(2, **other))]
        expected = "expected 7 images of 3 classes and 4x5 pixels as in 0.npy"
        with pytest.raises(BadMaps) as caught:
            check_agreement(members)
        assert str(caught.value) == f"odd.npy holds {words}; {expected}"

    def test_names_the_member_with_another_number_of_classes(self):
        members = [ArrayMaps("a", drawn(0)), ArrayMaps("b", drawn(0)[:, :2])]
        with pytest.raises(BadMaps, match="b holds 7 images of 2 classes"):
            check_agreement(members)

    def test_refuses_no_members(self):
        with pytest.raises(BadMaps, match="no members to fuse"):
            check_agreement([])


def typed(dtype):
    maps = drawn(1)
    return np.rint(maps * 255).astype(np.uint8) if dtype == "uint8" else maps.astype(dtype)


class TestArrayMaps:
    @pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", ">f4"])
    def test_reads_every_type_as_probabilities(self, dtype):
        maps = ArrayMaps("a.npy", typed(dtype))
        maps.check()
        read = maps.read(slice(2, 5))
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, drawn(1)[2:5], atol=1 / 510 + 1e-6)

    @pytest.mark.parametrize("dtype", ["uint8", "float16"])
    def test_floors_at_half_of_the_smallest_value_that_the_type_tells_from_zero(self, dtype):
        maps = np.zeros((1, 2, 1, 1), dtype)
        maps[0, 0] = 1 if dtype == "uint8" else np.finfo(dtype).smallest_subnormal
        smallest = ArrayMaps("a.npy", maps).read(slice(0, 1))[0, 0, 0, 0]
        assert ArrayMaps("a.npy", maps).floor == pytest.approx(smallest / 2)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
    def test_has_a_floor_for_every_wider_type(self, dtype):
        assert 0 < ArrayMaps("a.npy", drawn(0).astype(dtype)).floor < 1e-6

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            pytest.param(
                np.zeros((2, 3, 4), np.float32), "has shape (2, 3, 4); expected", id="3-D"
            ),
            pytest.param(np.zeros((0, 3, 4, 4), np.float32), "has shape (0, 3, 4, 4)", id="empty"),
            pytest.param(
                np.ones((2, 1, 4, 4), np.float32), "has 1 class; expected 2", id="1 class"
            ),
            pytest.param(
                np.zeros((2, 3, 4, 4), int), "is int64; expected floating point", id="int"
            ),
            pytest.param(
                np.zeros((2, 3, 4, 4), bool), "is bool; expected floating point", id="bool"
            ),
            pytest.param(np.zeros((2, 3, 4, 4), complex), "is complex128", id="complex"),
        ],
    )
    def test_refuses_another_shape_or_type_before_reading(self, array, words):
        with pytest.raises(BadMaps) as caught:
            ArrayMaps("a.npy", array)
        assert str(caught.value).startswith("a.npy ")
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (np.nan, "NaN or infinite"),
            (np.inf, "NaN or infinite"),
            (1e300, "NaN or infinite"),
            (-0.5, "values go from -0.5"),
            (1.5, "to 1.5; expected probabilities"),
            (0.9, "expected 1"),
        ],
    )
    def test_check_finds_one_wrong_value_in_the_last_block(self, value, words):
        maps = drawn(0, images=130).astype(np.float64)
        maps[129, :, 3, 4] = 0.25
        maps[129, 1, 3, 4] = value
        with pytest.raises(BadMaps) as caught:
            ArrayMaps("late.npy", maps).check()
        assert str(caught.value).startswith("late.npy: ")
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("dtype", "tolerance"),
        [("uint8", CLASSES / 510 + 1e-3), ("float16", 5e-3), ("float32", 5e-3), ("float64", 5e-3)],
    )
    def test_allows_sums_what_the_type_can_be_off(self, dtype, tolerance):
        maps = np.full((1, CLASSES, 2, 2), 1 / CLASSES)
        if dtype == "uint8":
            within = (maps * 255 + [[[[0]], [[1]], [[0]]]]).astype(np.uint8)
            beyond = (maps * 255 + [[[[0]], [[2]], [[0]]]]).astype(np.uint8)
        else:
            within = (maps * (1 + 0.8 * tolerance)).astype(dtype)
            beyond = (maps * (1 + 1.5 * tolerance)).astype(dtype)
        ArrayMaps("a.npy", within).check()
        with pytest.raises(BadMaps, match=r"a.npy: .* expected 1"):
            ArrayMaps("a.npy", beyond).check()

    def test_specialists_need_not_sum_to_1(self):
        ArrayMaps("a.npy", np.full((1, 3, 2, 2), 0.9), "one_vs_rest").check()


class TestFitBlocks:
    def test_are_read_by_one_thread(self, monkeypatch):
        here = set()

        def slow(members, block):
            time.sleep(0.002)
            here.add(threading.get_ident())
            return read_members(members, block)

        monkeypatch.setattr("ensemble.block_fusion.read_members", slow)
        monkeypatch.setattr("os.cpu_count", lambda: 4)
        assert len(list(TrainingBlocks(readers(1), target_of(), size=1))) == 7
        assert len(here) == 1

    def test_gives_all_images_in_order_again_and_again(self):
        fit_blocks = TrainingBlocks(readers(2), target_of(), size=3)
        for _ in range(2):
            maps, target, _ = zip(*fit_blocks, strict=True)
            assert [len(part) for part in target] == [3, 3, 1]
            np.testing.assert_array_equal(np.concatenate(target), target_of())
            np.testing.assert_array_equal(np.concatenate(maps, axis=1)[1], drawn(1))

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            (
                target_of(images=6),
                "of shape (6, 4, 5); expected integers, 7 images of 4x5 pixels as in 0.npy",
            ),
            (target_of()[..., None], "of shape (7, 4, 5, 1); expected"),
            (target_of().astype(float), "target is float64 of shape (7, 4, 5); expected integers"),
            (target_of() + 1, "target contains [3]; expected 0 to 2 and 255"),
            (target_of() - 1, "target contains [-1]; expected 0 to 2 and 255"),
        ],
    )
    def test_refuses_target_that_does_not_fit(self, target, words):
        with pytest.raises(BadLabels) as caught:
            TrainingBlocks(readers(2), target)
        assert words in str(caught.value)

    def test_takes_pixels_that_annotators_left_out(self):
        target = target_of().astype(np.uint8)
        target[0, 0] = 255
        assert len(list(TrainingBlocks(readers(1), target))) == 1


def test_cross_fitted_images_are_fused_by_the_fusion_of_their_fold():
    fold_of = np.arange(150) % 3
    members = readers(2, images=150)
    weights = [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    context = {"classes": CLASSES, "ignore": 0, "kinds": ("probabilities",) * 2, "seed": 0}
    fusions = [STRATEGIES.build(f"weighted_mean(weights={list(w)})", **context) for w in weights]
    fused = np.zeros((150, CLASSES, 4, 5), np.float32)
    fuse(members, FusionPerImage(fusions, fold_of), fused.__setitem__)
    first, second = (member.array for member in members)
    for fold, (one, other) in enumerate(weights):
        chosen = fold_of == fold
        expected = one * first[chosen] + other * second[chosen]
        np.testing.assert_allclose(fused[chosen], expected, atol=1e-6)
