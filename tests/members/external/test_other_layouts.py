"""External maps at another size, with other axes, files, names and channels than the run's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from evaluation.core.classes import MARS, UNLABELLED, Classes
from evaluation.core.errors import BadData, BadMaps
from evaluation.core.ragged import Extent
from members.data.sample import draw_sample
from members.external.formats import ExpectedMaps, StackedMaps, open_external
from members.external.inspection import KnownMaps, check_order, inspect_maps, match_by_id
from members.external.resize import bilinear, nearest

TARGET = draw_sample(images=8, test=8, validation=40, size=(16, 24)).validation_masks
NUCLEI = Classes(("background", "nucleus"), values=(0, 255), unlabelled=(), foreground=1)


def member(target, classes, seed=0, accuracy=0.8):
    rng = np.random.default_rng(seed)
    pred = np.where(rng.random(target.shape) < accuracy, target, rng.integers(0, classes))
    maps = 3 * np.eye(classes, dtype=np.float32)[pred].transpose(0, 3, 1, 2)
    maps += rng.random(maps.shape, dtype=np.float32)
    return (maps / maps.sum(axis=1, keepdims=True)).astype(np.float32)


def inspected(external, target=TARGET, classes=MARS, **options):
    if isinstance(external, np.ndarray):
        external = StackedMaps("maps.npy", external, None)

    def labels(indices):
        return np.where(target == classes.ignore, UNLABELLED, target)[indices]

    return inspect_maps(
        external,
        np.arange(len(external.extent)),
        classes=classes,
        extent=Extent.uniform(len(target), target.shape[1:]),
        known=KnownMaps("the target", labels),
        **options,
    )


def repaired(report, size=TARGET.shape[1:]):
    return report.repair(report.maps.read(np.arange(report.maps.size[0])), size)


MAPS = member(TARGET, 5)


class TestOtherSizes:
    @pytest.mark.parametrize("size", [(4, 6), (8, 12), (16, 24), (48, 72), (5, 7)])
    def test_maps_are_interpolated_as_torch_does(self, size):
        values = np.random.default_rng(1).random((3, 2, 8, 12), np.float32)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(values), size, mode="bilinear", align_corners=False
        )
        np.testing.assert_allclose(bilinear(values, size), expected.numpy(), atol=1e-6)
        labels = values[:, 0]
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(labels[:, None]), size, mode="nearest-exact"
        )[:, 0]
        np.testing.assert_array_equal(nearest(labels, size), expected.numpy())

    def test_probabilities_are_resized_with_a_note(self):
        small = MAPS.reshape(len(MAPS), 5, 8, 2, 12, 2).mean(axis=(3, 5))
        report = inspected(small)
        assert report.problems == ()
        assert "maps of 8x12 pixels are resized to the images' 16x24" in report.notes[0]
        assert "align_corners=False" in report.notes[0]
        expected = bilinear(small, (16, 24))
        np.testing.assert_allclose(repaired(report), expected, atol=1e-6)
        np.testing.assert_allclose(repaired(report).sum(axis=1), 1, atol=1e-6)

    def test_logits_are_resized_before_the_softmax(self):
        logits = np.log(MAPS)[:, :, ::2, ::2] * 3
        report = inspected(logits)
        assert report.problems[0].startswith("logits")
        powers = np.exp(bilinear(logits, (16, 24)))
        np.testing.assert_allclose(
            repaired(report), powers / powers.sum(axis=1, keepdims=True), atol=1e-5
        )

    def test_labels_are_those_of_the_nearest_pixels(self):
        report = inspected(TARGET[:, ::2, ::2].astype(np.int64))
        assert "(nearest)" in report.notes[0]
        np.testing.assert_array_equal(
            repaired(report).argmax(axis=1), TARGET[:, ::2, ::2].repeat(2, 1).repeat(2, 2)
        )

    def test_a_flip_of_small_maps_is_found(self):
        report = inspected(np.ascontiguousarray(MAPS[:, :, ::-2, ::2]))
        assert "rows upside down" in report.problems[0]

    def test_another_shape_is_refused(self):
        with pytest.raises(BadMaps, match=r"8 x 8 pixels; expected 16 x 24 .* another scale"):
            inspected(MAPS[:, :, ::2, ::3])

    def test_sizes_may_differ_between_images_and_scales(self, tmp_path):
        sizes = [(16, 24), (12, 10), (20, 20)]
        for name, (rows, cols) in zip("abc", sizes, strict=True):
            np.save(tmp_path / f"{name}.npy", np.full((5, rows // 2, cols // 2), 0.2, np.float32))
        expected = ExpectedMaps(tuple("abc"), 5, Extent.of_sizes(sizes))
        maps = open_external([tmp_path], expected)
        report = inspect_maps(maps, np.arange(3), classes=MARS, extent=expected.extent, known=None)
        assert "3 sizes" in report.notes[0]
        assert report.repair(maps.read(np.array([1])), (12, 10)).shape == (1, 5, 12, 10)


def written_npz(folder, maps):
    for name, one in zip("abcde", maps, strict=True):
        np.savez(folder / f"{name}.npz", features=one[:1], probs=one)


def written_pt(folder, maps):
    for name, one in zip("abcde", maps, strict=True):
        torch.save(torch.from_numpy(one).bfloat16().float(), folder / f"{name}.pt")


def written_pt_dict(folder, maps):
    for name, one in zip("abcde", maps, strict=True):
        saved = {"mean": torch.zeros(1), "out": torch.from_numpy(one[None])}
        torch.save(saved, folder / f"{name}.pth")


def written_safetensors(folder, maps):
    for name, one in zip("abcde", maps, strict=True):
        save_file({"out": np.ascontiguousarray(one)}, folder / f"{name}.safetensors")


def written_stack_pt(folder, maps):
    torch.save({"ids": list("edcba"), "maps": torch.from_numpy(maps[::-1].copy())}, folder / "s.pt")


def written_suffixes(folder, maps):
    for name, one in zip("abcde", maps, strict=True):
        np.save(folder / f"{name}_probs.npy", one)


def written_hwc(folder, maps):
    for name, one in zip("abcde", maps, strict=True):
        np.save(folder / f"{name}.npy", one.transpose(1, 2, 0))


def written_stack_hwc(folder, maps):
    np.savez(folder / "s.npz", maps=maps.transpose(0, 2, 3, 1), ids=list("abcde"))


class TestFiles:
    MAPS = MAPS[:5]
    EXPECTED = ExpectedMaps(tuple("abcde"), 5, Extent.uniform(5, (16, 24)))

    def opened(self, folder, **options):
        files = sorted(folder.iterdir())
        paths = files if len(files) == 1 else [folder]
        return open_external(paths, self.EXPECTED, **options)

    @pytest.mark.parametrize(
        ("write", "key"),
        [
            (written_npz, None),
            (written_npz, "probs"),
            (written_pt, None),
            (written_pt_dict, "out"),
            (written_safetensors, None),
            (written_stack_pt, None),
            (written_suffixes, None),
            (written_hwc, None),
            (written_stack_hwc, None),
        ],
    )
    def test_maps_are_read_as_they_lie(self, tmp_path, write, key):
        write(tmp_path, self.MAPS)
        external = self.opened(tmp_path, key=key)
        match = match_by_id(external, list("abcde"))
        tolerance = 4e-3 if write is written_pt else 0
        np.testing.assert_allclose(external.read(match.indices), self.MAPS, atol=tolerance)
        assert external.extent.one_size == (16, 24)

    def test_names_without_the_suffix_of_all_are_noted(self, tmp_path):
        written_suffixes(tmp_path, self.MAPS)
        assert "names without '_probs'" in match_by_id(self.opened(tmp_path), list("abcde")).note
        names = [f"{name}_probs" for name in "abcde"]
        assert match_by_id(self.opened(tmp_path), names).note == ""

    @pytest.mark.parametrize(
        ("write", "key", "words"),
        [
            (
                lambda d, m: np.savez(d / "a.npz", x=m[0], y=m[0]),
                None,
                "holds x, y; expected one",
            ),
            (lambda d, m: np.savez(d / "a.npz", x=m[0], y=m[0]), "z", "expected an array 'z'"),
            (lambda d, m: np.save(d / "a.npy", m[0]), "x", "one array without a name; leave"),
            (lambda d, m: torch.save([1, 2], d / "a.pt"), None, "holds a list; expected a dense"),
            (lambda d, m: torch.save(Path, d / "a.pt"), None, "without running its code"),
            (lambda d, m: (d / "a.safetensors").write_text("x"), None, "no readable .safetensors"),
            (lambda d, m: (d / "a.nii.gz").write_text("x"), None, r"NIfTI|no readable NIfTI"),
        ],
    )
    def test_what_cannot_be_read_is_refused_in_a_line(self, tmp_path, write, key, words):
        write(tmp_path, self.MAPS)
        with pytest.raises((BadMaps, BadData), match=words) as refused:
            self.opened(tmp_path, key=key).read(np.array([0]))
        assert "\n" not in str(refused.value)

    def test_nifti_volumes_are_read_slice_by_slice(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        labels = self.MAPS.argmax(axis=1).astype(np.int16)
        volume = nibabel.Nifti1Image(labels.T, np.eye(4))
        nibabel.save(volume, tmp_path / "case.nii.gz")
        external = self.opened(tmp_path)
        assert external.ids == tuple(f"case-{index}" for index in range(5))
        np.testing.assert_array_equal(external.read(np.arange(5)), labels)
        maps = nibabel.Nifti1Image(self.MAPS.transpose(1, 0, 2, 3).T, np.eye(4))
        nibabel.save(maps, tmp_path / "case.nii.gz")
        np.testing.assert_array_equal(self.opened(tmp_path).read(np.arange(5)), self.MAPS)


class TestChannels:
    NAMES = ("soil", "background", "sand", "bedrock", "big rock")
    ORDER = tuple(MARS.names.index(name) for name in NAMES)

    @pytest.mark.parametrize("said_by", ["user", "file"])
    def test_classes_are_ordered_by_their_names(self, said_by):
        stack = StackedMaps(
            "maps.npz",
            MAPS[:, self.ORDER],
            None,
            class_names=self.NAMES if said_by == "file" else None,
        )
        report = inspected(stack, names=self.NAMES if said_by == "user" else None)
        assert report.problems == ()
        assert "ordered by their names" in report.notes[0]
        np.testing.assert_allclose(repaired(report), MAPS, atol=1e-6)

    def test_labels_are_those_of_the_names(self):
        labels = np.array([self.NAMES.index(name) for name in MARS.names])[TARGET]
        report = inspected(labels, names=self.NAMES)
        np.testing.assert_array_equal(repaired(report).argmax(axis=1), TARGET)

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (("a", *NAMES[1:]), "names class 'a'; expected background"),
            (NAMES[:4], "holds 5 classes; 4 are named"),
            ((NAMES[0], *NAMES[:4]), "names class .* twice; expected distinct"),
        ],
    )
    def test_other_names_are_refused(self, names, words):
        with pytest.raises(BadMaps, match=words):
            inspected(MAPS, names=names)

    @pytest.mark.parametrize("names", [None, MARS.names[1:]])
    def test_a_class_that_is_left_out_has_the_rest(self, names):
        report = inspected(MAPS[:, 1:], names=names)
        assert len(report.problems) == (names is None)
        np.testing.assert_allclose(repaired(report), MAPS, atol=1e-6)

    def test_a_class_left_out_and_divided_away_is_not_named(self):
        rest = MAPS[:, 1:] / MAPS[:, 1:].sum(axis=1, keepdims=True)
        with pytest.raises(BadMaps, match="names no class 'background'"):
            inspected(rest, names=MARS.names[1:])

    @pytest.mark.parametrize("is_logits", [False, True])
    @pytest.mark.parametrize("axis", [True, False])
    def test_one_channel_is_the_foreground_of_two_classes(self, is_logits, axis):
        target = (TARGET > 2).astype(np.uint8)
        maps = member(target, 2)
        channel = np.log(maps[:, 1] / maps[:, 0]) if is_logits else maps[:, 1]
        report = inspected(channel[:, None] if axis else channel, target, NUCLEI)
        assert len(report.problems) == is_logits
        assert "taken for the probability of 'nucleus'" in report.notes[0]
        np.testing.assert_allclose(repaired(report), maps, atol=1e-5)

    def test_one_channel_of_the_background_is_found(self):
        target = (TARGET > 2).astype(np.uint8)
        report = inspected(member(target, 2)[:, :1], target, NUCLEI)
        assert "class order" in report.problems[0] or "shifted" in report.problems[0]

    @pytest.mark.parametrize(
        ("maps", "classes", "words"),
        [
            (MAPS[:, :1], MARS, "one channel of float32; expected 5 classes"),
            (MAPS[:, :1] * 100, NUCLEI, "one channel with values from .* expected probabilities"),
            ((MAPS[:, :1] * 255).astype(np.uint8), NUCLEI, "one channel of uint8; expected float"),
        ],
    )
    def test_one_channel_that_is_something_else_is_refused(self, maps, classes, words):
        with pytest.raises(BadMaps, match=words):
            inspected(maps, (TARGET > 2).astype(np.uint8), classes)

    def test_independent_sigmoids_are_refused_unless_they_are_normalised(self):
        with pytest.raises(BadMaps, match=r"several labels per pixel.*--normalise"):
            inspected(np.sqrt(MAPS))
        report = inspected(np.sqrt(MAPS), normalise=True)
        assert report.problems == ()
        expected = np.sqrt(MAPS) / np.sqrt(MAPS).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(repaired(report), expected, atol=1e-6)

    def test_label_maps_hold_the_values_that_masks_store(self, tmp_path):
        target = (TARGET > 2).astype(np.uint8)
        for index, mask in enumerate(target):
            Image.fromarray(255 * mask).save(tmp_path / f"{index:02d}.png")
        report = inspected(open_external([tmp_path]), target, NUCLEI)
        assert report.problems == ()
        np.testing.assert_array_equal(repaired(report).argmax(axis=1), target)


class TestOrderOfStacks:
    def checked(self, maps, known=True):
        report = inspected(maps)
        labels = KnownMaps("the target", lambda i: np.where(TARGET == 0, UNLABELLED, TARGET)[i])
        check_order(report, Extent.uniform(len(TARGET), (16, 24)), labels if known else None)

    @pytest.mark.parametrize("accuracy", [0.4, 0.9])
    def test_an_order_that_agrees_with_the_target_is_taken(self, accuracy):
        self.checked(member(TARGET, 5, accuracy=accuracy))

    @pytest.mark.parametrize(
        "order",
        [np.random.default_rng(0).permutation(40), np.roll(np.arange(40), 1), np.arange(40)[::-1]],
        ids=["shuffled", "shifted", "reversed"],
    )
    def test_another_order_is_refused_with_the_evidence(self, order):
        with pytest.raises(BadMaps, match=r"holds no ids, and the target does not support its"):
            self.checked(MAPS[order])

    def test_with_nothing_to_compare_with_it_is_refused(self):
        with pytest.raises(BadMaps, match=r"no target and no other member.*--no-checks"):
            self.checked(MAPS, known=False)
