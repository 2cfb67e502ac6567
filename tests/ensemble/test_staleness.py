"""Each input changed once: what is known to be stale, down to the report, and what is redone."""

import json
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import yaml

from ensemble.cli import run_command
from ensemble.pipeline.data.prepare import split_identity
from ensemble.pipeline.workflow.status import StatusRow, next_command
from evaluation.core.provenance import RECORD
from evaluation.core.run_folder import Run
from members.data.sample import draw_sample

TINY = "unet(width=2, depth=1)"
EXPERIMENT = {
    "folds": 2,
    "defaults": {"epochs": 1, "architecture": TINY},
    "members": {"one": {}, "two": {"loss": "dice"}},
    "fusions": {
        "mean": {"strategy": "mean", "members": ["one", "two"]},
        "learnt": {"strategy": "stacking(l2=0.1)", "members": ["one", "two"]},
        "joined": {"strategy": "mean", "members": ["one", "theirs"]},
    },
    "chains": {"smooth": "mode_filter(size=3)", "biased": "class_bias"},
}
LABELLED = ("oof", "validation")
ALL = "*"
AFTER_SCORES = ["leaderboard validation", "report mean_smooth validation"]
HANDED = ["submission test", "package oof"]


def labels(*names, splits="*"):
    return [f"{stage} {name} {splits}" for name in names for stage in ("labels", "scores")]


ONE = ["maps one *", "fusion * *", *labels("one_*", "mean_*", "learnt_*", "joined_*")]
MEANS = ["fusion mean *", *labels("mean_*")]
TUNED = "tuning mean "
REST = [*AFTER_SCORES, *HANDED, TUNED]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with two networks, imported maps, a report, a tuning, a submission and a package."""
    place = tmp_path_factory.mktemp("stale")
    data, validation = draw_sample(images=80, test=9, validation=24, size=(16, 24)).save(place)
    asked = {"data": str(data), "validation": str(validation), **EXPERIMENT}
    networks = {**asked, "fusions": {}, "chains": {}}
    (place / "networks.yaml").write_text(yaml.safe_dump(networks))
    (place / "asked.yaml").write_text(yaml.safe_dump(asked))
    (place / "space.yaml").write_text("mode_filter: {size: [3, 5]}\n")
    here = ["--run", place / "run"]
    did(["run", place / "networks.yaml", *here, "--workers", 1])
    for split in LABELLED:
        target = np.load(place / f"run/data/{split}/target.npy")
        maps = np.eye(5, dtype=np.float32)[target].transpose(0, 3, 1, 2) * 0.5 + 0.1
        np.save(place / f"{split}.npy", maps)
        did(["import", *here, "--name", "theirs", "--split", split, place / f"{split}.npy"])
    did(["run", place / "asked.yaml", *here, "--workers", 1])
    space = ["--trials", 2, "--space", place / "space.yaml"]
    did(["tune-postproc", *here, "--fusion", "mean", *space])
    did(["report", *here, "--candidate", "mean_smooth"])
    did(["submit", *here, "--candidate", "mean_smooth", "--out", place / "pred.csv"])
    did(["freeze", *here, "--candidate", "mean_smooth", "--out", place / "package"])
    return place


@pytest.fixture
def copy(whole, tmp_path):
    """The same, to be changed; paths in it still lead to what the first one was made of."""
    shutil.copytree(whole / "run", tmp_path / "run")
    return tmp_path / "run"


def did(words, code=0):
    assert run_command([str(word) for word in words]) == code


def states(folder, capsys):
    """Return the state of each result, by what it is; places of what was handed over left out."""
    capsys.readouterr()
    did(["status", "--run", folder, "--json"])
    parts = json.loads(capsys.readouterr().out)["parts"]
    return {
        " ".join(
            [part["stage"], part["part"]]
            if part["stage"] in ("data", "leaderboard", "submission", "package")
            else [part["stage"], part["name"], part["part"]]
        ): part["state"]
        for part in parts
    }


def weights(folder):
    file = folder / "members/one/fold-0/weights.safetensors"
    document = bytearray(file.read_bytes())
    document[-1] ^= 1
    file.write_bytes(document)


def asks(**changes):
    """Change the run's experiment, key by key along a path of words."""

    def change(folder):
        file = folder / "experiment.yaml"
        document = yaml.safe_load(file.read_text())
        for path, value in changes.items():
            *keys, last = path.split("__")
            place = document
            for key in keys:
                place = place[key]
            place[last] = value
        file.write_text(yaml.safe_dump(document))

    return change


def rename(folder):
    classes = folder / "data/classes.json"
    classes.write_text(classes.read_text().replace("sand", "dust"))


def ignore(folder):
    document = json.loads((folder / "data/classes.json").read_text())
    (folder / "data/classes.json").write_text(json.dumps({**document, "ignore": None}))


def pixel(split, name):
    def change(folder):
        array = np.load(folder / f"data/{split}/{name}.npy", mmap_mode="r+")
        array.flat[7] = (array.flat[7] + 1) % 5
        array.flush()

    return change


def fold(folder):
    document = json.loads((folder / "data/folds.json").read_text())
    document["fold"][0] = 1 - document["fold"][0]
    (folder / "data/folds.json").write_text(json.dumps(document))


def imported(folder):
    """Lead the record of imported maps to another file, as if theirs had been rewritten."""
    record = folder / "probabilities/theirs/oof/provenance.json"
    document = json.loads(record.read_text())
    (path,) = document["noted"]["paths"]
    maps = np.load(path)
    maps[0] = maps[0, ::-1]
    np.save(folder.parent / "theirs.npy", maps)
    document["noted"]["paths"] = [str(folder.parent / "theirs.npy")]
    record.write_text(json.dumps(document))


def source(folder):
    """Lead the run to a copy of its data file, and add a byte to that."""
    document = yaml.safe_load((folder / "experiment.yaml").read_text())
    data = folder.parent / "sample.npz"
    data.write_bytes(Path(document["data"]).read_bytes() + b"\0")
    asks(data=str(data))(folder)


# what changes -> how, what is stale by it; nothing else is
INPUTS = {
    "nothing": (lambda folder: None, []),
    "a member's weights": (weights, ["member one 0", *ONE, *REST]),
    "an option of a recipe": (
        asks(members__one__loss="focal(gamma=1)"),
        ["member one *", *ONE, *REST],
    ),
    "how a member predicts": (asks(members__one__tta="flips"), [*ONE, *REST]),
    "a class's name": (
        rename,
        ["maps *", "fusion *", "labels *", "scores *", *REST],
    ),
    "the ignored class": (
        ignore,
        ["member *", "maps *", "fusion *", "labels *", "scores *", *REST],
    ),
    "a pixel of the target learnt from": (
        pixel("oof", "target"),
        [
            *["member *", "maps one *", "maps two *", "maps theirs oof", "fusion * *"],
            *labels("one_*", "two_*", "mean_*", "learnt_*", "joined_*"),
            *labels("theirs_*", splits="oof"),
            *REST,
        ],
    ),
    "a pixel of the examined target": (
        pixel("validation", "target"),
        [
            *["maps theirs validation", "fusion joined validation", "scores * validation"],
            *["labels joined_* validation", "labels theirs_* validation", *AFTER_SCORES],
        ],
    ),
    "a pixel of an image learnt from": (
        pixel("oof", "images"),
        [
            *["member *", "maps one *", "maps two *", "maps theirs oof", "fusion * *"],
            *labels("one_*", "two_*", "mean_*", "learnt_*", "joined_*"),
            *labels("theirs_*", splits="oof"),
            *REST,
        ],
    ),
    "a pixel of an image to be labelled": (
        pixel("test", "images"),
        ["maps * test", "fusion * test", "labels * test", "submission test"],
    ),
    "a fold": (
        fold,
        [
            *["member *", "maps one *", "maps two *", "fusion * *"],
            *labels("one_*", "two_*", "mean_*", "learnt_*", "joined_*"),
            *REST,
        ],
    ),
    "the seed": (asks(seed=1), [ALL]),
    "the data file": (source, [ALL]),
    "a chain's option": (
        asks(chains__smooth="mode_filter(size=5)"),
        [*labels("*_smooth"), *AFTER_SCORES, *HANDED],
    ),
    "a strategy's option": (
        asks(fusions__learnt__strategy="stacking(l2=1)"),
        ["fusion learnt *", *labels("learnt_*"), *AFTER_SCORES],
    ),
    "members of a fusion": (
        asks(fusions__mean__members=["one"]),
        [*MEANS, *REST],
    ),
    "the store's type": (
        asks(store_dtype="float32"),
        [
            *["maps one *", "maps two *", "fusion * *"],
            *labels("one_*", "two_*", "mean_*", "learnt_*", "joined_*"),
            *REST,
        ],
    ),
    "imported maps": (
        imported,
        [
            *[
                "maps theirs oof",
                "fusion joined oof",
                *labels("theirs_*", "joined_*", splits="oof"),
            ],
            *[*labels("joined_biased"), *AFTER_SCORES],
        ],
    ),
}
CANNOT = {"the seed", "the data file"}
"""What no run takes once it has members: it is refused, and nothing is mixed."""
RERUN = (
    "nothing",
    "a member's weights",
    "an option of a recipe",
    "a pixel of the examined target",
    "a pixel of an image to be labelled",
    "a chain's option",
    "a strategy's option",
    "the store's type",
)
THEIRS = ["* theirs* *", "* joined* *", "leaderboard *"]
"""What only a new `ens import` brings up to date."""


def matching(parts, patterns):
    return {part for part in parts if any(fnmatchcase(part, pattern) for pattern in patterns)}


def records(folder):
    """Return when each result was written, by what it is."""
    places = {
        "member": "members/*/*/provenance.json",
        "maps": "probabilities/*/*/provenance.json",
        "fusion": "fused/*/*/provenance.json",
        "labels": "labels/*/*/provenance.json",
        "scores": "scores/*/*.provenance.json",
    }
    return {
        " ".join([stage, *_name(file.relative_to(folder))]): file.stat().st_mtime_ns
        for stage, pattern in places.items()
        for file in folder.glob(pattern)
        if not file.parent.name.startswith("fitted")
    }


def _name(file):
    _, name, part, *_ = file.parts
    return name, part.removesuffix(".provenance.json").removeprefix("fold-")


@pytest.mark.parametrize("what", INPUTS)
def test_what_depends_on_a_changed_input_is_stale_and_nothing_else(copy, capsys, what):
    change, expected = INPUTS[what]
    change(copy)
    found = states(copy, capsys)
    stale = {part for part, state in found.items() if state == "stale"}
    assert stale == matching(found, expected)
    assert {part for part, state in found.items() if state == "missing"} == set()
    for pattern in expected:
        assert matching(found, [pattern]), pattern


@pytest.mark.slow
@pytest.mark.parametrize("what", RERUN)
def test_only_what_is_stale_is_made_again_and_is_then_current(copy, capsys, what):
    change, expected = INPUTS[what]
    change(copy)
    before = records(copy)
    did(["run", copy / "experiment.yaml", "--run", copy, "--workers", 1])
    after = records(copy)
    redone = {part for part in after if after[part] != before.get(part)}
    left = {part for part, state in states(copy, capsys).items() if state != "current"}
    theirs = THEIRS if "maps theirs validation" in expected else []
    assert left <= matching(left, [*REST, *theirs])
    assert redone <= matching(after, expected)
    assert bool(redone) == bool(expected)
    if what == "a member's weights":
        assert redone == {"member one 0"}  # they are the same again, and so is all behind them


def test_records_of_maps_in_the_first_format_are_still_accepted(copy, capsys):
    """They named images and target together, and no classes."""
    file = copy / "probabilities/one/validation/provenance.json"
    document = json.loads(file.read_text())
    del document["inputs"]["classes"], document["inputs"]["images"]
    document["inputs"]["data"] = split_identity(Run(copy), "validation")
    file.write_text(json.dumps(document))
    assert states(copy, capsys)["maps one validation"] == "current"
    pixel("validation", "images")(copy)
    assert states(copy, capsys)["maps one validation"] == "stale"


@pytest.mark.parametrize("what", sorted(CANNOT))
def test_changes_that_a_run_with_members_cannot_take_are_refused(copy, capsys, what):
    INPUTS[what][0](copy)
    before = records(copy)
    did(["run", copy / "experiment.yaml", "--run", copy, "--workers", 1], code=2)
    assert "holds members of other data, folds or seed" in capsys.readouterr().err
    assert records(copy) == before


@pytest.mark.slow
def test_commands_bring_up_to_date_what_ens_run_does_not_make(copy, tmp_path, capsys):
    asks(members__one__tta="flips")(copy)
    here = ["--run", copy]
    did(["run", copy / "experiment.yaml", *here, "--workers", 1])
    assert {"report mean_smooth validation", TUNED} <= {
        part for part, state in states(copy, capsys).items() if state == "stale"
    }
    space = Path(yaml.safe_load((copy / "experiment.yaml").read_text())["data"]).parent
    tuning = ["--trials", 2, "--space", space / "space.yaml"]
    did(["tune-postproc", *here, "--fusion", "mean", *tuning])
    did(["report", *here, "--candidate", "mean_smooth"])
    found = states(copy, capsys)
    assert found["report mean_smooth validation"] == found[TUNED] == "current"


def test_commands_say_what_is_stale_behind_their_results(copy, tmp_path, capsys):
    pixel("oof", "target")(copy)
    labels = ["--candidate", "two_argmax", "--out", tmp_path / "out.csv"]
    for command in (["submit", *labels], ["score"], ["compare"]):
        capsys.readouterr()
        did([*command, "--run", copy])
        said = capsys.readouterr().err
        assert "warning: stale, something that it was made of has changed: member" in said
        assert f"`ens run {copy}/experiment.yaml --run {copy}` makes it again" in said


@pytest.mark.slow
def test_a_prediction_by_other_weights_is_not_resumed(copy):
    """A prediction was stopped half way, and its member has changed since."""
    folder = copy / "probabilities/one/validation"
    before = (folder / "store.json").read_bytes()
    (folder / "begun.provenance.json").write_bytes((folder / "provenance.json").read_bytes())
    (folder / "provenance.json").unlink()
    (folder / "store.json").write_text("{}")
    document = json.loads((folder / "begun.provenance.json").read_text())
    document["inputs"]["fold-0"] = "another"
    (folder / "begun.provenance.json").write_text(json.dumps(document))
    did(["run", copy / "experiment.yaml", "--run", copy, "--workers", 1])
    assert (folder / "store.json").read_bytes() == before
    assert not (folder / "begun.provenance.json").exists()


@pytest.mark.parametrize(
    ("stale", "words"),
    [
        (["labels", "report"], "ens run R/experiment.yaml --run R"),
        (["tuning", "report"], "ens tune-postproc --run R --fusion it"),
        (["report", "package"], "ens report --run R"),
        (["package"], "ens freeze --run R --candidate C --out it"),
        ([], "ens score --run R"),
    ],
)
def test_status_names_the_command_that_updates_the_first_stale_result(stale, words):
    parts = [StatusRow("data", "", "", "current", 0.0)]
    parts += [StatusRow(stage, "it", "", "stale", 0.0) for stage in stale]
    assert next_command(Run(Path("R")), parts) == words


@pytest.mark.parametrize(
    ("stages", "verb"),
    [([], "score"), (["scores"], "report"), (["scores", "report"], "compare")],
)
def test_status_of_what_is_current_names_what_comes_next(stages, verb):
    parts = [StatusRow(stage, "it", "", "current", 0.0) for stage in ("data", *stages)]
    assert next_command(Run(Path("R")), parts) == f"ens {verb} --run R"


def fitted_files(folder):
    files = [*(folder / "fused/learnt").rglob("fitted*/*")]
    return {file: file.read_bytes() for file in files if file.name != RECORD}


@pytest.mark.parametrize("part", ["cross_fit", "save_fitted"])
def test_a_fit_that_ends_early_loses_nothing_that_the_same_command_does_not_bring_back(
    copy, monkeypatch, part
):
    def end(*_):
        raise KeyboardInterrupt

    words = ["fuse", "--run", copy, "--members", "one,two", "--name", "learnt", "--strategy"]
    before = fitted_files(copy)
    assert any("without" in file.parent.name for file in before)
    with monkeypatch.context() as patched:
        patched.setattr(f"ensemble.pipeline.candidates.fuse.{part}", end)
        did([*words, "stacking(l2=1)"], 2)
    if part == "cross_fit":
        assert fitted_files(copy) == before
    did([*words, "stacking(l2=0.1)"])
    assert fitted_files(copy) == before
