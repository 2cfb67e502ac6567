"""Foreign maps: each format is read, each oddity planted is found; a weak member raises none."""

import numpy as np
import pytest
import zarr
from PIL import Image

from evaluation.core.classes import MARS, UNLABELLED, Classes
from evaluation.core.errors import BadData, BadMaps
from members.data.sample import draw_sample
from members.external.formats import Stack, open_external
from members.external.inspection import KnownMaps, inspect_maps, match_by_id
from members.external.layout_inference import Orientation

CLASSES = len(MARS)
PATCH = 4


@pytest.fixture(scope="module")
def target():
    return draw_sample(images=8, test=8, validation=64, size=(16, 24)).validation_masks


@pytest.fixture(scope="module")
def squares(target):
    return target[:, :, :16]


def member(target, accuracy, seed, *, classes=CLASSES):
    """Draw maps of which patches, not pixels, are right or wrong, as a network's are."""
    rng = np.random.default_rng(seed)
    images, rows, cols = target.shape
    patches = (images, -(-rows // PATCH), -(-cols // PATCH))
    wrong = np.kron(rng.random(patches) > accuracy, np.ones((1, PATCH, PATCH), bool))
    other = np.kron(rng.integers(1, classes, patches), np.ones((1, PATCH, PATCH), int))
    pred = np.where(wrong[:, :rows, :cols], other[:, :rows, :cols], target % classes)
    certain = np.eye(classes, dtype=np.float32)[pred].transpose(0, 3, 1, 2)
    maps = 2 * certain + rng.random(certain.shape, dtype=np.float32)
    return (maps / maps.sum(axis=1, keepdims=True)).astype(np.float32)


def known(target):
    return KnownMaps("the target", lambda places: np.where(target == 0, UNLABELLED, target)[places])


def examined(maps, target, *, compared=True, classes=MARS, shape=None, ids=None):
    foreign = Stack("maps.npy", maps, ids)
    return inspect_maps(
        foreign,
        np.arange(len(maps)),
        classes=classes,
        shape=shape or target.shape[1:],
        known=known(target) if compared else None,
    )


def softmaxed(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


ODD = {
    "logits": (lambda maps: 3 * np.log(maps) + 1, "logits given as probabilities"),
    "percent": (lambda maps: 100 * maps, "sums that are not 1"),
    "sigmoids": (lambda maps: np.sqrt(maps), "sums that are not 1"),
    "two classes swapped": (
        lambda maps: maps[:, [0, 1, 3, 2, 4]],
        "a permuted class order (background, soil, bedrock, sand, big rock are channels 0, 1, 3, 2",
    ),
    "alphabetical": (lambda maps: maps[:, [0, 2, 4, 3, 1]], "a permuted class order"),
    "shifted by one": (lambda maps: maps[:, [1, 2, 3, 4, 0]], "classes shifted by one"),
    "upside down": (lambda maps: maps[..., ::-1, :], "rows upside down"),
    "mirrored": (lambda maps: maps[..., ::-1], "columns mirrored"),
    "turned by half": (
        lambda maps: maps[..., ::-1, ::-1],
        "rows upside down and columns mirrored",
    ),
    "swapped": (lambda maps: maps.swapaxes(2, 3), "rows and columns swapped"),
    "permuted and upside down": (
        lambda maps: maps[:, [0, 1, 3, 2, 4], ::-1],
        "rows upside down and a permuted class order",
    ),
    "no background": (
        lambda maps: maps[:, 1:] / maps[:, 1:].sum(axis=1, keepdims=True),
        "classes shifted by one (4 for 5: no 'background')",
    ),
    "one class more": (
        lambda maps: np.concatenate([np.zeros_like(maps[:, :1]), maps], axis=1),
        "classes shifted by one (6 for 5, of which 0 is too many)",
    ),
}


class TestWhatIsOdd:
    @pytest.mark.parametrize("name", ODD)
    @pytest.mark.parametrize("square", [False, True], ids=["oblong", "square"])
    def test_is_found_with_its_evidence_and_mended(self, target, squares, name, square):
        labels = squares if square else target
        maps = member(labels, 0.7, seed=1)
        plant, words = ODD[name]
        found = examined(np.ascontiguousarray(plant(maps)), labels)
        assert len(found.oddities) == 1
        assert words in found.oddities[0]
        mended = found.repair(plant(maps))
        expected = {"logits": softmaxed(3 * np.log(maps))}.get(name, maps)
        if name == "sigmoids":
            expected = np.sqrt(maps) / np.sqrt(maps).sum(axis=1, keepdims=True)
        if name == "no background":
            expected = np.where(np.arange(CLASSES)[:, None, None] == 0, 0, maps)
            expected = expected / expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(mended, expected, atol=1e-5)

    @pytest.mark.parametrize("name", ["two classes swapped", "upside down", "shifted by one"])
    def test_is_found_in_weak_maps_too(self, target, name):
        plant, words = ODD[name]
        found = examined(np.ascontiguousarray(plant(member(target, 0.5, seed=2))), target)
        assert words in found.oddities[0]

    def test_logits_in_a_wrong_order_are_two_oddities(self, target):
        maps = np.log(member(target, 0.7, seed=3))[:, [0, 1, 3, 2, 4]]
        first, second = examined(maps, target).oddities
        assert first.startswith("logits")
        assert second.startswith("a permuted class order")

    def test_beside_no_comparison_values_are_still_looked_at(self, target):
        found = examined(np.log(member(target, 0.7, seed=4)), target, compared=False)
        assert found.oddities[0].startswith("logits")
        assert found.notes[0].endswith("there are no other members and no target")

    def test_left_as_it_is_on_demand_it_is_noted(self, target):
        maps = member(target, 0.7, seed=1)[:, [0, 1, 3, 2, 4]]
        stack = Stack("maps.npy", maps, None)
        found = inspect_maps(
            stack,
            np.arange(len(maps)),
            classes=MARS,
            shape=target.shape[1:],
            known=known(target),
            as_is=True,
        )
        assert found.oddities == ()
        assert found.notes[0].startswith("taken as they are: a permuted class order")
        np.testing.assert_allclose(found.repair(maps), maps, atol=1e-6)


class TestFalseAlarms:
    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("accuracy", [0.4, 0.9])
    def test_no_clean_member_raises_one(self, squares, seed, accuracy):
        assert examined(member(squares, accuracy, seed), squares).oddities == ()

    @pytest.mark.parametrize("seed", range(12))
    def test_no_member_that_knows_nothing_raises_one(self, squares, seed):
        found = examined(member(squares, 0.0, seed), squares)
        assert found.oddities == ()

    @pytest.mark.parametrize("label", range(CLASSES))
    def test_a_member_that_sees_one_class_everywhere_raises_none(self, squares, label):
        only = np.full_like(squares, label)
        found = examined(member(only, 0.97, seed=label), squares)
        assert found.oddities == ()

    @pytest.mark.parametrize("seed", range(6))
    def test_few_images_raise_none(self, squares, seed):
        some = squares[seed * 8 : seed * 8 + 9]
        assert examined(member(some, 0.4, seed), some).oddities == ()

    def test_maps_of_other_images_are_noted_not_refused(self, squares):
        strangers = np.random.default_rng(0).permutation(squares)
        found = examined(member(strangers[:, ::-1], 0.1, seed=0), squares)
        assert found.oddities == ()

    def test_rounding_of_half_floats_is_none(self, target):
        maps = member(target, 0.7, seed=5).astype(np.float16)
        assert examined(maps, target).oddities == ()

    def test_bytes_are_probabilities_scaled_by_255(self, target):
        maps = member(target, 0.7, seed=5)
        found = examined(np.rint(maps * 255).astype(np.uint8), target)
        assert found.oddities == ()
        mended = found.repair(np.rint(maps * 255).astype(np.uint8))
        np.testing.assert_allclose(mended, maps, atol=0.01)


class TestWhatCannotBeMended:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda m: np.where(m == m.max(), np.nan, m), "NaN or infinite values (first in"),
            (lambda m: m[:, :3], "holds 3 classes; expected 5"),
            (lambda m: m[:, :, :9], "images of 9 x 24 pixels; expected 16 x 24"),
            (lambda m: (m[:, 0] * 0 + 7).astype(int), "labels from 7 to 7; expected 0 to 4"),
            (lambda m: m.astype(complex), "is complex128 of shape"),
            (lambda m: np.roll(m[:, :4], 31, axis=0), "however they are laid"),
        ],
        ids=["NaN", "classes", "pixels", "labels", "type", "junk"],
    )
    def test_is_refused(self, target, change, words):
        with pytest.raises(BadMaps, match=r"maps\.npy") as refused:
            examined(change(member(target, 0.7, seed=6)), target)
        assert words in str(refused.value)

    def test_a_class_more_needs_something_to_compare_with(self, target):
        maps = member(target, 0.7, seed=6)
        more = np.concatenate([maps, maps[:, :1]], axis=1)
        with pytest.raises(BadMaps, match="nothing to compare with"):
            examined(more, target, compared=False)


class TestLabels:
    def test_become_certain_maps(self, target):
        found = examined(target.astype(np.int64), target)
        assert found.oddities == ()
        maps = found.repair(target)
        np.testing.assert_array_equal(maps.argmax(axis=1), target)
        assert set(np.unique(maps)) == {0, 1}

    def test_from_one_on_are_shifted(self, target):
        for compared in (True, False):
            found = examined(target.astype(np.int64) + 1, target, compared=compared)
            assert found.oddities[0].startswith("classes shifted by one")
            np.testing.assert_array_equal(found.repair(target + 1).argmax(axis=1), target)


class TestFormats:
    @pytest.fixture
    def maps(self):
        rng = np.random.default_rng(0)
        maps = rng.random((5, 3, 4, 6), dtype=np.float32)
        return maps / maps.sum(axis=1, keepdims=True)

    def check(self, paths, maps, ids=None):
        foreign = open_external(paths)
        order = range(5) if foreign.ids is None else match_by_id(foreign, ids or list("abcde"))[0]
        np.testing.assert_array_equal(foreign.read(np.array(order)), maps)
        return foreign

    def test_a_stack_without_ids(self, tmp_path, maps):
        np.save(tmp_path / "maps.npy", maps)
        assert self.check([tmp_path / "maps.npy"], maps).ids is None

    def test_a_stack_with_ids_in_another_order(self, tmp_path, maps):
        np.savez(tmp_path / "maps.npz", maps=maps[::-1], ids=list("edcba"))
        self.check([tmp_path / "maps.npz"], maps)

    def test_a_zarr_array_with_ids(self, tmp_path, maps):
        array = zarr.create_array(tmp_path / "maps.zarr", shape=maps.shape, dtype="float32")
        array[:] = maps[::-1]
        array.attrs["ids"] = list("edcba")
        self.check([tmp_path / "maps.zarr"], maps)

    def test_one_file_per_image(self, tmp_path, maps):
        for name, one in zip("abcde", maps, strict=True):
            np.save(tmp_path / f"{name}.npy", one)
        self.check([tmp_path], maps)
        self.check([tmp_path / f"{name}.npy" for name in "ecadb"], maps)

    def test_nn_unet_of_one_slice_a_case(self, tmp_path, maps):
        for name, one in zip("abcde", maps, strict=True):
            np.savez_compressed(tmp_path / f"{name}.npz", probabilities=one[:, None])
        self.check([tmp_path], maps)

    def test_nn_unet_of_several_slices_a_case(self, tmp_path, maps):
        np.savez_compressed(tmp_path / "x.npz", probabilities=maps[:2].swapaxes(0, 1))
        np.savez_compressed(tmp_path / "y.npz", probabilities=maps[2:].swapaxes(0, 1))
        self.check([tmp_path], maps, ["x-0", "x-1", "y-0", "y-1", "y-2"])

    def test_png_label_maps(self, tmp_path, maps):
        labels = maps.argmax(axis=1)
        for name, one in zip("abcde", labels, strict=True):
            Image.fromarray(one.astype(np.uint8)).save(tmp_path / f"{name}.png")
        assert self.check([tmp_path], labels).labels

    @pytest.mark.parametrize(
        ("write", "words"),
        [
            (lambda d, m: np.savez(d / "m.npz", m=m, n=m), "holds m.npy, n.npy"),
            (lambda d, m: np.savez(d / "m.npz", m=m, ids=["a"]), "1 ids for 5 images"),
            (lambda d, m: (d / "m.txt").write_text("x"), "m.txt is no map file; expected .npy"),
            (lambda d, m: (d / "m.png").write_text("x"), "m.png is no readable image"),
            (lambda d, m: Image.new("RGB", (6, 4)).save(d / "m.png"), "m.png is RGB; expected one"),
            (lambda d, m: (d / "m.npz").write_text("x"), "is no readable .npz"),
            (lambda d, m: None, "m.npy is missing"),
        ],
    )
    def test_files_that_are_none_are_named(self, tmp_path, maps, write, words):
        write(tmp_path, maps)
        found = sorted(tmp_path.iterdir()) or [tmp_path / "m.npy"]
        with pytest.raises((BadMaps, BadData)) as refused:
            open_external(found).read(np.array([0]))
        assert words.replace(".npy, n.npy", ", n") in str(refused.value)

    def test_an_image_of_another_size_is_named(self, tmp_path, maps):
        np.save(tmp_path / "a.npy", maps[0])
        np.save(tmp_path / "b.npy", maps[1, :, :2])
        with pytest.raises(BadMaps, match=r"b\.npy holds float32 of shape"):
            open_external([tmp_path]).read(np.array([0, 1]))


class TestIds:
    def test_missing_ones_are_counted_and_the_first_is_named(self):
        stack = Stack("maps.npz", np.ones((2, 2, 3, 3)), ("a", "x"))
        with pytest.raises(BadMaps, match=r"lacks 2 of 3 images \(first: 'b'; its own are 'a'"):
            match_by_id(stack, ["a", "b", "c"])

    def test_those_of_none_of_ours_are_odd(self):
        stack = Stack("maps.npz", np.ones((3, 2, 3, 3)), ("b", "x", "a"))
        places, odd = match_by_id(stack, ["a", "b"])
        assert places.tolist() == [2, 0]
        assert odd == ("ids that do not match: 1 of 3 images are none of the split (first: 'x')")

    def test_a_stack_without_them_must_have_as_many(self):
        with pytest.raises(BadMaps, match="holds 3 images without ids; expected the split's 2"):
            match_by_id(Stack("maps.npy", np.ones((3, 2, 3, 3)), None), ["a", "b"])


class TestTurns:
    @pytest.mark.parametrize("seed", range(3))
    def test_many_classes_are_told_apart(self, seed):
        rng = np.random.default_rng(seed)
        target = np.kron(rng.integers(0, 19, (64, 4, 4)), np.ones((1, 4, 4), int))
        classes = Classes(tuple(map(str, range(19))))
        clean = member(target, 0.6, seed, classes=19)
        odd = Orientation(swapped=True)(clean[:, rng.permutation(19)])
        assert examined(clean, target + 0, classes=classes).oddities == ()
        assert "swapped and a permuted" in examined(odd, target, classes=classes).oddities[0]
