"""Networks from elsewhere in a run: as members like any other, refused where they cannot be."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ensemble.cli import run_command
from ensemble.pipeline.run.experiment import read_experiment
from evaluation.core.errors import BadSpec
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.external_networks.description import read_named_networks
from members.external_networks.network import load_registered
from members.recipe import Member, Recipe
from members.store import ProbabilityStore
from members.train import load_network
from tests.members.external_networks.networks import save_torchscript

ARCHITECTURE = "unet(width=2, depth=1)"


@pytest.fixture
def place(trained_run, tmp_path):
    """A run, and the first fold's network of its member 'one' as files of other frameworks."""
    shutil.copytree(trained_run, tmp_path / "run")
    run = Run(tmp_path / "run")
    shutil.copy(run.model("one", 0) / "weights.safetensors", tmp_path / "own.safetensors")
    member = Member("one", Recipe(architecture=ARCHITECTURE))
    network = load_network(member, run.model("one", 0), channels=1, classes=5)
    save_torchscript(network, tmp_path / "own.pt")
    return tmp_path


def maps_of(place, name, split):
    return ProbabilityStore(Run(place / "run").probabilities(name, split)).read(slice(None))


def own(place, **said):
    return f"own={json.dumps({'file': str(place / 'own.pt'), 'input_range': 'stored', **said})}"


def predicted(place, *networks, code=0):
    words = ["predict", "--run", place / "run", "--workers", "1"]
    words += [word for network in networks for word in ("--network", network)]
    assert run_command([str(word) for word in words]) == code


@pytest.mark.slow
def test_it_is_predicted_fused_scored_costed_frozen_and_applied(place, answer, capsys):
    """Its maps are those of the member's own network, up to the last bit of the store."""
    weights = {"file": str(place / "own.safetensors"), "architecture": ARCHITECTURE}
    predicted(place, own(place), f"weights={json.dumps(weights)}")
    said = capsys.readouterr().err
    assert "own: output 'output': logits" in said
    assert "own: undeclared" in said
    fold = np.array(json.loads((place / "run/data/folds.json").read_text())["fold"])
    for name in ("own", "weights"):
        np.testing.assert_allclose(  # in batches of other images, sums may round otherwise
            maps_of(place, name, "oof")[fold == 0],
            maps_of(place, "one", "oof")[fold == 0],
            atol=2.0**-11,
        )
    run = ["--run", place / "run"]
    answer("fuse", "--strategy", "mean", "--members", "own,two", "--name", "both", *run)
    answer("postprocess", "--fusion", "both", "--chain", "suppress_background", *run)
    board = json.loads(answer("score", "--json", *run))["candidates"]
    assert {"own_argmax", "both_argmax"} <= {row["name"] for row in board}
    parts = json.loads(answer("status", "--json", *run))["parts"]
    assert {p["state"] for p in parts if p["name"] in ("own", "both")} == {"current"}
    worth = json.loads(answer("members", "worth", "--json", *run))["members"]
    (cost,) = [row for row in worth if row["name"] == "own"]
    assert cost["milliseconds"] > 0
    candidate = "both_suppress_background"
    answer("freeze", "--candidate", candidate, "--out", place / "package", *run)
    manifest = json.loads((place / "package/package.json").read_text())
    assert manifest["members"]["own"]["file"] == "own.pt"
    np.save(place / "new.npy", np.load(place / "run/data/validation/images.npy"))
    answer("apply", place / "package", place / "new.npy", "--out", place / "labels.npy")
    expected = np.load(place / f"run/labels/{candidate}/validation/labels.npy")
    np.testing.assert_array_equal(np.load(place / "labels.npy"), expected)


@pytest.mark.slow
def test_a_new_split_is_predicted_by_it_too(place, answer):
    predicted(place, own(place))
    np.save(place / "new.npy", np.load(place / "run/data/validation/images.npy")[:7])
    answer("predict", "--data", place / "new.npy", "--split", "new", "--run", place / "run")
    np.testing.assert_array_equal(
        maps_of(place, "own", "new"), maps_of(place, "own", "validation")[:7]
    )


class TestLeaks:
    @pytest.fixture
    def ids(self, place):
        return DataSet.load(Run(place / "run").data("oof")).ids

    @pytest.mark.parametrize("listed", [True, False])
    def test_a_declared_one_is_refused_by_what_learns(self, place, ids, refusal, listed):
        (place / "ids.txt").write_text("\n".join(ids[:7]))
        said = list(ids[:7]) if listed else str(place / "ids.txt")
        predicted(place, own(place, trained_on=said))
        line = refusal(
            "fuse", "--strategy", "stacking", "--members", "own,two", "--run", place / "run"
        )
        assert "would rely on 7 images that 'own' was trained on" in line

    def test_an_undeclared_one_is_warned_of(self, place, capsys):
        predicted(place, own(place))
        words = ["fuse", "--strategy", "stacking", "--members", "own,two", "--run"]
        capsys.readouterr()
        assert run_command([*words, str(place / "run")]) == 0
        line = "'own' does not declare what it was trained on"
        assert line in capsys.readouterr().err

    def test_an_empty_list_declares_that_no_image_was_seen(self, place):
        predicted(place, own(place, trained_on=[]))
        store = ProbabilityStore(Run(place / "run").probabilities("own", "oof"))
        assert not store.trained_on_mask().any()

    def test_ids_that_the_run_lacks_are_refused(self, place, refusal):
        words = ["predict", "--run", place / "run", "--network", own(place, trained_on=["x"])]
        assert "trained_on names 'x', which 0 of the run's images are" in refusal(*words)


class TestDescriptions:
    def test_a_file_beside_it_describes_it_and_options_win(self, place):
        beside = {"input_range": "0..1", "class_names": ["a", "b"], "trained_on": "ids.txt"}
        (place / "own.pt.json").write_text(json.dumps(beside))
        text = "networks: {own: {file: own.pt, input_range: stored}}"
        (place / "experiment.yaml").write_text(text)
        (member,) = read_experiment(place / "experiment.yaml").external_members()
        assert member.network.input_range == "stored"
        assert member.network.class_names == ("a", "b")
        assert member.network.file == str(place / "own.pt")
        assert member.network.trained_on == str(place / "ids.txt")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{own: {file: a.onnx, scale: 3}}", "network 'own' has no key 'scale'; known: file"),
            ("{own: {mean: 3}}", "expected its file, or a mapping with 'file'"),
            ("{own: {file: a.onnx, input_range: 0..2}}", "'input_range' got '0..2'; expected"),
            ("{own: {file: a.onnx, channel_order: grb}}", "expected rgb, bgr, or a list of"),
            ("{own: {file: a.onnx, tile: 0}}", "rows and columns of at least 1"),
            ("{o/n: {file: a.onnx}}", "network name 'o/n'"),
        ],
    )
    def test_what_cannot_be_read_names_network_and_key(self, tmp_path, text, words):
        (tmp_path / "experiment.yaml").write_text(f"networks: {text}")
        with pytest.raises(BadSpec) as caught:
            read_experiment(tmp_path / "experiment.yaml")
        assert words in str(caught.value)

    def test_an_option_names_the_network_and_gives_its_file_or_keys(self, tmp_path):
        read = read_named_networks(["a=a.onnx", "b={file: b.pt, mean: [1, 2], channel_order: bgr}"])
        assert {name: one.path.name for name, one in read.items()} == {"a": "a.onnx", "b": "b.pt"}
        assert (read["b"].mean, read["b"].channel_order) == ((1, 2), (2, 1, 0))

    @pytest.mark.parametrize(
        ("texts", "words"),
        [
            (["a.onnx"], "--network 'a.onnx'; expected NAME=FILE"),
            (["a={file: [}"], "--network 'a={file: [}': "),
            (["a=x.onnx", "a=y.onnx"], "--network a is given twice; name each once"),
        ],
    )
    def test_an_option_that_cannot_be_read_is_shown(self, texts, words):
        with pytest.raises(BadSpec) as caught:
            read_named_networks(texts)
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("beside", "words"),
        [
            ({".json": "{}", ".yaml": "{}"}, "both describe a.onnx; remove one"),
            ({".yml": "[mean]"}, "a.onnx.yml holds ['mean']; expected keys such as input_range"),
        ],
    )
    def test_files_beside_it_that_cannot_be_read_are_named(self, tmp_path, beside, words):
        for suffix, text in beside.items():
            (tmp_path / f"a.onnx{suffix}").write_text(text)
        with pytest.raises(BadSpec) as caught:
            read_named_networks([f"a={tmp_path / 'a.onnx'}"])
        assert words in str(caught.value)

    def test_a_run_is_needed_that_has_images(self, place, refusal):
        words = ["predict", "--network", own(place), "--run", place / "new"]
        assert "holds no experiment; start with `ens train-members`" in refusal(*words)
        said = refusal("predict", "--split", "new", "--run", place / "run")
        assert "give --data with --split, or --network NAME=FILE" in said

    def test_the_name_of_a_member_is_taken(self, place, refusal):
        words = ["predict", "--run", place / "run", "--network", own(place).replace("own=", "two=")]
        assert "network 'two' has the name of a member" in refusal(*words)


def test_weights_beside_an_onnx_file_are_copied_with_it(place):
    """The run still predicts when the files of the network have gone."""
    said = broken("beside", place)
    predicted(place, f"beside={json.dumps(said)}")
    for file in ("bad.onnx", "bad.data"):
        (place / file).unlink()
    folder = Run(place / "run").network("beside")
    assert {file.name for file in folder.iterdir()} >= {"network.onnx", "bad.data"}
    network = load_registered(folder, name="beside", classes=5)
    image = torch.full((1, 1, 4, 4), 2.0)
    with torch.inference_mode():
        logits = network(image)[0, :, 0, 0]
    torch.testing.assert_close(logits, 2 * torch.linspace(-1, 1, 5))


def test_a_network_that_fails_on_an_image_beyond_the_examined_ones_leaves_nothing(
    place, refusal, monkeypatch
):
    for name in ("MOST_IMAGES", "FEWEST_IMAGES"):
        monkeypatch.setattr(f"members.external_networks.examine.{name}", 2)
    run = Run(place / "run")
    images = np.load(run.data("oof") / "images.npy")
    limit = float(images[[0, -1]].mean(axis=(1, 2, 3)).max()) + 1e-3
    assert (images.mean(axis=(1, 2, 3)) > limit).any()

    class Dark(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = torch.nn.Conv2d(1, 5, 1)

        def forward(self, images):
            bright = images.float().mean(dim=(1, 2, 3), keepdim=True) > limit
            return torch.where(bright, torch.nan, self.scores(images.float()))

    save_torchscript(Dark(), place / "dark.pt")
    said = {"file": str(place / "dark.pt"), "input_range": "stored"}
    words = [
        "predict",
        "--run",
        run.path,
        "--workers",
        "1",
        "--network",
        f"dark={json.dumps(said)}",
    ]
    assert "outputs hold NaN or infinite values" in refusal(*words, after_work=True)
    assert not run.network("dark").parent.exists()
    assert not (run.path / "probabilities/dark").exists()


class TestPlan:
    def experiment(self, place, **said):
        data = read_experiment(place / "run/experiment.yaml")
        text = {
            "data": data.data,
            "validation": data.validation,
            "folds": 2,
            "networks": {"own": {"file": "own.pt", "input_range": "stored", **said}},
            "fusions": {"stacked": {"strategy": "stacking", "members": ["own"]}},
        }
        (place / "plan.yaml").write_text(json.dumps(text))
        return ["plan", place / "plan.yaml", "--run", place / "new", "--workers", "1", "--json"]

    def test_it_is_timed_and_its_maps_are_counted(self, place, answer):
        stages = json.loads(answer(*self.experiment(place)))["steps"]
        (stage,) = [one for one in stages if (one["step"], one["name"]) == ("predict", "own")]
        assert stage["seconds"] > 0
        pixels = sum(
            DataSet.load(Run(place / "run").data(split)).extent.pixels
            for split in ("oof", "validation", "test")
        )
        values = pixels * 5 * 2
        assert values <= stage["bytes_to_write"] < 1.5 * values  # besides, there is metadata

    def test_it_may_not_have_seen_what_is_learnt_from(self, place, capsys):
        ids = list(DataSet.load(Run(place / "run").data("oof")).ids[:7])
        words = [str(word) for word in self.experiment(place, trained_on=ids)]
        capsys.readouterr()
        assert run_command(words) == 2
        (reason,) = json.loads(capsys.readouterr().out)["fails"]
        assert "fusion 'stacked' would rely on 7 images that 'own' was trained on" in reason


@pytest.mark.slow
def test_an_experiment_with_networks_alone_runs(place, answer):
    """Train nothing, predict, fuse, score; what is there is kept when it runs again."""
    data = read_experiment(place / "run/experiment.yaml")
    said = {"file": "own.pt", "input_range": "stored"}
    text = {
        "data": data.data,
        "validation": data.validation,
        "folds": 2,
        "networks": {"a": said, "b": said},
        "fusions": {"mean": "mean"},
    }
    (place / "experiment.yaml").write_text(json.dumps(text))
    words = ["run", place / "experiment.yaml", "--run", place / "new", "--workers", "1", "--json"]
    board = json.loads(answer(*words))
    assert {row["name"] for row in board["candidates"]} >= {"a_argmax", "b_argmax", "mean_argmax"}
    (place / "own.pt").unlink()
    parts = json.loads(answer("status", "--json", "--run", place / "new"))["parts"]
    assert {p["state"] for p in parts if p["name"] == "a"} == {"current"}


def broken(kind, place):
    """Write a file that cannot be a member, and return what is said about it."""
    path, said = place / "bad.onnx", {"input_range": "stored"}
    nodes, sides, domain = [("Identity", {})], ["n", 1, "h", "w"], ""
    classes = 4 if kind == "classes" else 5
    if kind == "pickled":
        path = place / "bad.pt"
        torch.save(torch.nn.Conv2d(1, 5, 1), path)
    elif kind == "pickle":
        path = place / "bad.pth"
        path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/never'\ntR.")
    elif kind == "damaged":
        path.write_bytes(b"no graph")
    elif kind == "torchscript":
        path = place / "bad.torchscript"
        path.write_bytes(b"no program")
    elif kind == "missing":
        path = place / "nowhere.onnx"
    else:
        if kind == "custom":
            nodes, domain = [("Sharpen", {})], "my.operators"
        elif kind == "operator":
            nodes = [("NoSuchOperator", {})]
        elif kind == "nan":
            nodes = [("Sqrt", {}), ("Neg", {}), ("Sqrt", {})]
        elif kind == "fixed":
            sides = [1, 1, 8, 8]
        elif kind == "flat":
            nodes = [("GlobalAveragePool", {})]
        weight = np.linspace(-1, 1, classes, dtype=np.float32).reshape(classes, 1, 1, 1)
        graph, name = [helper.make_node("Conv", ["images", "weight"], ["conv"])], "conv"
        for number, (operator, attributes) in enumerate(nodes):
            graph.append(
                helper.make_node(operator, [name], [f"o{number}"], domain=domain, **attributes)
            )
            name = f"o{number}"
        graph.append(helper.make_node("Identity", [name], ["logits"]))
        model = helper.make_model(
            helper.make_graph(
                graph,
                "bad",
                [helper.make_tensor_value_info("images", TensorProto.FLOAT, sides)],
                [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
                [numpy_helper.from_array(weight, "weight")],
            ),
            opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("my.operators", 1)],
            ir_version=9,
        )
        external = kind in ("external", "beside")
        onnx.save(
            model,
            path,
            save_as_external_data=external,
            location="bad.data" if external else None,
            size_threshold=0,
        )
        if kind == "external":
            (place / "bad.data").unlink()
    return {"file": str(path), **said}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pickled", "is pickled, which runs any code when it is read, and was not opened; export"),
        ("pickle", "is pickled, which runs any code when it is read, and was not opened; export"),
        ("damaged", "bad.onnx is no readable ONNX file"),
        ("torchscript", "cannot be opened as TorchScript"),
        ("missing", "nowhere.onnx is missing; expected a network"),
        ("custom", "cannot be opened by onnxruntime"),
        ("operator", "cannot be opened by onnxruntime"),
        ("external", "keeps weights in bad.data, which is missing"),
        ("nan", "outputs hold NaN or infinite values"),
        ("fixed", "say 'tile: 8x8' to cut and pad them, or 'size: 8x8' to resize them"),
        ("classes", "outputs 4 channels"),
        ("flat", "outputs logits (1, 5, 1, 1) for an image of 16 x 24 pixels; expected maps"),
    ],
)
def test_a_network_that_cannot_be_a_member_is_refused_in_one_line(place, refusal, kind, words):
    before = (place / "run/experiment.yaml").read_bytes()
    said = broken(kind, place)
    line = refusal("predict", "--run", place / "run", "--network", f"bad={json.dumps(said)}")
    assert words in line
    assert "'bad'" in line or "bad." in line or "nowhere." in line
    assert not (place / "run/members/bad").exists()
    assert not (place / "run/probabilities/bad").exists()
    assert (place / "run/experiment.yaml").read_bytes() == before
