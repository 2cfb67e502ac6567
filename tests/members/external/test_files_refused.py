"""External maps in files that hold something else: one line says which file, and what was there."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evaluation.core.classes import numbered
from evaluation.core.errors import BadData, BadMaps
from evaluation.core.ragged import Extent
from members.external.formats import ExpectedMaps, StackedMaps, open_external
from members.external.inspection import covered_images, inspect_maps, match_by_id

IDS = ("a", "b", "c", "d")
MAPS = np.random.default_rng(0).dirichlet(np.ones(3), (4, 6, 8)).transpose(0, 3, 1, 2)
MAPS = np.ascontiguousarray(MAPS, np.float32)
LABELS = MAPS.argmax(axis=1).astype(np.int32)
TENSOR = torch.from_numpy(MAPS)
EXPECTED = ExpectedMaps(IDS, 3, Extent.uniform(4, (6, 8)))


def read_all(paths, key=None):
    """Read maps as an import does."""
    external = open_external(paths, EXPECTED, key=key)
    indices = match_by_id(external, IDS).indices
    report = inspect_maps(
        external, indices, classes=numbered(3, ignore=None), extent=EXPECTED.extent, known=None
    )
    return report.repair(report.maps.read(indices))


def npz(**arrays):
    return "m.npz", lambda file: np.savez(file, **arrays)


def npy(array):
    return "m.npy", lambda file: np.save(file, array)


def pt(saved):
    return "m.pt", lambda file: torch.save(saved, file)


def safetensors(**tensors):
    return "m.safetensors", lambda file: save_file(tensors, file)


def content(name, data):
    return name, lambda file: file.write_bytes(data)


MISSING = ("m.pt", lambda file: None)


@pytest.mark.parametrize(
    "written",
    [
        npz(maps=MAPS, ids=np.array(IDS)),
        npz(maps=MAPS, ids=np.array(IDS).astype(bytes)),
        npy(MAPS.transpose(0, 2, 3, 1)),
        npy(LABELS[:, None]),
        npy(LABELS[..., None]),
        pt(TENSOR),
        pt(torch.nn.Parameter(TENSOR)),
        pt({0: TENSOR}),
        pt({"maps": TENSOR, "ids": list(IDS)}),
        safetensors(maps=TENSOR),
        safetensors(softmax=TENSOR, features=TENSOR[:1].clone()),
    ],
)
def test_an_array_of_any_kind_is_read(tmp_path, written):
    name, write = written
    write(tmp_path / name)
    maps = read_all([tmp_path / name])
    np.testing.assert_array_equal(maps.argmax(axis=1), LABELS)


def test_half_precision_of_torch_is_read(tmp_path):
    torch.save(TENSOR.bfloat16(), tmp_path / "m.pt")
    np.testing.assert_allclose(read_all([tmp_path / "m.pt"]), MAPS, atol=5e-3)


@pytest.mark.parametrize(
    ("written", "key", "words"),
    [
        (npz(maps=MAPS, ids=np.array("a")), None, "ids is no list; expected strings or whole"),
        (npz(maps=MAPS, classes=np.array("a")), None, "classes is no list; expected strings"),
        (npz(maps=MAPS, ids=np.arange(4.0)), None, "ids is float64 of shape .* expected 4 strings"),
        (npz(maps=MAPS, ids=np.array(["a"] * 4)), None, "holds ids that repeat; expected distinct"),
        (npz(maps=MAPS, ids=np.arange(4)), None, "lacks 4 of 4 images .*its own are '0'"),
        (npz(x=MAPS, y=MAPS), None, r"holds x, y; expected one array of maps, or its name \(ens"),
        (npz(x=MAPS, y=MAPS), "z", r"holds x, y; expected an array 'z' \(--key\)"),
        (npz(ids=np.array(IDS)), None, "holds ids; expected one array of maps"),
        (npz(probabilities=MAPS[0][:, None][:, :0]), None, r"shape \(3, 0, 6, 8\), without a slic"),
        (npy(MAPS), "z", "holds one array without a name; leave --key out"),
        (npy(MAPS[:0]), None, r"is float32 of shape \(0, 3, 6, 8\); expected \(image, class"),
        (npy(np.float32(1)), None, r"is float32 of shape \(\); expected \(image, class"),
        (npy(MAPS[None]), None, r"of shape \(1, 4, 3, 6, 8\); expected"),
        (npy(LABELS > 0), None, "is bool of shape .* or integer labels"),
        (pt({"maps": TENSOR, "ids": 4}), None, "ids is no list; expected strings"),
        (pt({"maps": TENSOR, "ids": "abcd"}), None, "ids is no list; expected strings"),
        (pt({"maps": TENSOR, "ids": torch.tensor(4)}), None, "ids is no list; expected strings"),
        (pt({"maps": TENSOR, "ids": [["a"], ["b", "c"]]}), None, "ids is no list; expected"),
        (pt({}), None, "holds nothing; expected one array of maps"),
        (pt([TENSOR]), None, "holds a list; expected a dense tensor"),
        (pt({"maps": {"x": TENSOR}}), None, "holds a dict; expected a dense tensor"),
        (pt(TENSOR.to_sparse()), None, r"a Tensor of layout torch.sparse_coo; expected a dense"),
        (pt(TENSOR.to(torch.float8_e4m3fn)), None, r"float8_e4m3fn tensor \(.*\); expected float"),
        (MISSING, None, "m.pt is missing; expected a file of maps"),
        (content("m.pt", b"x"), None, "is no tensor or dict of tensors that can be read"),
        (
            content("m.safetensors", b"x" * 9),
            None,
            r"is no readable \.safetensors .* write it agai",
        ),
        (content("m.txt", b"x"), None, r"is no map file; expected \.npy, \.npz, "),
    ],
)
def test_what_is_no_maps_is_refused_in_one_line(tmp_path, written, key, words):
    name, write = written
    write(tmp_path / name)
    with pytest.raises((BadMaps, BadData), match=words) as refusal:
        read_all([tmp_path / name], key)
    assert str(refusal.value).startswith(str(tmp_path / name))
    assert "\n" not in str(refusal.value)


class TestOneFilePerImage:
    def written(self, folder, odd=None, suffix=".npy"):
        for name, one in zip(IDS, MAPS, strict=True):
            np.save(folder / f"{name}{suffix}", odd if odd is not None and name == "c" else one)
        return folder

    @pytest.mark.parametrize(
        ("odd", "words"),
        [
            (
                np.zeros(5, np.float32),
                r"c\.npy has shape \(5,\); expected one as in .*a\.npy, \(3,",
            ),
            (np.float32(1), r"c\.npy has shape \(\); expected one as in .*a\.npy"),
            (
                MAPS[None, None],
                r"c\.npy has shape \(1, 1, 4, 3, 6, 8\); expected one",
            ),
            (MAPS[2, 0], r"c\.npy holds float32 of shape \(6, 8\); expected float32 of shape \(3"),
            (LABELS[2], r"c\.npy holds int32 of shape \(6, 8\); expected float32"),
            (MAPS[2, :2], r"c\.npy holds float32 of shape \(2, 6, 8\); expected float32 of shape"),
            (MAPS[2].astype(float), r"c\.npy holds float64 of shape .* as in .*a\.npy"),
        ],
    )
    def test_a_file_unlike_the_first_is_named(self, tmp_path, odd, words):
        with pytest.raises(BadMaps, match=words):
            read_all([self.written(tmp_path, odd)])

    def test_one_image_may_be_a_single_file(self, tmp_path):
        np.save(tmp_path / "a.npy", MAPS[0])
        one = open_external([tmp_path / "a.npy"], EXPECTED)
        assert (one.ids, one.size) == (("a",), (1, 3, 6, 8))
        np.save(tmp_path / "b.npy", MAPS[1][None])  # with the axis of a batch
        assert open_external([tmp_path / "b.npy"], EXPECTED).size == (1, 3, 6, 8)

    def test_two_files_of_one_image_are_refused(self, tmp_path):
        (tmp_path / "more").mkdir()
        for folder in (tmp_path, tmp_path / "more"):
            np.save(folder / "a.npy", MAPS[0])
        files = [tmp_path / "a.npy", tmp_path / "more" / "a.npy"]
        with pytest.raises(BadMaps, match=r"more/a\.npy and .*a\.npy are both of 'a'"):
            open_external(files)

    def test_a_folder_without_maps_or_of_two_kinds_is_refused(self, tmp_path):
        with pytest.raises(BadMaps, match=r"holds no map files; expected one kind of \.npy"):
            open_external([tmp_path])
        np.savez(self.written(tmp_path) / "z.npz", maps=MAPS[0])
        with pytest.raises(BadMaps, match=r"holds \.npy, \.npz files; expected one kind"):
            open_external([tmp_path])


class TestNifti:
    """By a stand-in: nibabel is an extra, which the tests do not install."""

    @pytest.fixture
    def opened(self, monkeypatch):
        def open_as(values):
            volume = SimpleNamespace(
                shape=values.shape, dataobj=values, get_data_dtype=lambda: values.dtype
            )
            module = SimpleNamespace(load=lambda _: volume)
            monkeypatch.setitem(sys.modules, "nibabel", module)

        return open_as

    def file(self, tmp_path, name="a.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
        return tmp_path / name

    @pytest.mark.parametrize(
        ("values", "ids", "size"),
        [
            (LABELS.T, ("a-0", "a-1", "a-2", "a-3"), (4, 6, 8)),
            (LABELS[:1].T, ("a",), (1, 6, 8)),
            (LABELS[0].T, ("a",), (1, 6, 8)),
            (MAPS.swapaxes(0, 1).T, ("a-0", "a-1", "a-2", "a-3"), (4, 3, 6, 8)),
        ],
    )
    def test_a_volume_has_an_image_for_each_slice(self, tmp_path, opened, values, ids, size):
        opened(values)
        external = open_external([self.file(tmp_path)])
        assert (external.ids, external.size) == (ids, size)
        expected = MAPS if len(size) == 4 else LABELS[: size[0]]
        np.testing.assert_array_equal(external.read(np.arange(size[0])), expected)

    def test_what_is_no_volume_is_refused(self, tmp_path, opened, monkeypatch):
        opened(LABELS.astype(np.complex64))
        with pytest.raises(BadMaps, match=r"a\.nii\.gz is complex64 of shape"):
            open_external([self.file(tmp_path)])
        opened(np.broadcast_to(np.int16(0), (1 << 13, 1 << 13, 9)))
        with pytest.raises(BadData, match="would unpack to 1207959552 bytes"):
            open_external([self.file(tmp_path)])
        with pytest.raises(BadData, match=r"z\.nii is missing"):
            open_external([tmp_path / "z.nii"])
        monkeypatch.setitem(sys.modules, "nibabel", None)
        with pytest.raises(BadMaps, match=r"needs nibabel: pip install 'ens\[nifti\]', or give"):
            open_external([self.file(tmp_path)])


class TestCoveredImages:
    def test_images_are_found_by_names_with_a_common_suffix(self):
        stack = StackedMaps("m.npz", MAPS[:2], ("d_probs", "b_probs"))
        assert covered_images(stack, IDS).tolist() == [1, 3]

    @pytest.mark.parametrize(
        ("ids", "words"),
        [
            (None, r"m\.npz has no ids; expected files by image, or a \.npz with ids"),
            (("x", "y"), r"has maps of none of the split's 4 images \(first: 'a'; its own are 'x'"),
        ],
    )
    def test_maps_of_no_image_are_refused(self, ids, words):
        with pytest.raises(BadMaps, match=words):
            covered_images(StackedMaps("m.npz", MAPS[:2], ids), IDS)


class TestNames:
    CLASSES = numbered(3, ignore=None)

    @pytest.mark.parametrize(
        ("maps", "names", "words"),
        [
            (MAPS, ("0", "1"), "holds 3 classes; 2 are named"),
            (MAPS, ("0", "1", "1"), "names class '1' twice; expected distinct names"),
            (MAPS, ("0", "1", "x"), "names class 'x'; expected 0, 1, 2"),
            (LABELS, ("0", "1"), "holds labels up to 2; 2 are named"),
        ],
    )
    def test_names_that_do_not_fit_are_refused(self, maps, names, words):
        with pytest.raises(BadMaps, match=rf"^m\.npy:? {words}"):
            self.inspected(maps, names)

    @pytest.mark.parametrize("maps", [MAPS, LABELS])
    def test_names_in_the_order_of_the_run_change_nothing(self, maps):
        stack, report = self.inspected(maps, ("0", "1", "2"))
        assert report.maps is stack

    def inspected(self, maps, names):
        stack = StackedMaps("m.npy", maps, IDS)
        report = inspect_maps(
            stack,
            np.arange(4),
            classes=self.CLASSES,
            extent=EXPECTED.extent,
            known=None,
            names=names,
        )
        return stack, report
