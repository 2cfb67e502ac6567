"""A candidate as one ONNX file gives the run's labels, with onnxruntime alone."""

import contextlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ensemble.api.opened_run import OpenedRun
from ensemble.cli import run_command
from ensemble.pipeline.package import freeze as freeze_module
from ensemble.pipeline.package import onnx_export
from ensemble.pipeline.package.apply import predict_labels
from ensemble.pipeline.package.manifest import read_package
from ensemble.pipeline.package.onnx_check import OnnxExamined, examine
from ensemble.pipeline.package.onnx_export import CandidateGraph, check_exportable
from ensemble.pipeline.package.onnx_precision import lower_precision
from ensemble.pipeline.package.onnx_run import OnnxCandidate
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.run_folder import Run
from evaluation.intervals import Interval
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from members.external_networks.description import NetworkDescription
from tests.members.external_networks.networks import save_onnx

NETWORK = "unet(width=2, depth=2)"
CANDIDATE = "geometric_mean_suppressed"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One fold of a member with flips, and another; images are no multiple of the stride."""
    sample = draw_sample(images=40, test=5, validation=20, size=(18, 26))
    data, validation = sample.save(tmp_path_factory.mktemp("sample"))
    folder = str(tmp_path_factory.mktemp("runs") / "tiny")
    sets = ["--data", str(data), "--validation", str(validation), "--folds", "2"]
    recipe = f"one={{architecture: '{NETWORK}', tta: flips}}"
    training = ["--epochs", "1", "--workers", "1", "--member", recipe, "--member", f"two={NETWORK}"]
    chain = "class_bias|suppress_background"
    for words in (
        ["train-members", *sets, *training],
        ["fuse", "--strategy", "geometric_mean"],
        ["fuse", "--strategy", "majority_vote"],
        ["postprocess", "--fusion", "geometric_mean", "--chain", chain, "--name", CANDIDATE],
        ["postprocess", "--fusion", "geometric_mean", "--chain", "crf(iterations=1)"],
        ["postprocess", "--fusion", "majority_vote", "--chain", ""],
    ):
        assert run_command([*words, "--run", folder]) == 0
    return folder


@pytest.fixture(scope="module")
def freezing(run, tmp_path_factory):
    """The file, and what freezing prints; once, since tracing takes many seconds."""
    out = tmp_path_factory.mktemp("onnx") / "candidate.onnx"
    words = ["freeze", "--run", run, "--candidate", CANDIDATE, "--out", str(out)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert run_command([*words, "--format", "onnx", "--json"]) == 0
    return out, json.loads(printed.getvalue())


@pytest.fixture
def exported(freezing):
    return freezing[0]


def test_the_graph_gives_labels_and_probabilities_of_any_size(run, exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["ens"])
    assert metadata["candidate"] == CANDIDATE
    assert metadata["classes"]["ignore"] == 0
    for shape in ((1, 1, 4, 8), (3, 1, 21, 30)):
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        maps, labels = session.run(["probabilities", "labels"], {"images": images})
        assert maps.shape == (shape[0], 5, *shape[2:])
        np.testing.assert_allclose(maps.sum(axis=1), 1, atol=1e-5)
        assert maps[:, 0].max() == 0  # suppressed
        np.testing.assert_array_equal(labels, maps.argmax(axis=1))


def test_ens_applies_the_file_as_it_applies_a_package(run, exported, tmp_path):
    images = np.asarray(OpenedRun(Path(run)).images("validation"))
    np.save(tmp_path / "new.npy", images)
    out = tmp_path / "labels.npy"
    words = ["apply", str(exported), str(tmp_path / "new.npy"), "--out", str(out)]
    assert run_command(words) == 0
    package = str(tmp_path / "package")
    assert run_command(["freeze", "--run", run, "--candidate", CANDIDATE, "--out", package]) == 0
    same = tmp_path / "same.npy"
    assert run_command(["apply", package, str(tmp_path / "new.npy"), "--out", str(same)]) == 0
    # A package rounds maps to float16 between the stages.
    assert (np.load(out) == np.load(same)).mean() > 0.999


def test_freezing_says_how_the_file_compares_with_the_run(freezing):
    path, document = freezing
    assert document["split"] == "validation"
    assert document["images"] == 20
    assert document["equal"] > 0.999
    assert abs(document["change"]) < 1e-3
    assert document["milliseconds"] > 0
    examined = OnnxExamined(**{**document, "path": path, "interval": None})
    assert f"on 20 images of validation: {examined.equal:.4%}" in examined.describe()


@pytest.mark.parametrize(
    ("candidate", "out", "words"),
    [
        ("geometric_mean_crf", "a.onnx", "step crf cannot be part of a graph"),
        ("majority_vote_argmax", "a.onnx", "fusion majority_vote: MajorityVote has no form as"),
        (CANDIDATE, "folder", "expected a file that ends in .onnx"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused(run, tmp_path, refusal, candidate, out, words):
    options = ["--candidate", candidate, "--out", str(tmp_path / out), "--format", "onnx"]
    assert words in refusal("freeze", "--run", run, *options)
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_a_file_that_is_no_candidate_is_refused(tmp_path, refusal, content):
    (tmp_path / "a.onnx").write_bytes(content)
    np.save(tmp_path / "new.npy", np.zeros((1, 1, 4, 4), np.uint8))
    words = ["apply", tmp_path / "a.onnx", tmp_path / "new.npy", "--out", tmp_path / "l.npy"]
    assert "cannot be opened by onnxruntime" in refusal(*map(str, words))


def test_without_onnxruntime_the_extra_is_named(tmp_path, refusal, monkeypatch):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    (tmp_path / "a.onnx").write_bytes(b"graph")
    words = ["apply", tmp_path / "a.onnx", tmp_path, "--out", tmp_path / "l.npy"]
    assert "ONNX needs onnxruntime; run `pip install -e '.[onnx]'`" in refusal(*map(str, words))


def test_a_graph_that_fails_on_the_images_is_not_written(run, tmp_path, refusal, monkeypatch):
    def write(package, path):
        fixed = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["images"], ["labels"])],
            "of one size",
            [fixed("images", onnx.TensorProto.UINT8, (1, 1, 4, 4))],
            [fixed("labels", onnx.TensorProto.UINT8, (1, 1, 4, 4))],
        )
        versions = [onnx.helper.make_opsetid("", onnx_export.OPSET)]
        model = onnx.helper.make_model(graph, opset_imports=versions, ir_version=10)
        entry = model.metadata_props.add()
        entry.key, entry.value = onnx_export.METADATA, json.dumps(onnx_export.describe(package))
        onnx.save(model, path)

    monkeypatch.setattr(freeze_module, "write_onnx", write)
    out = tmp_path / "a.onnx"
    words = ["--candidate", CANDIDATE, "--out", str(out), "--format", "onnx"]
    line = refusal("freeze", "--run", run, *words, after_work=True)
    assert "the graph of geometric_mean_suppressed fails on images of 18 x 26 pixels" in line
    assert not out.exists()


@pytest.mark.parametrize(("precision", "equal"), [("float16", 0.98), ("int8", 0.7)])
def test_a_lower_precision_keeps_inputs_metadata_and_most_labels(
    run, exported, tmp_path, precision, equal
):
    path = tmp_path / "lower.onnx"
    shutil.copyfile(exported, path)
    opened = OpenedRun(Path(run))
    training = DataSet.load(Run(Path(run)).data("oof"))
    lower_precision(path, precision, training, rng=np.random.default_rng(0))
    before, after = OnnxCandidate(exported), OnnxCandidate(path)
    assert after.description == before.description
    images = np.asarray(opened.images("validation"))
    maps = after.probabilities(images)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.sum(axis=1), 1, atol=0.01)
    assert not np.array_equal(maps, before.probabilities(images))
    assert (after.labels(images) == before.labels(images)).mean() > equal


def test_what_a_lower_precision_costs_is_said_and_refused_above_the_margin(
    run, freezing, tmp_path, refusal, monkeypatch
):
    # Tracing takes long: the graph is the one that was written before.
    monkeypatch.setattr(
        freeze_module, "write_onnx", lambda package, path: shutil.copyfile(freezing[0], path)
    )
    out = tmp_path / "a.onnx"
    words = ["freeze", "--run", run, "--candidate", CANDIDATE, "--out", str(out)]
    words += ["--format", "onnx", "--precision", "int8"]
    lost = OnnxExamined(out, 1, "validation", change=-0.02, precision="int8")
    lost = replace(lost, interval=Interval(-0.03, -0.01, 0.95))
    with monkeypatch.context() as patched:
        patched.setattr(freeze_module, "examine", lambda *_: lost)
        line = refusal(*words, after_work=True)
    assert "int8: the score changes by -0.02000 (95% -.030 to -.010) on validation" in line
    assert "expected a loss of 0.01 at most" in line
    assert not out.exists()
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        assert run_command([*words, "--margin", "0.99", "--json"]) == 0
    assert "int8: the score changes by" in said.getvalue()
    document = json.loads(printed.getvalue())
    assert document["precision"] == "int8"
    assert document["interval"]["low"] <= document["change"] <= document["interval"]["high"]


def test_the_loss_is_refused_where_it_cannot_be_measured():
    with pytest.raises(BadRun, match="cannot be measured; freeze with --precision float32"):
        freeze_module._check_loss(OnnxExamined(Path("a"), 1, precision="int8"), 0.01)


def test_what_was_not_compared_is_said_so():
    alone = OnnxExamined(Path("a.onnx"), 2_000_000, precision="float16")
    assert alone.describe_loss() == "float16: the score lost is unknown"
    head, rest = alone.describe().splitlines()
    assert head == "a.onnx: float16, 2.0 MB, for images of any size"
    assert rest == "not compared: the run has labels of oof only"
    unscored = replace(alone, split="test", images=5, equal=0.5, milliseconds=1.0)
    unscored = replace(unscored, torch_milliseconds=2.0, change=0.1)
    assert "on 5 images of test: 50.0000% of the labels are the run's\n" in unscored.describe()
    assert "(no interval: one group of images) on test" in unscored.describe_loss()


def test_a_split_without_masks_tells_how_many_labels_are_equal_alone(
    run, exported, tmp_path, package
):
    copy = Run(tmp_path / "run")
    shutil.copytree(run, copy.path)
    shutil.rmtree(copy.labels(CANDIDATE, "validation"))
    examined = examine(copy, package, exported)
    assert (examined.split, examined.images, examined.score) == ("test", 5, None)
    assert examined.equal is not None
    assert examined.equal > 0.99
    shutil.rmtree(copy.labels(CANDIDATE, "test"))
    assert examine(copy, package, exported).split is None


@pytest.fixture(scope="module")
def package(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("packages") / "package"
    words = ["freeze", "--run", run, "--candidate", CANDIDATE, "--out", str(out)]
    assert run_command(words) == 0
    return read_package(out)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"size": (16, 24)}, "member 'one' resizes or cuts its images (size), which a graph"),
        ({"tile": (16, 24)}, "member 'one' resizes or cuts its images (tile), which a graph"),
        (
            {"tta": "flips + scales(0.5, 2)"},
            "'one' predicts by flips + scales(0.5, 2); a graph can",
        ),
        (None, "member 'one' is a network from elsewhere (net.onnx), which is not traced again"),
        ("open", "step open cannot be part of a graph, which holds suppress_background and"),
    ],
)
def test_a_part_that_a_graph_cannot_hold_is_named(package, keys, words):
    members = dict(package.manifest.members)
    changes: dict[str, Any] = {"members": members}
    if keys is None:
        members["one"] = NetworkDescription(file="net.onnx")
    elif keys == "open":
        changes = {"chain": "suppress_background|open"}
    else:
        members["one"] = members["one"].model_copy(update=keys)
    changed = replace(package, manifest=package.manifest.model_copy(update=changes))
    with pytest.raises(BadSpec) as caught:
        check_exportable(changed)
    assert words in str(caught.value)


def test_a_graph_of_specialists_labels_as_their_package_does(trained_run, tmp_path):
    """Before it is traced, which takes many seconds."""
    shutil.copytree(trained_run, tmp_path / "run")
    words = ["--run", str(tmp_path / "run")]
    made = ["postprocess", "--fusion", "specialists", "--chain", "suppress_background", *words]
    assert run_command(made) == 0
    out = tmp_path / "package"
    candidate = ["--candidate", "specialists_suppress_background", "--out", str(out)]
    assert run_command(["freeze", *candidate, *words]) == 0
    specialists = read_package(out)
    data = DataSet.load(Run(tmp_path / "run").data("validation")).take(slice(0, 6))
    with torch.inference_mode():
        maps, labels = CandidateGraph(specialists).eval()(torch.from_numpy(np.array(data.images)))
    np.testing.assert_allclose(maps.sum(dim=1), 1, atol=1e-5)
    expected = np.concatenate([part for _, part in predict_labels(specialists, data, "cpu")])
    assert (labels.numpy() == expected).mean() > 0.99  # a package rounds maps to float16


def test_a_network_that_cannot_be_traced_is_refused_in_one_line(package, tmp_path, monkeypatch):
    def export(*_, **__):
        raise torch.onnx.OnnxExporterError("a stack of calls\nno operator aten::strange\n")

    monkeypatch.setattr(torch.onnx, "export", export)
    words = (
        r"cannot be written as a graph \(no operator aten::strange\); freeze it without --format"
    )
    with pytest.raises(BadRun, match=words):
        onnx_export.write_onnx(package, tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_a_graph_that_cannot_be_converted_is_kept(run, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    training = DataSet.load(Run(Path(run)).data("oof"))
    rng, words = np.random.default_rng(0), r"to float16 \(.*freeze it with --precision float32"
    with pytest.raises(BadRun, match=words):
        lower_precision(tmp_path / "a.onnx", "float16", training, rng=rng)
    assert (tmp_path / "a.onnx").read_bytes() == b"no graph"


def test_a_graph_of_something_else_has_no_metadata(tmp_path):
    path = save_onnx(tmp_path / "a.onnx")
    with pytest.raises(
        BadRun, match=r"was not written by `ens freeze --format onnx`: it has no me"
    ):
        OnnxCandidate(path)


@pytest.mark.parametrize("changed", [True, False])
def test_a_package_says_how_its_labels_compare_with_the_run(run, package, tmp_path, changed):
    copy, told = Run(tmp_path / "run"), []
    shutil.copytree(run, copy.path)
    folder = copy.labels(CANDIDATE, "validation")
    if changed:
        (folder / "provenance.json").unlink()
        np.save(folder / "labels.npy", (np.load(folder / "labels.npy") + 1) % 5)
        freeze_module._smoke_test(copy, package, "cpu", told.append)
        assert "warning: 100.0000% of the pixels of 20 images of validation differ" in told[0]
    else:
        shutil.rmtree(folder)
        shutil.rmtree(copy.labels(CANDIDATE, "test"))
        freeze_module._smoke_test(copy, package, "cpu", told.append)
        assert "has labels of oof only, so the package could not be tested" in told[0]


@pytest.mark.parametrize("options", [("--precision", "int8"), ("--margin", "0.1")])
def test_options_of_a_graph_are_refused_for_a_package(run, tmp_path, refusal, options):
    words = ["freeze", "--run", run, "--candidate", CANDIDATE, "--out", str(tmp_path / "p")]
    assert f"{options[0]} goes with --format onnx" in refusal(*words, *options)
