"""Files that cannot be opened, and those that are never opened."""

import json
import zipfile

import pytest
import torch

from evaluation.core.errors import BadNetwork
from members.external_networks.runtimes import external_files, format_of, open_runtime
from tests.members.external_networks.networks import Brightness, save_onnx, save_pt2


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


@pytest.mark.parametrize("name", ["net.h5", "net.keras", "net.txt"])
def test_other_files_are_no_networks(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadNetwork, match=r"is no network; expected \.onnx, \.torchscript"):
        format_of(tmp_path / name)
