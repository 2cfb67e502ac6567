"""External maps: each format is read, each planted problem is found; weak members have none."""

from unicodedata import normalize

import numpy as np
import pytest
import zarr
from PIL import Image

from evaluation.core.classes import MARS, UNLABELLED, Classes
from evaluation.core.errors import BadData, BadMaps
from evaluation.core.ragged import Extent
from members.data.sample import draw_sample
from members.external.formats import StackedMaps, open_external
from members.external.inspection import KnownMaps, inspect_maps, match_by_id
from members.external.layout_inference import Orientation
from tests.members.data.png_files import orientation_chunk, write_png

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
    return KnownMaps(
        "the target", lambda indices: np.where(target == 0, UNLABELLED, target)[indices]
    )


def inspected(maps, target, *, compared=True, classes=MARS, shape=None, ids=None):
    external = StackedMaps("maps.npy", maps, ids)
    return inspect_maps(
        external,
        np.arange(len(maps)),
        classes=classes,
        extent=Extent.uniform(len(maps), shape or target.shape[1:]),
        known=known(target) if compared else None,
    )


def softmaxed(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


PROBLEMS = {
    "logits": (lambda maps: 3 * np.log(maps) + 1, "logits given as probabilities"),
    "percent": (lambda maps: 100 * maps, "sums that are not 1"),
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
    "one class more at the end": (
        lambda maps: np.concatenate([maps, np.zeros_like(maps[:, :1])], axis=1),
        "one class too many (6 for 5, of which 5 is too many)",
    ),
    "one class more": (
        lambda maps: np.concatenate([np.zeros_like(maps[:, :1]), maps], axis=1),
        "classes shifted by one (6 for 5, of which 0 is too many)",
    ),
}


class TestProblems:
    @pytest.mark.parametrize("name", PROBLEMS)
    @pytest.mark.parametrize("square", [False, True], ids=["oblong", "square"])
    def test_a_problem_is_found_with_its_evidence_and_repaired(self, target, squares, name, square):
        labels = squares if square else target
        maps = member(labels, 0.7, seed=1)
        plant, words = PROBLEMS[name]
        report = inspected(np.ascontiguousarray(plant(maps)), labels)
        assert len(report.problems) == 1
        assert words in report.problems[0]
        repaired = report.repair(plant(maps))
        expected = {"logits": softmaxed(3 * np.log(maps))}.get(name, maps)
        if name == "no background":
            expected = np.where(np.arange(CLASSES)[:, None, None] == 0, 0, maps)
            expected = expected / expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(repaired, expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("missing", "words"),
        [
            (2, "classes shifted by one (4 for 5: no 'bedrock')"),
            (3, "classes shifted by one (4 for 5: no 'sand')"),
            (4, "one class missing (4 for 5: no 'big rock')"),
        ],
    )
    def test_only_a_class_with_others_behind_it_shifts_them_when_missing(self, missing, words):
        patches = np.random.default_rng(0).integers(0, CLASSES, (64, 4, 6), np.uint8)
        target = patches.repeat(PATCH, axis=1).repeat(PATCH, axis=2)
        maps = np.delete(member(target, 0.7, seed=1), missing, axis=1)
        report = inspected(maps / maps.sum(axis=1, keepdims=True), target)
        assert words in report.problems[0]

    @pytest.mark.parametrize("name", ["two classes swapped", "upside down", "shifted by one"])
    def test_a_problem_is_found_in_weak_maps_too(self, target, name):
        plant, words = PROBLEMS[name]
        report = inspected(np.ascontiguousarray(plant(member(target, 0.5, seed=2))), target)
        assert words in report.problems[0]

    def test_logits_in_a_wrong_order_are_two_problems(self, target):
        maps = np.log(member(target, 0.7, seed=3))[:, [0, 1, 3, 2, 4]]
        first, second = inspected(maps, target).problems
        assert first.startswith("logits")
        assert second.startswith("a permuted class order")

    def test_values_are_checked_without_a_comparison_too(self, target):
        report = inspected(np.log(member(target, 0.7, seed=4)), target, compared=False)
        assert report.problems[0].startswith("logits")
        assert report.notes[0].endswith("there are no other members and no target")

    def test_a_layout_kept_on_demand_is_noted(self, target):
        maps = member(target, 0.7, seed=1)[:, [0, 1, 3, 2, 4]]
        stack = StackedMaps("maps.npy", maps, None)
        report = inspect_maps(
            stack,
            np.arange(len(maps)),
            classes=MARS,
            extent=Extent.uniform(len(maps), target.shape[1:]),
            known=known(target),
            no_checks=True,
        )
        assert report.problems == ()
        assert report.notes[0].startswith("taken as they are: a permuted class order")
        np.testing.assert_allclose(report.repair(maps), maps, atol=1e-6)


class TestFalseAlarms:
    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("accuracy", [0.4, 0.9])
    def test_a_clean_member_has_no_problem(self, squares, seed, accuracy):
        assert inspected(member(squares, accuracy, seed), squares).problems == ()

    @pytest.mark.parametrize("seed", range(12))
    def test_a_member_at_chance_has_no_problem(self, squares, seed):
        report = inspected(member(squares, 0.0, seed), squares)
        assert report.problems == ()

    @pytest.mark.parametrize("label", range(CLASSES))
    def test_a_member_that_predicts_one_class_everywhere_has_no_problem(self, squares, label):
        only = np.full_like(squares, label)
        report = inspected(member(only, 0.97, seed=label), squares)
        assert report.problems == ()

    @pytest.mark.parametrize("seed", range(6))
    def test_few_images_have_no_problem(self, squares, seed):
        some = squares[seed * 8 : seed * 8 + 9]
        assert inspected(member(some, 0.4, seed), some).problems == ()

    def test_maps_of_other_images_are_noted_not_refused(self, squares):
        others = np.random.default_rng(0).permutation(squares)
        report = inspected(member(others[:, ::-1], 0.1, seed=0), squares)
        assert report.problems == ()

    def test_rounding_of_half_floats_is_no_problem(self, target):
        maps = member(target, 0.7, seed=5).astype(np.float16)
        assert inspected(maps, target).problems == ()

    def test_bytes_are_probabilities_scaled_by_255(self, target):
        maps = member(target, 0.7, seed=5)
        report = inspected(np.rint(maps * 255).astype(np.uint8), target)
        assert report.problems == ()
        repaired = report.repair(np.rint(maps * 255).astype(np.uint8))
        np.testing.assert_allclose(repaired, maps, atol=0.01)


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda m: np.where(m == m.max(), np.nan, m), "NaN or infinite values (first in"),
            (lambda m: m[:, :3], "holds 3 classes; expected 5"),
            (lambda m: m[:, :, :9], "images of 9 x 24 pixels; expected 16 x 24"),
            (lambda m: (m[:, 0] * 0 + 7).astype(int), "labels from 7 to 7; expected 0 to 4"),
            (lambda m: m.astype(complex), "is complex128 of shape"),
            (lambda m: np.roll(m[:, :4], 31, axis=0), "in any layout they agree"),
        ],
        ids=["NaN", "classes", "pixels", "labels", "type", "junk"],
    )
    def test_maps_that_cannot_be_repaired_are_refused(self, target, change, words):
        with pytest.raises(BadMaps, match=r"maps\.npy") as refused:
            inspected(change(member(target, 0.7, seed=6)), target)
        assert words in str(refused.value)

    def test_an_extra_class_needs_something_to_compare_with(self, target):
        maps = member(target, 0.7, seed=6)
        more = np.concatenate([maps, 0 * maps[:, :1]], axis=1)
        with pytest.raises(BadMaps, match="nothing to compare with"):
            inspected(more, target, compared=False)


class TestLabels:
    def test_labels_become_certain_maps(self, target):
        report = inspected(target.astype(np.int64), target)
        assert report.problems == ()
        maps = report.repair(target)
        np.testing.assert_array_equal(maps.argmax(axis=1), target)
        assert set(np.unique(maps)) == {0, 1}

    def test_labels_from_one_on_are_shifted(self, target):
        for compared in (True, False):
            report = inspected(target.astype(np.int64) + 1, target, compared=compared)
            assert report.problems[0].startswith("classes shifted by one")
            np.testing.assert_array_equal(report.repair(target + 1).argmax(axis=1), target)


class TestFormats:
    @pytest.fixture
    def maps(self):
        rng = np.random.default_rng(0)
        maps = rng.random((5, 3, 4, 6), dtype=np.float32)
        return maps / maps.sum(axis=1, keepdims=True)

    def check(self, paths, maps, ids=None):
        external = open_external(paths)
        order = (
            range(5)
            if external.ids is None
            else match_by_id(external, ids or list("abcde")).indices
        )
        np.testing.assert_array_equal(external.read(np.array(order)), maps)
        return external

    def test_a_stack_without_ids_is_read(self, tmp_path, maps):
        np.save(tmp_path / "maps.npy", maps)
        assert self.check([tmp_path / "maps.npy"], maps).ids is None

    def test_a_stack_with_ids_in_another_order_is_read(self, tmp_path, maps):
        np.savez(tmp_path / "maps.npz", maps=maps[::-1], ids=list("edcba"))
        self.check([tmp_path / "maps.npz"], maps)

    def test_a_zarr_array_with_ids_is_read(self, tmp_path, maps):
        array = zarr.create_array(tmp_path / "maps.zarr", shape=maps.shape, dtype="float32")
        array[:] = maps[::-1]
        array.attrs["ids"] = list("edcba")
        self.check([tmp_path / "maps.zarr"], maps)

    def test_one_file_per_image_is_read(self, tmp_path, maps):
        for name, one in zip("abcde", maps, strict=True):
            np.save(tmp_path / f"{name}.npy", one)
        self.check([tmp_path], maps)
        self.check([tmp_path / f"{name}.npy" for name in "ecadb"], maps)

    def test_nn_unet_files_of_one_slice_per_case_are_read(self, tmp_path, maps):
        for name, one in zip("abcde", maps, strict=True):
            np.savez_compressed(tmp_path / f"{name}.npz", probabilities=one[:, None])
        self.check([tmp_path], maps)

    def test_nn_unet_files_of_several_slices_per_case_are_read(self, tmp_path, maps):
        np.savez_compressed(tmp_path / "x.npz", probabilities=maps[:2].swapaxes(0, 1))
        np.savez_compressed(tmp_path / "y.npz", probabilities=maps[2:].swapaxes(0, 1))
        self.check([tmp_path], maps, ["x-0", "x-1", "y-0", "y-1", "y-2"])

    def test_png_label_maps_are_read(self, tmp_path, maps):
        labels = maps.argmax(axis=1)
        for name, one in zip("abcde", labels, strict=True):
            Image.fromarray(one.astype(np.uint8)).save(tmp_path / f"{name}.png")
        assert self.check([tmp_path], labels).is_labels

    @pytest.mark.parametrize("name", ["{}.PNG", "{}.tif", "{}.bmp"])
    def test_label_maps_of_other_formats_and_capitals_are_read(self, tmp_path, maps, name):
        labels = maps.argmax(axis=1)
        for stem, one in zip("abcde", labels, strict=True):
            Image.fromarray(one.astype(np.uint8)).save(tmp_path / name.format(stem))
        assert self.check([tmp_path], labels).is_labels
        self.check(sorted(tmp_path.iterdir()), labels)

    def test_label_maps_give_stored_values_turned_as_viewed(self, tmp_path):
        labels = np.arange(4).reshape(2, 2).repeat(2, axis=1)
        write_png(tmp_path / "a.png", labels, 2)
        write_png(tmp_path / "b.png", labels, 2, chunks=[orientation_chunk(3)])
        read = open_external([tmp_path]).read(np.array([0, 1]))
        np.testing.assert_array_equal(read, [labels, labels[::-1, ::-1]])

    def test_accents_match_however_they_are_written(self, tmp_path, maps):
        np.save(tmp_path / f"{normalize('NFD', 'é')}.npy", maps[0])
        for spelling in ("NFC", "NFD"):
            match = match_by_id(open_external([tmp_path]), [normalize(spelling, "é")])
            assert (match.indices.tolist(), match.problem, match.note) == ([0], "", "")

    @pytest.mark.parametrize(
        ("write", "words"),
        [
            (lambda d, m: np.savez(d / "m.npz", m=m, n=m), "holds m.npy, n.npy"),
            (lambda d, m: np.savez(d / "m.npz", m=m, ids=["a"]), "1 ids for 5 images"),
            (lambda d, m: (d / "m.txt").write_text("x"), "m.txt is no map file; expected .npy"),
            (lambda d, m: (d / "m.png").write_text("x"), "m.png is no readable image"),
            (
                lambda d, m: Image.new("RGB", (6, 4)).save(d / "m.png"),
                "m.png has mode RGB; expected",
            ),
            (lambda d, m: (d / "m.npz").write_text("x"), "is no readable .npz"),
            (lambda d, m: None, "m.npy is missing"),
        ],
    )
    def test_malformed_files_are_refused_by_name(self, tmp_path, maps, write, words):
        write(tmp_path, maps)
        found = sorted(tmp_path.iterdir()) or [tmp_path / "m.npy"]
        with pytest.raises((BadMaps, BadData)) as refused:
            open_external(found).read(np.array([0]))
        assert words.replace(".npy, n.npy", ", n") in str(refused.value)

    def test_images_may_have_several_sizes_but_not_classes(self, tmp_path, maps):
        np.save(tmp_path / "a.npy", maps[0])
        np.save(tmp_path / "b.npy", maps[1, :, :2])
        external = open_external([tmp_path])
        assert external.extent.sizes == [(4, 6), (2, 6)]
        np.testing.assert_array_equal(external.read(np.array([1]))[0], maps[1, :, :2])
        np.save(tmp_path / "c.npy", maps[1, :2])
        with pytest.raises(BadMaps, match=r"c\.npy holds float32 of shape"):
            open_external([tmp_path]).read(np.array([2]))


class TestIds:
    def test_missing_ids_are_counted_and_the_first_is_named(self):
        stack = StackedMaps("maps.npz", np.ones((2, 2, 3, 3)), ("a", "x"))
        with pytest.raises(BadMaps, match=r"lacks 2 of 3 images \(first: 'b'; its own are 'a'"):
            match_by_id(stack, ["a", "b", "c"])

    def test_ids_outside_the_split_are_a_problem(self):
        stack = StackedMaps("maps.npz", np.ones((3, 2, 3, 3)), ("b", "x", "a"))
        match = match_by_id(stack, ["a", "b"])
        assert match.indices.tolist() == [2, 0]
        assert match.problem == (
            "ids that do not match: 1 of 3 images are not in the split (first: 'x')"
        )

    def test_a_stack_without_ids_must_have_as_many_images(self):
        with pytest.raises(BadMaps, match="holds 3 images without ids; expected the split's 2"):
            match_by_id(StackedMaps("maps.npy", np.ones((3, 2, 3, 3)), None), ["a", "b"])


class TestOrientations:
    @pytest.mark.parametrize("seed", range(3))
    def test_a_permutation_of_many_classes_is_found(self, seed):
        rng = np.random.default_rng(seed)
        target = np.kron(rng.integers(0, 19, (64, 4, 4)), np.ones((1, 4, 4), int))
        classes = Classes(tuple(map(str, range(19))))
        clean = member(target, 0.6, seed, classes=19)
        permuted = Orientation(swapped=True)(clean[:, rng.permutation(19)])
        assert inspected(clean, target + 0, classes=classes).problems == ()
        assert "swapped and a permuted" in inspected(permuted, target, classes=classes).problems[0]
