"""The probability store: what is written is read back, and damaged chunks never are."""

import json

import numpy as np
import pytest
import zarr

from evaluation.core.blocks import blocks
from evaluation.core.classes import MARS
from evaluation.core.errors import BadMaps, BadRun
from evaluation.core.files import read_json
from evaluation.core.provenance import RECORD
from evaluation.core.ragged import Extent
from members.probabilities import sum_tolerance
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds

ROUNDING = {"float16": 2.5e-4, "uint8": 2e-3, "float32": 1e-7, "compact": 2e-3}
IMAGES = 70  # one whole chunk and a part


def random_maps():
    maps = np.random.default_rng(0).random((IMAGES, 5, 2, 3), dtype=np.float32) ** 8
    return maps / maps.sum(axis=1, keepdims=True)


def created(folder, dtype="float16", seen=None, **more):
    ids = [f"p{k:03}" for k in range(IMAGES)]
    return ProbabilityStore.create(
        folder,
        ids=ids,
        classes=MARS,
        extent=Extent.uniform(len(ids), (2, 3)),
        seen=seen,
        dtype=dtype,
        **more,
    )


def chunk(store, number):
    return store.folder / "maps.zarr" / "c" / str(number) / "0" / "0" / "0"


@pytest.fixture
def filled(tmp_path):
    store = created(tmp_path / "unet" / "oof")
    for block in blocks(IMAGES):
        store.write(block, random_maps()[block])
    return store


@pytest.mark.parametrize("dtype", sorted(ROUNDING))
class TestEveryDtype:
    def test_maps_are_read_as_written_up_to_rounding(self, dtype, tmp_path):
        store = created(tmp_path, dtype)
        for block in blocks(IMAGES):
            store.write(block, random_maps()[block])
        read = ProbabilityStore(tmp_path).read(slice(0, IMAGES))
        np.testing.assert_allclose(read, random_maps(), atol=ROUNDING[dtype])

    def test_what_was_read_may_be_written_again(self, dtype, tmp_path):
        store = created(tmp_path, dtype)
        store.write(blocks(IMAGES)[0], random_maps()[:64])
        again = created(tmp_path / "again", dtype)
        again.write(blocks(IMAGES)[0], store.read(slice(0, 64)))
        np.testing.assert_array_equal(again.read(slice(0, 64)), store.read(slice(0, 64)))

    def test_no_stored_probability_lies_below_the_floor(self, dtype, tmp_path):
        store = created(tmp_path, dtype)
        tiny = np.float32(store.floor / 1.01)
        maps = np.array([tiny, 1 - tiny], np.float32).reshape(1, 2, 1, 1)
        maps = np.pad(np.broadcast_to(maps, (64, 2, 2, 3)), [(0, 0), (0, 3), (0, 0), (0, 0)])
        store.write(blocks(IMAGES)[0], maps)
        read = store.read(slice(0, 64))
        assert ((read == 0) | (read >= store.floor) | (dtype == "float32")).all()


def test_reading_a_slice_is_slicing_the_whole(filled):
    whole = filled.read(slice(None))
    np.testing.assert_array_equal(filled.read(slice(60, 67)), whole[60:67])


def test_zarr_alone_reads_the_same(filled):
    alone = zarr.open_array(filled.folder / "maps.zarr", mode="r")[:]
    np.testing.assert_array_equal(filled.read(slice(None)), alone.astype(np.float32))


def test_zarr_alone_reads_each_size(mixed):
    group = zarr.open_group(mixed.folder / "maps.zarr", mode="r")
    assert sorted(group.array_keys()) == ["000000", "000070", "000071"]
    for run, _ in SIZES.slices():
        alone = group[f"{run.start:06d}"][:]
        np.testing.assert_array_equal(mixed.read(run), alone.astype(np.float32))


def test_metadata_survive(filled):
    again = ProbabilityStore(filled.folder)
    assert (again.ids, again.classes, again.kind, again.dtype) == (
        filled.ids,
        MARS,
        "probabilities",
        "float16",
    )
    assert (again.extent, again.num_classes) == (Extent.uniform(IMAGES, (2, 3)), 5)
    assert again.name == "unet/oof"


def test_which_images_they_are_of_is_held_once_for_all_stores_of_a_split(tmp_path):
    seen = TrainingIds((frozenset(["p000"]),))
    one, other = (created(tmp_path / name, seen=seen) for name in "ab")
    assert one.ids is other.ids
    assert one.seen is other.seen
    assert created(tmp_path / "c").seen is None


def test_metadata_that_name_the_images_themselves_are_read(tmp_path):
    store = created(tmp_path, seen=TrainingIds((frozenset(["p000"]),), (0,) * IMAGES))
    described = tmp_path / "store.json"
    document = {**read_json(described), **read_json(tmp_path / "images.json")}
    del document["images"]
    described.write_text(json.dumps(document))
    again = ProbabilityStore(tmp_path)
    assert (again.ids, again.seen) == (store.ids, store.seen)


def test_other_images_than_the_metadata_name_are_damage(tmp_path):
    created(tmp_path)
    images = tmp_path / "images.json"
    images.write_text(images.read_text().replace("p000", "q000"))
    described = tmp_path / "store.json"
    digest = read_json(described)["images"]
    described.write_text(described.read_text().replace(digest, "0" * 64))
    with pytest.raises(BadRun, match=r"images.json is not what store.json names"):
        ProbabilityStore(tmp_path)


class TestDamage:
    def test_a_block_that_was_never_written_is_missing_and_cannot_be_read(self, tmp_path):
        store = created(tmp_path)
        store.write(slice(0, 64), random_maps()[:64])
        assert store.missing_blocks() == [slice(64, 70)]
        with pytest.raises(BadRun, match="images from 64 on are missing; run again"):
            store.read(slice(60, 66))
        assert len(store.read(slice(0, 64))) == 64

    def test_a_flipped_bit_is_found_by_the_checksum(self, filled):
        damaged = bytearray(chunk(filled, 0).read_bytes())
        damaged[100] ^= 1
        chunk(filled, 0).write_bytes(damaged)
        with pytest.raises(BadRun, match=r"from 0 on are damaged .the checksum of .* does"):
            ProbabilityStore(filled.folder).read(slice(0, 1))
        assert len(ProbabilityStore(filled.folder).read(slice(64, 70))) == 6

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda whole: whole[:1000], "is too short"),
            (lambda whole: whole[:-2], "is too short"),
            (lambda whole: whole + b"1", "is too long"),
        ],
        ids=["values are missing", "the checksum is cut", "too many bytes"],
    )
    def test_a_chunk_of_another_length_is_damaged(self, filled, change, words):
        chunk(filled, 1).write_bytes(change(chunk(filled, 1).read_bytes()))
        with pytest.raises(BadRun, match=f"images from 64 on are damaged .*/1/0/0/0 {words}"):
            filled.read(slice(None))

    def test_a_chunk_that_was_written_and_lost_is_damaged(self, filled):
        chunk(filled, 0).unlink()
        with pytest.raises(BadRun, match=r"are damaged .* is not there.; remove the folder"):
            filled.read(slice(0, 3))

    def test_a_chunk_of_zeros_is_not_a_lost_one(self, tmp_path):
        created(tmp_path, label=1, kind="one_vs_rest")
        store = ProbabilityStore(tmp_path)
        store.write(slice(0, 64), np.zeros((64, 1, 2, 3), np.float32))
        assert not store.read(slice(0, 64)).any()

    def test_the_last_batch_of_a_damaged_chunk_is_never_given(self, filled):
        damaged = bytearray(chunk(filled, 0).read_bytes())
        damaged[-10] ^= 1
        chunk(filled, 0).write_bytes(damaged)
        outs = [np.empty((count, 5, 2, 3), np.float32) for count in (10, 54, 6)]
        batches = filled.stream(slice(None), outs)
        next(batches)
        with pytest.raises(BadRun, match="the checksum"):
            next(batches)

    def test_a_folder_without_a_store_is_refused(self, tmp_path):
        with pytest.raises(BadRun, match="holds no probability store"):
            ProbabilityStore(tmp_path)


class TestWriting:
    def write(self, folder, maps, name="unet"):
        ids = [f"p{k}" for k in range(IMAGES)]
        record = {"config": {"member": name}, "input_digests": {"data": "0" * 64}}
        options = {
            "ids": ids,
            "classes": MARS,
            "seen": None,
            "extent": Extent.uniform(IMAGES, (2, 3)),
        }
        with ProbabilityStore.writing(folder, **record, **options) as store:
            for block in blocks(IMAGES):
                store.write(block, maps[block])

    def test_a_store_that_was_written_has_its_provenance(self, tmp_path):
        self.write(tmp_path / "oof", random_maps())
        document = read_json(tmp_path / "oof" / RECORD)
        assert (document["asked"], document["inputs"]) == ({"member": "unet"}, {"data": "0" * 64})
        assert ProbabilityStore(tmp_path / "oof").missing_blocks() == []

    def test_after_an_error_the_old_store_is_still_there(self, tmp_path):
        self.write(tmp_path / "oof", random_maps())
        with pytest.raises(BadMaps, match="sum to"):
            self.write(tmp_path / "oof", 0.9 * random_maps(), "other")
        assert read_json(tmp_path / "oof" / RECORD)["asked"] == {"member": "unet"}
        assert [path.name for path in tmp_path.iterdir()] == ["oof"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda maps: maps * 0.95, "sum to"),
            (lambda maps: np.where(maps == maps.max(), np.nan, maps), "1 values are NaN"),
            (lambda maps: maps - 0.01, "expected probabilities from 0 to 1"),
        ],
        ids=["sums", "NaN", "negative"],
    )
    def test_maps_that_are_no_probabilities_are_refused(self, tmp_path, change, words):
        store = created(tmp_path)
        with pytest.raises(BadMaps, match=words):
            store.write(slice(0, 64), change(random_maps()[:64]).astype(np.float32))
        assert store.missing_blocks() == blocks(IMAGES)

    def test_ids_that_repeat_are_refused(self, tmp_path):
        with pytest.raises(BadMaps, match="ids repeat"):
            ProbabilityStore.create(
                tmp_path, ids=["a", "a"], classes=MARS, extent=Extent.uniform(2, (2, 3)), seen=None
            )

    def test_the_tolerance_of_sums_depends_on_the_dtype(self):
        assert sum_tolerance("uint8", 5) == pytest.approx(5 / 510 + 1e-3)
        assert sum_tolerance("uint8", 2) == 5e-3
        assert {sum_tolerance(f"float{bits}", 5) for bits in (16, 32, 64)} == {5e-3}


class TestTrainingIds:
    def test_out_of_fold_maps_come_from_models_that_were_not_trained_on_the_image(self):
        seen = TrainingIds((frozenset("cd"), frozenset("ab")), (0, 0, 1, 1))
        assert not seen.mask("abcd").any()

    def test_an_image_predicted_by_a_model_trained_on_it_is_marked(self):
        seen = TrainingIds((frozenset("cd"), frozenset("ab")), (0, 1, 1, 0))
        assert seen.mask("abcd").tolist() == [False, True, False, True]

    def test_maps_of_all_models_together_were_trained_on_what_any_of_them_was(self):
        seen = TrainingIds((frozenset("cd"), frozenset("ab")))
        assert seen.mask("abxd").tolist() == [True, True, False, True]

    def test_training_ids_are_saved_and_may_be_undeclared(self, tmp_path):
        seen = TrainingIds((frozenset(["p000"]),))
        assert created(tmp_path / "declared", seen=seen).trained_on_mask().sum() == 1
        assert ProbabilityStore(tmp_path / "declared").seen == seen
        assert created(tmp_path / "undeclared").trained_on_mask() is None


SIZES = Extent(((70, (4, 6)), (1, (2, 3)), (3, (800, 900))))


def of_size(count, size):
    maps = np.random.default_rng(count).random((count, 5, *size), dtype=np.float32) + 0.1
    return maps / maps.sum(axis=1, keepdims=True)


@pytest.fixture
def mixed(tmp_path):
    ids = [f"p{k:03}" for k in range(len(SIZES))]
    store = ProbabilityStore.create(
        tmp_path / "mixed", ids=ids, classes=MARS, extent=SIZES, seen=None
    )
    assert [block.start for block in blocks(SIZES)] == [0, 64, 70, 71, 72, 73]
    assert store.missing_blocks() == blocks(SIZES)
    for run, size in SIZES.slices():
        maps = of_size(run.stop - run.start, size)
        for block in blocks(SIZES):
            if run.start <= block.start < run.stop:
                store.write(block, maps[block.start - run.start : block.stop - run.start])
    return ProbabilityStore(store.folder)


class TestSeveralSizes:
    def test_images_of_each_size_read_back(self, mixed):
        assert mixed.missing_blocks() == []
        for run, size in SIZES.slices():
            expected = of_size(run.stop - run.start, size)
            np.testing.assert_allclose(mixed.read(run), expected, atol=3e-4)
            last = slice(run.stop - 1, run.stop)
            np.testing.assert_array_equal(mixed.read(last), mixed.read(run)[-1:])

    def test_sizes_are_kept(self, mixed):
        assert mixed.extent == SIZES
        assert len(mixed) == len(mixed.ids) == 74

    def test_damage_names_the_image(self, mixed):
        chunk_file = mixed.folder / "maps.zarr" / "000071" / "c.1.0.0.0"
        chunk_file.write_bytes(chunk_file.read_bytes()[:-1])
        assert mixed.read(slice(71, 72)).shape == (1, 5, 800, 900)
        with pytest.raises(BadRun, match="images from 72 on are damaged"):
            mixed.read(slice(72, 73))
