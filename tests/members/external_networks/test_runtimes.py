"""Files that cannot be opened, and those that are never opened."""

import json
import sys
import zipfile

import pytest
import torch
from onnx import TensorProto

from evaluation.core.array_headers import DOCUMENT_BYTES
from evaluation.core.errors import BadNetwork, BadSpec
from members.external_networks.runtimes import (
    InputShape,
    _TorchRuntime,
    external_files,
    format_of,
    open_runtime,
)
from tests.members.external_networks.networks import (
    Brightness,
    save_onnx,
    save_pt2,
    save_torchscript,
)


def archive(path, files):
    with zipfile.ZipFile(path, "w") as written:
        for name, content in files.items():
            written.writestr(f"net/{name}", content)
    return path


def payload(**changes):
    said = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": None}
    return json.dumps({"config": {"conv.weight": {**said, **changes}}})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"data/weights/model_weights_config.json": payload(use_pickle=True)},
            "holds 'conv.weight' pickled, which was not read",
        ),
        (
            {"data/constants/model_constants_config.json": payload(path_name="opaque_obj_0")},
            "holds 'conv.weight' pickled, which was not read",
        ),
        (
            {"data/constants/model_constants_config.json": payload(path_name="custom_obj_0")},
            "holds 'conv.weight' pickled, which was not read",
        ),
        ({"data/weights/model.pt": b"pickle"}, "holds pickled data/weights/model.pt"),
        ({"data/aotinductor/model/a.so": b"code"}, "expected a program and its weights"),
        ({"data/weights/model_weights_config.json": "{"}, "is no readable .pt2"),
        ({"data/weights/model_weights_config.json": "[]"}, "is no readable .pt2"),
        ({"models/model.json": "{}"}, "cannot be opened by torch.export"),
    ],
)
def test_what_python_would_unpickle_or_run_is_refused_before_torch_reads_it(
    tmp_path, monkeypatch, files, words
):
    path = archive(tmp_path / "net.pt2", {"archive_format": "pt2", **files})
    if "cannot be opened" not in words:
        monkeypatch.setattr(torch.export, "load", lambda _: pytest.fail("it was opened"))
    with pytest.raises(BadNetwork, match=words) as caught:
        open_runtime(path)
    assert "\n" not in str(caught.value)


def test_a_program_of_torch_export_may_be_called_pt(tmp_path):
    saved = save_pt2(Brightness(), tmp_path / "net.pt2")
    assert format_of(saved.rename(tmp_path / "net.pt")) == "pt2"


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_weights_outside_of_the_folder_are_not_read(tmp_path, location):
    import onnx

    path = save_onnx(tmp_path / "net.onnx", external=True)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadNetwork, match="expected a file in its own folder"):
        external_files(path)


@pytest.mark.parametrize(("kind", "package"), [("session", "onnxruntime"), ("weights", "onnx")])
def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, kind, package):
    path = save_onnx(tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, package, None)
    work = open_runtime if kind == "session" else external_files
    with pytest.raises(BadSpec, match=rf"needs {package}; run `pip install -e '\.\[onnx\]'`"):
        work(path)


def test_an_onnx_file_of_another_input_is_refused_with_what_it_takes(tmp_path):
    path = save_onnx(tmp_path / "net.onnx", dtype=TensorProto.INT32)
    words = r"takes images tensor\(int32\) \['n', 1, 'h', 'w'\]; expected one input of images"
    with pytest.raises(BadNetwork, match=words):
        open_runtime(path)


class Pair(torch.nn.Module):
    """Takes two images."""

    def forward(self, first, second):
        return first + second


def test_a_program_of_another_input_is_refused(tmp_path):
    image = torch.zeros(1, 1, 4, 4)
    torch.export.save(torch.export.export(Pair(), (image, image)), tmp_path / "net.pt2")
    with pytest.raises(BadNetwork, match="it takes 2 inputs; expected one of images"):
        open_runtime(tmp_path / "net.pt2")


def test_a_list_of_weights_beyond_all_sizes_is_not_read(tmp_path):
    config = {"data/weights/model_weights_config.json": " " * (DOCUMENT_BYTES + 1)}
    with pytest.raises(BadNetwork, match=rf"is no readable .pt2 .*more than {DOCUMENT_BYTES} byt"):
        open_runtime(archive(tmp_path / "net.pt2", config))


class Fails(torch.nn.Module):
    """Takes images of three channels alone."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Conv2d(3, 2, 1)

    def forward(self, images):
        return self.inner(images)


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "pt2"])
def test_a_network_that_fails_says_on_which_images(tmp_path, kind):
    path = tmp_path / f"net.{kind}"
    if kind == "onnx":
        save_onnx(path, channels=3)
    else:
        (save_pt2 if kind == "pt2" else save_torchscript)(Fails(), path, channels=3)
    runtime = open_runtime(path)
    runtime.to(torch.device("cpu"))
    with pytest.raises(BadNetwork, match=r"fails on images of shape \(2, 1, 8, 12\) \(") as caught:
        runtime(torch.zeros(2, 1, 8, 12))
    assert "\n" not in str(caught.value)


class Several(torch.nn.Module):
    """Gives a mapping, or a list, as networks with auxiliary outputs do."""

    def __init__(self, as_list):
        super().__init__()
        self.as_list = as_list

    def forward(self, images):
        return [images, 2 * images] if self.as_list else {"out": images, "aux": 2 * images}


@pytest.mark.parametrize(("as_list", "names"), [(True, "output_0 output_1"), (False, "out aux")])
def test_outputs_have_their_names_or_their_numbers(tmp_path, as_list, names):
    runtime = open_runtime(save_pt2(Several(as_list), tmp_path / "net.pt2"))
    images = torch.ones(2, 1, 8, 12)
    results = runtime(images)
    assert list(results) == names.split()
    torch.testing.assert_close(results[names.split()[1]], 2 * images)


@pytest.mark.parametrize("result", [None, 3.0, "text", {"a": 1}])
def test_what_is_no_tensor_is_no_output(tmp_path, result):
    class Program(torch.nn.Module):
        def forward(self, images):
            return result

    runtime = _TorchRuntime(Program(), InputShape(), movable=True)
    assert runtime(torch.zeros(1, 1, 2, 2)) == {}


@pytest.mark.parametrize("content", [b"PK\x05\x06" + bytes(18), b"no archive"])
def test_a_pt_file_that_is_no_program_is_taken_for_a_pickle(tmp_path, content):
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(BadNetwork, match="is pickled, which runs any code when it is read"):
        format_of(tmp_path / "net.pt")


def test_weights_alone_are_no_program(tmp_path):
    (tmp_path / "net.safetensors").write_bytes(b"x")
    with pytest.raises(BadNetwork, match="holds weights alone; say its 'architecture'"):
        open_runtime(tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", ["net.h5", "net.keras", "net.txt"])
def test_other_files_are_no_networks(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadNetwork, match=r"is no network; expected \.onnx, \.torchscript"):
        format_of(tmp_path / name)
