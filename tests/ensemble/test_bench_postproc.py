"""`ens bench postproc`: gains, ledger and costs of chains on the same maps; refusals."""

import json
import shutil

import numpy as np
import pytest

from ensemble.cli import run_command
from ensemble.pipeline.bench.chain_costs import measure_costs, peak_memory
from ensemble.pipeline.bench.chains import USUAL, read_chains, usual_chains
from ensemble.pipeline.bench.comparison import (
    BenchConfig,
    bench_postproc,
    best_oof_candidate,
    format_bench,
)
from ensemble.pipeline.candidates.postprocess import postprocess_run, read_labels
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import IMPORTED, RunMembers
from ensemble.pipeline.scoring.score import score_run
from evaluation.confusion import confusion
from evaluation.core.classes import UNLABELLED, Classes, numbered
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent
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
    actual = Run(tmp_path_factory.mktemp("chains") / "run")
    rng, classes = np.random.default_rng(0), Classes(("sky", "soil", "sand", "rock"), ignore=0)
    for split, images in (("oof", 40), ("validation", 70)):
        pixels, target, groups, maps = drawn_split(rng, images)
        ids = tuple(f"{split}-{number}" for number in range(images))
        DataSet(pixels, target, ids, groups, classes).save(actual.data(split))
        store = ProbabilityStore.create(
            actual.probabilities(MEMBER, split),
            ids=ids,
            classes=classes,
            extent=Extent.uniform(images, (ROWS, COLS)),
            seen=TrainingIds((frozenset(),)),
        )
        for block in store.missing_blocks():
            store.write(block, maps[block])
        record(store.folder, config={IMPORTED: True}, inputs={})
    write_classes(actual.classes, classes)
    write_json(actual.folds, {"folds": 2, "fold": [number // 20 for number in range(40)]})
    Experiment(folds=2).write(actual.experiment)
    assert run_command(["fuse", "--run", str(actual.path), "--strategy", "mean"]) == 0
    return actual


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    file = tmp_path_factory.mktemp("named") / "chains.yaml"
    file.write_text(CHAINS)
    return file


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def report(at, chains):
    before = files_of(at.path)
    result = bench_postproc(at, BenchConfig(None, chains, "validation", 1), silent)
    assert files_of(at.path) == before
    return result


@pytest.fixture(scope="module")
def document(report):
    return report.to_dict()


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


class TestReport:
    def test_report_names_the_machine_and_the_maps(self, document):
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
        for actual in rows(document)[name]["protocols"].values():
            assert (actual["gain"], actual["interval"]["low"], actual["interval"]["high"]) == (
                0,
                0,
                0,
            )
        for step in rows(document)[name]["ledger"]:
            assert (step["fixed"], step["broken"], step["moved"]) == (0, 0, 0)

    def test_the_ledger_has_a_row_per_step(self, document):
        steps = {name: [s["step"] for s in row["ledger"]] for name, row in rows(document).items()}
        assert steps["plain"] == []
        assert steps["cleaned"] == [
            "suppress_background",
            "mode_filter(size=3)",
            "remove_small(min_area_px=4)",
        ]

    def test_scored_classes_of_a_step_add_up(self, document, at):
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

    def test_intervals_are_corrected_for_the_number_of_chains(self, document):
        actual = rows(document)["cleaned"]["protocols"]["masked"]["interval"]
        assert 0.95 < actual["level"] <= 1 - 0.05 / len(document["chains"])

    def test_a_chain_that_learns_has_a_fitted_form(self, document):
        assert rows(document)["class_bias"]["fitted"].startswith("class_bias(bias=['-inf', 0.0, ")
        assert rows(document)["cleaned"]["fitted"] is None

    def test_costs_are_relative_to_the_plain_argmax(self, document):
        plain = document["plain"]
        assert (plain["times_as_long"], plain["peak_mb_over_plain"]) == (1, 0)
        assert rows(document)["cleaned"]["times_as_long"] > 1
        for row in document["chains"]:
            assert row["images_per_s"] > 0
            assert row["peak_mb_over_plain"] == row["peak_mb"] - plain["peak_mb"]

    def test_text_has_both_gains_and_the_metrics_part_side_by_side(self, report):
        lines = format_bench(report).splitlines()
        head = next(line for line in lines if line.startswith("chain "))
        order = [head.index(word) for word in ("masked", "keras", "metric's", "images/s")]
        assert order == sorted(order)
        assert any("divided by, not from pixels" in line for line in lines)
        assert sum(line.startswith("  suppress_background ") for line in lines) == 2


@pytest.mark.slow
def test_on_oof_a_chain_that_learns_labels_images_it_was_not_fitted_on(at, tmp_path):
    file = tmp_path / "one.txt"
    file.write_text("class_bias")
    (actual,) = bench_postproc(at, BenchConfig(MEMBER, file, "oof", 1), silent).chains
    name = postprocess_run(at, MEMBER, "class_bias", log=silent)
    data = DataSet.load(at.data("oof"))
    counts = confusion(data.target(), read_labels(at, name, "oof"), classes=len(data.classes))
    expected = PROTOCOLS.build("masked")(counts.sum(axis=0), 0).miou
    assert actual.protocols["masked"].miou == pytest.approx(float(expected))


class TestDefaultSource:
    @pytest.mark.slow
    def test_default_is_the_highest_fusion_or_the_first_if_none_is_scored(self, at):
        log_lines = []
        assert best_oof_candidate(RunMembers.of(at), log_lines.append) == FUSION
        assert log_lines == [
            "no fusion has been scored on oof (`ens score` does), so the first: mean"
        ]
        assert (
            run_command(["fuse", "--run", str(at.path), "--strategy", "max", "--name", "upper"])
            == 0
        )
        board = score_run(at, ["mean", "upper"], split="oof", protocol="masked", log=silent)
        highest = best_oof_candidate(RunMembers.of(at), log_lines.append)
        assert f"{highest}_argmax" == board.rows[0].name
        assert log_lines[-1].startswith(f"{highest}: the highest of 2 fusions on oof, ")

    def test_a_run_without_fusions_is_refused_with_a_hint(self, at):
        without = Run(at.path.parent / "without")
        Experiment(folds=2).write(without.experiment)
        write_classes(without.classes, Classes(("sky", "soil"), ignore=0))
        with pytest.raises(BadRun, match="holds no fusion; make one: `ens fuse --run "):
            best_oof_candidate(RunMembers.of(without), silent)

    @pytest.mark.parametrize(
        ("split", "words"),
        [
            ("nowhere", r"no split 'nowhere' in .*; known: oof, validation, untold"),
            ("untold", "split 'untold' has no target to score by; take one with masks"),
        ],
    )
    def test_a_split_without_target_is_refused_before_any_log(self, at, split, words):
        data = DataSet.load(at.data("validation"))
        DataSet(data.images, None, data.ids, data.groups, data.classes).save(at.data("untold"))
        log_lines = []
        try:
            with pytest.raises(BadRun, match=words):
                bench_postproc(at, BenchConfig(None, None, split, 1), log_lines.append)
        finally:
            shutil.rmtree(at.data("untold"))
        assert log_lines == []


class TestChainFiles:
    def test_a_line_is_a_chain_with_an_optional_name(self, tmp_path):
        file = tmp_path / "chains.txt"
        file.write_text("blur|open\n\n# no\nb: 'crf(iterations=5)'\nmine: crf(floor={a: 1})\n")
        assert read_chains(file) == {
            "blur|open": "blur|open",
            "b": "crf(iterations=5)",
            "mine": "crf(floor={a: 1})",
        }

    def test_a_colon_inside_brackets_separates_no_name(self, tmp_path):
        file = tmp_path / "chains.txt"
        file.write_text("class_bias(bias={a: 1})\n")
        assert list(read_chains(file)) == ["class_bias(bias={a: 1})"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "chains.txt holds no chain; expected one per line, CHAIN or NAME: CHAIN"),
            ("a: blur\na: open", "chains.txt, line 2: 'a' already exists; take another name"),
            ("a b: blur", "chain name 'a b'; expected letters"),
            ("good: blur\nbad: blurr", "chains.txt, chain 'bad': unknown step 'blurr'; known:"),
            (
                "x: open|crf",
                "chain 'x': step 'crf' needs maps, but 'open' before it returns labels",
            ),
        ],
    )
    def test_a_bad_file_is_refused_in_one_line(self, at, tmp_path, capsys, text, words):
        file = tmp_path / "chains.txt"
        file.write_text(text)
        where = ["--run", str(at.path), "--chains", str(file)]
        assert run_command(["bench", "postproc", *where]) == 2
        message = capsys.readouterr().err
        assert words in message
        assert len(message.splitlines()) == 1

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(BadSpec, match=r"none\.txt is missing; expected a file with one chain"):
            read_chains(tmp_path / "none.txt")


def test_every_usual_chain_parses():
    for chain in USUAL.values():
        parsed = parse_chain(chain, classes=5, ignore=0)
        assert [spec.name for spec in parsed.specs] == [
            part.split("(")[0] for part in chain.split("|")
        ]


@pytest.mark.slow
def test_peak_memory_does_not_include_that_of_the_parent(tmp_path):
    held = np.ones(600_000_000 // 8)
    maps = np.full((2, 3, 8, 8), 1 / 3, np.float32)
    images = np.zeros((2, 1, 8, 8), np.uint8)
    (actual,) = peak_memory([parse_chain("", classes=3, ignore=0)], maps, images, tmp_path)
    assert actual is not None
    assert 20 < actual < held.nbytes / 1e6


def test_images_of_every_timed_block_are_counted(monkeypatch):
    seen = []

    def turns(sides, rounds, *, clock):
        assert clock.__name__ == "process_time"
        for side in sides.values():
            side()
        return {name: [2.0] * rounds for name in sides}

    where = "ensemble.pipeline.bench.chain_costs"
    monkeypatch.setattr(f"{where}.interleaved", turns)
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
    actual = measure_costs({"": chain}, maps, data, 3)
    assert seen == [64, 64, 2]
    assert actual[""].images_per_s == 65


class TestUsualChains:
    def around(self, ignore):
        return StepContext(CLASSES, ignore, 0.0)

    def test_all_usual_chains_are_taken_by_default(self, at):
        log_lines: list[str] = []
        assert set(
            usual_chains(RunMembers.of(at), MEMBER, self.around(0), log_lines.append)
        ) == set(USUAL)
        assert log_lines == []

    def test_usual_chains_that_need_an_ignored_class_are_left_out(self, at):
        log_lines: list[str] = []
        taken = usual_chains(RunMembers.of(at), MEMBER, self.around(None), log_lines.append)
        assert set(taken) == {k for k, chain in USUAL.items() if "suppress_background" not in chain}
        assert log_lines == ["chains with suppress_background are left out: no class is ignored"]

    def test_usual_chains_that_learn_are_left_out_without_oof_maps(self, at, tmp_path):
        shutil.copytree(at.path, tmp_path / "run")
        copy = Run(tmp_path / "run")
        shutil.rmtree(copy.probabilities(MEMBER, "oof"))
        log_lines: list[str] = []
        taken = usual_chains(RunMembers.of(copy), MEMBER, self.around(0), log_lines.append)
        assert set(taken) < set(USUAL)
        assert not any(chain.learns for chain in taken.values())
        assert log_lines == [f"chains that learn are left out: {MEMBER!r} has no maps of oof"]


def test_a_chain_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "chains").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(BadSpec, match=r"chains cannot be read \(.*\); expected a file with one"):
        read_chains(tmp_path / "chains")
