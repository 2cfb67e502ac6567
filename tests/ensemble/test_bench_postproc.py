"""`ens bench postproc`: gains, ledger and costs of chains on the same maps; what is refused."""

import json
import shutil

import numpy as np
import pytest

from ensemble.cli import run
from ensemble.pipeline.bench.chain_costs import costs, peak_memory
from ensemble.pipeline.bench.chains import USUAL, read_chains, usual
from ensemble.pipeline.bench.comparison import Asked, bench_postproc, scored_highest
from ensemble.pipeline.bench.comparison_text import as_text
from ensemble.pipeline.candidates.postprocess import postprocess_run, read_labels
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import FOREIGN, RunMembers
from ensemble.pipeline.scoring.score import score_run
from evaluation.confusion import confusion
from evaluation.core.classes import UNLABELLED, Classes, numbered
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.run_folder import Run
from evaluation.core.specs import Spec
from evaluation.protocols import PROTOCOLS
from members.data.dataset import DataSet, write_classes
from members.maps import ArrayMaps
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds
from postproc.chain import Chain, StepContext, parse_chain
from postproc.step import Step

MEMBER, FUSION = "one", "mean"
CLASSES, ROWS, COLS = 4, 16, 24
CHAINS = """
# what does nothing, in two ways
plain:
nothing: mode_filter(size=1)
suppress_background
cleaned: "suppress_background|mode_filter(size=3)|remove_small(min_area_px=4)"
class_bias
"""


def silent(line):
    """Take a line of progress and drop it."""


def smoothed(rng, shape):
    """Draw values in [0, 1) that are alike in neighbouring pixels."""
    coarse = rng.random((*shape[:-2], shape[-2] // 4, shape[-1] // 4))
    return coarse.repeat(4, axis=-2).repeat(4, axis=-1)


def drawn_split(rng, images):
    """Draw a split, and maps that name each class too seldom or too often, the ignored one too."""
    target = smoothed(rng, (images, CLASSES, ROWS, COLS)).argmax(axis=1).astype(np.uint8)
    target[:, 0, 0] = UNLABELLED
    right = np.eye(CLASSES + 1)[np.minimum(target, CLASSES)][..., :CLASSES].transpose(0, 3, 1, 2)
    maps = right + 2.5 * rng.random(right.shape) * np.array([0.8, 1.2, 1, 0.8])[:, None, None]
    groups = (np.arange(images) // 4).astype(str)
    pixels = rng.integers(0, 256, (images, 1, ROWS, COLS), dtype=np.uint8)
    return pixels, target, groups, (maps / maps.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """A run with one member's maps from elsewhere, and their mean."""
    found = Run(tmp_path_factory.mktemp("chains") / "run")
    rng, classes = np.random.default_rng(0), Classes(("sky", "soil", "sand", "rock"), ignore=0)
    for split, images in (("oof", 40), ("validation", 70)):
        pixels, target, groups, maps = drawn_split(rng, images)
        ids = tuple(f"{split}-{number}" for number in range(images))
        DataSet(pixels, target, ids, groups, classes).save(found.data(split))
        store = ProbabilityStore.create(
            found.probabilities(MEMBER, split),
            ids=ids, classes=classes, shape=(ROWS, COLS), seen=TrainingIds((frozenset(),)),
        )  # fmt: skip
        for block in store.missing():
            store.write(block, maps[block])
        record(store.folder, asked={FOREIGN: True}, inputs={})
    write_classes(found.classes, classes)
    write_json(found.folds, {"folds": 2, "fold": [number // 20 for number in range(40)]})
    Experiment(folds=2).write(found.experiment)
    assert run(["fuse", "--run", str(found.path), "--strategy", "mean"]) == 0
    return found


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    file = tmp_path_factory.mktemp("named") / "chains.yaml"
    file.write_text(CHAINS)
    return file


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def document(at, chains):
    before = files_of(at.path)
    found = bench_postproc(at, Asked(None, chains, "validation", 1), silent)
    assert files_of(at.path) == before
    return found


def rows(document):
    return {row["name"]: row for row in document["chains"]}


def plain_and_chain(at, text, split="validation"):
    """Label a split by the plain argmax and by a chain, in another way than the bench does."""
    data = DataSet.load(at.data(split))
    maps = RunMembers.of(at).open(FUSION, split)
    values, classes = maps.read(slice(0, len(data))), data.classes
    context = {"classes": len(classes), "ignore": classes.ignore, "floor": maps.floor}
    labels = (parse_chain(t, **context)(values, np.asarray(data.images)) for t in ("", text))
    return [confusion(data.target(), one, classes=len(classes)).sum(axis=0) for one in labels]


def net(step):
    return step["fixed"] - step["broken"]


class TestTheDocument:
    def test_says_what_was_measured_and_where(self, document):
        assert (document["source"], document["split"], document["cores"]) == (
            FUSION,
            "validation",
            1,
        )
        assert (document["images"], document["rounds"]) == (70, 1)
        assert "processor" in document["machine"]
        assert list(rows(document)) == [
            "plain", "nothing", "suppress_background", "cleaned", "class_bias",
        ]  # fmt: skip
        json.dumps(document, allow_nan=False)

    @pytest.mark.parametrize("name", ["plain", "nothing"])
    def test_a_chain_that_does_nothing_gains_nothing(self, document, name):
        for found in rows(document)[name]["protocols"].values():
            assert (found["gain"], found["interval"]["low"], found["interval"]["high"]) == (0, 0, 0)
        for step in rows(document)[name]["ledger"]:
            assert (step["fixed"], step["broken"], step["moved"]) == (0, 0, 0)

    def test_a_row_of_the_ledger_is_a_step(self, document):
        steps = {name: [s["step"] for s in row["ledger"]] for name, row in rows(document).items()}
        assert steps["plain"] == []
        assert steps["cleaned"] == [
            "suppress_background",
            "mode_filter(size=3)",
            "remove_small(min_area_px=4)",
        ]

    def test_classes_of_a_step_add_up_and_the_ignored_one_is_not_among_them(self, document, at):
        scored = [n for k, n in enumerate(DataSet.load(at.data("oof")).classes.names) if k != 0]
        for row in document["chains"]:
            for step in row["ledger"]:
                assert list(step["classes"]) == scored
                for change in ("fixed", "broken", "moved"):
                    assert sum(c[change] for c in step["classes"].values()) == step[change]

    @pytest.mark.parametrize("name", ["suppress_background", "cleaned"])
    def test_gain_and_ledger_are_those_of_the_label_maps(self, document, at, name):
        row = rows(document)[name]
        before, after = plain_and_chain(at, row["chain"])
        right = np.diagonal(after - before)[1:].sum()
        assert sum(net(step) for step in row["ledger"]) == right
        assert any(step["fixed"] or step["broken"] for step in row["ledger"])
        for protocol in ("masked", "keras"):
            score = PROTOCOLS.build(protocol)
            expected = float(score(after, 0).miou - score(before, 0).miou)
            assert row["protocols"][protocol]["gain"] == pytest.approx(expected)

    def test_intervals_are_so_wide_that_all_chains_hold_together(self, document):
        found = rows(document)["cleaned"]["protocols"]["masked"]["interval"]
        assert found["level"] == pytest.approx(1 - 0.05 / len(document["chains"]))

    def test_a_chain_that_learns_says_what_it_became(self, document):
        assert rows(document)["class_bias"]["fitted"].startswith("class_bias(bias=['-inf', 0.0, ")
        assert rows(document)["cleaned"]["fitted"] is None

    def test_costs_are_beside_those_of_the_plain_argmax(self, document):
        plain = document["plain"]
        assert (plain["times_as_long"], plain["peak_mb_over_plain"]) == (1, 0)
        assert rows(document)["cleaned"]["times_as_long"] > 1
        for row in document["chains"]:
            assert row["images_per_s"] > 0
            assert row["peak_mb_over_plain"] == row["peak_mb"] - plain["peak_mb"]

    def test_the_text_has_both_gains_and_the_metrics_part_side_by_side(self, document):
        lines = as_text(document).splitlines()
        head = next(line for line in lines if line.startswith("chain "))
        order = [head.index(word) for word in ("masked", "keras", "metric's", "images/s")]
        assert order == sorted(order)
        assert any("divided by, not from pixels" in line for line in lines)
        assert sum(line.startswith("  suppress_background ") for line in lines) == 2


@pytest.mark.slow
def test_on_oof_what_has_learned_labels_the_fold_that_it_did_not_learn_from(at, tmp_path):
    file = tmp_path / "one.txt"
    file.write_text("class_bias")
    found = rows(bench_postproc(at, Asked(MEMBER, file, "oof", 1), silent))["class_bias"]
    name = postprocess_run(at, MEMBER, "class_bias", log=silent)
    data = DataSet.load(at.data("oof"))
    counts = confusion(data.target(), read_labels(at, name, "oof"), classes=len(data.classes))
    expected = PROTOCOLS.build("masked")(counts.sum(axis=0), 0).miou
    assert found["protocols"]["masked"]["miou"] == pytest.approx(float(expected))


class TestTheChoice:
    @pytest.mark.slow
    def test_is_the_first_fusion_where_none_is_scored_else_the_highest(self, at):
        told = []
        assert scored_highest(RunMembers.of(at), told.append) == FUSION
        assert told == ["no fusion has been scored on oof (`ens score` does), so the first: mean"]
        assert run(["fuse", "--run", str(at.path), "--strategy", "max", "--name", "upper"]) == 0
        board = score_run(at, ["mean", "upper"], split="oof", protocol="masked", log=silent)
        highest = scored_highest(RunMembers.of(at), told.append)
        assert f"{highest}_argmax" == board.rows[0].name
        assert told[-1].startswith(f"{highest}: the highest of 2 fusions on oof, ")

    def test_a_run_without_a_fusion_says_how_to_make_one(self, at):
        without = Run(at.path.parent / "without")
        Experiment(folds=2).write(without.experiment)
        write_classes(without.classes, Classes(("sky", "soil"), ignore=0))
        with pytest.raises(BadRun, match="holds no fusion; make one: `ens fuse --run "):
            scored_highest(RunMembers.of(without), silent)

    @pytest.mark.parametrize(
        ("split", "words"),
        [
            ("nowhere", r"no split 'nowhere' in .*; known: oof, validation, untold"),
            ("untold", "split 'untold' has no target to score by; take one with masks"),
        ],
    )
    def test_a_split_without_target_is_refused_before_anything_is_told(self, at, split, words):
        data = DataSet.load(at.data("validation"))
        DataSet(data.images, None, data.ids, data.groups, data.classes).save(at.data("untold"))
        told = []
        try:
            with pytest.raises(BadRun, match=words):
                bench_postproc(at, Asked(None, None, split, 1), told.append)
        finally:
            shutil.rmtree(at.data("untold"))
        assert told == []


class TestChainFiles:
    def test_a_line_is_a_chain_and_may_have_a_name(self, tmp_path):
        file = tmp_path / "chains.txt"
        file.write_text("blur|open\n\n# no\nb: 'crf(iterations=5)'\nmine: crf(floor={a: 1})\n")
        assert read_chains(file) == {
            "blur|open": "blur|open",
            "b": "crf(iterations=5)",
            "mine": "crf(floor={a: 1})",
        }

    def test_a_colon_inside_brackets_names_nothing(self, tmp_path):
        file = tmp_path / "chains.txt"
        file.write_text("class_bias(bias={a: 1})\n")
        assert list(read_chains(file)) == ["class_bias(bias={a: 1})"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "chains.txt holds no chain; expected one a line, CHAIN or NAME: CHAIN"),
            ("a: blur\na: open", "chains.txt, line 2: 'a' is there already; take another name"),
            ("a b: blur", "chain name 'a b'; expected letters"),
            ("good: blur\nbad: blurr", "chains.txt, chain 'bad': unknown step 'blurr'; known:"),
            ("x: open|crf", "chain 'x': step 'crf' needs maps, but 'open' before it gives labels"),
        ],
    )
    def test_a_bad_file_is_refused_in_one_line(self, at, tmp_path, capsys, text, words):
        file = tmp_path / "chains.txt"
        file.write_text(text)
        where = ["--run", str(at.path), "--chains", str(file)]
        assert run(["bench", "postproc", *where]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == 1

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(BadSpec, match=r"none\.txt is missing; expected a file with a chain"):
            read_chains(tmp_path / "none.txt")


def test_every_usual_chain_parses():
    for chain in USUAL.values():
        parsed = parse_chain(chain, classes=5, ignore=0)
        assert [spec.name for spec in parsed.specs] == [
            part.split("(")[0] for part in chain.split("|")
        ]


@pytest.mark.slow
def test_the_parents_memory_is_not_the_childs(tmp_path):
    held = np.ones(600_000_000 // 8)
    maps = np.full((2, 3, 8, 8), 1 / 3, np.float32)
    images = np.zeros((2, 1, 8, 8), np.uint8)
    (found,) = peak_memory([parse_chain("", classes=3, ignore=0)], maps, images, tmp_path)
    assert found is not None
    assert 20 < found < held.nbytes / 1e6


def test_images_of_every_timed_block_are_counted(monkeypatch):
    seen = []

    def turns(sides, rounds, *, clock):
        assert clock.__name__ == "process_time"
        for side in sides.values():
            side()
        return {name: [2.0] * rounds for name in sides}

    where = "ensemble.pipeline.bench.chain_costs"
    monkeypatch.setattr(f"{where}.in_turns", turns)
    monkeypatch.setattr(f"{where}.peak_memory", lambda chains, *rest: [None] * len(chains))
    maps = ArrayMaps("drawn", np.full((130, 2, 1, 1), 0.5, np.float32))
    images = np.zeros((130, 1, 1, 1), np.uint8)
    ids = tuple(map(str, range(130)))
    data = DataSet(images, None, ids, None, numbered(2, ignore=0))

    def look(values, _):
        seen.append(len(values))
        return values

    around = StepContext(classes=2, ignore=0, floor=2.0**-25)
    chain = Chain((Spec("look"),), (Step("maps", "maps", look),), around)
    found = costs({"": chain}, maps, data, 3)
    assert seen == [64, 64, 2]
    assert found[""]["images_per_s"] == 65


class TestTheUsualChains:
    """What is measured where no chain is named."""

    def around(self, ignore):
        return StepContext(CLASSES, ignore, 0.0)

    def test_are_all_taken_where_all_can_be(self, at):
        told: list[str] = []
        assert set(usual(RunMembers.of(at), MEMBER, self.around(0), told.append)) == set(USUAL)
        assert told == []

    def test_leave_out_what_needs_an_ignored_class(self, at):
        told: list[str] = []
        taken = usual(RunMembers.of(at), MEMBER, self.around(None), told.append)
        assert set(taken) == {k for k, chain in USUAL.items() if "suppress_background" not in chain}
        assert told == ["chains with suppress_background are left out: no class is ignored"]

    def test_leave_out_what_learns_where_nothing_is_held_out(self, at, tmp_path):
        shutil.copytree(at.path, tmp_path / "run")
        copy = Run(tmp_path / "run")
        shutil.rmtree(copy.probabilities(MEMBER, "oof"))
        told: list[str] = []
        taken = usual(RunMembers.of(copy), MEMBER, self.around(0), told.append)
        assert set(taken) < set(USUAL)
        assert not any(chain.learns for chain in taken.values())
        assert told == [f"chains that learn are left out: {MEMBER!r} has no maps of oof"]


def test_a_file_of_chains_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "chains").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BadSpec, match=r"chains cannot be read \(.*\); expected a chain a line"):
        read_chains(tmp_path / "chains")
