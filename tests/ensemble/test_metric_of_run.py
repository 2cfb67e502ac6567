"""The run's metric decides: training, fits, tuning, ranking and reports."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from ensemble.api.opened_run import OpenedRun
from ensemble.cli import run_command
from ensemble.fusion import TrainingBlock
from ensemble.pipeline.candidates.fuse import resolve_fusion
from ensemble.pipeline.candidates.postprocess import labels_record, run_chain
from ensemble.pipeline.members.jobs import training_job
from ensemble.pipeline.report import figures
from ensemble.pipeline.report.candidate_trace import CandidateTrace
from ensemble.pipeline.run.experiment import Experiment, read_experiment
from ensemble.pipeline.run.open_run import IMPORTED, RunMembers, run_metric
from ensemble.pipeline.tuning.results import is_tuned
from ensemble.pipeline.tuning.tuning import TuningBudget, tune
from ensemble.strategies.greedy import greedy
from evaluation.confusion import confusion
from evaluation.core.classes import Classes
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import OOF, Run
from evaluation.protocols import build_protocol
from evaluation.reliability import calibration_gap
from evaluation.report.figures import Drawing
from evaluation.run_metric import set_metric
from members.data.dataset import DataSet, write_classes
from members.maps import ArrayMaps
from members.recipe import Member, Recipe
from members.store import ProbabilityStore
from members.train import Fold
from postproc.chain import parse_chain
from postproc.fit_chain import fit_chain

CLASSES = Classes(("background", "nucleus"), values=(0, 255), unlabelled=(), foreground=1)
IMAGES, SIZE = 24, (12, 16)
IDS = tuple(f"p{k:02}" for k in range(IMAGES))
METRIC = "iou(of=nucleus)"


def iou(target, pred):
    return ((target == 1) & (pred == 1)).sum() / ((target == 1) | (pred == 1)).sum()


@pytest.fixture(scope="module")
def target():
    """A nucleus in a fifth of the pixels."""
    labels = np.zeros((IMAGES, *SIZE), np.uint8)
    labels[:, 2:8, 3:9] = 1
    return labels


@pytest.fixture(scope="module")
def maps(target):
    """Maps that favour the background: their argmax misses half of the nuclei's pixels."""
    rng = np.random.default_rng(0)
    nucleus = np.clip(0.15 + 0.35 * target + rng.normal(0, 0.1, target.shape), 0.01, 0.99)
    return np.stack([1 - nucleus, nucleus], axis=1).astype(np.float32)


def write_run(folder, target, members, **settings):
    run, rng = Run(folder), np.random.default_rng(7)
    images = rng.integers(0, 256, (IMAGES, 1, *SIZE), dtype=np.uint8)
    write_classes(run.classes, CLASSES)
    for split in (OOF, "validation"):
        DataSet(images, target, IDS, None, CLASSES).save(run.data(split))
        for name, maps in members.items():
            store = ProbabilityStore.create(
                run.probabilities(name, split),
                ids=IDS,
                classes=CLASSES,
                extent=Extent.uniform(IMAGES, SIZE),
                seen=None,
            )
            store.write(slice(0, IMAGES), maps)
            record(store.folder, config={IMPORTED: name}, inputs={})
    write_json(run.folds, {"folds": 2, "fold": [k % 2 for k in range(IMAGES)]})
    record(run.path / "data", config={}, inputs={})
    Experiment(data="sample", folds=2, **settings).write(run.experiment)
    return run


@pytest.fixture
def run(tmp_path, target, maps):
    """A run of binary masks without a metric of its own."""
    rng = np.random.default_rng(1)
    noisy = np.clip(maps + rng.normal(0, 0.2, maps.shape).astype(np.float32), 0.01, 1)
    noisy /= noisy.sum(axis=1, keepdims=True)
    return write_run(
        tmp_path / "run", target, {"one": maps, "two": noisy}, fusions={"greedy": "greedy"}
    )


def set_metric_of(run, metric):
    experiment = read_experiment(run.experiment)
    experiment.model_copy(update={"metric": metric}).write(run.experiment)


class TestPlainFiles:
    @pytest.fixture
    def files(self, tmp_path, target):
        def save(name, labels):
            np.save(tmp_path / f"{name}.npy", CLASSES.stored(labels))
            return str(tmp_path / f"{name}.npy")

        return save("target", target), save

    @pytest.mark.parametrize("label", [0, 1])
    def test_one_label_everywhere_scores_its_share_or_nothing(self, files, target, answer, label):
        path, save = files
        pred = save("pred", np.full_like(target, label))
        shown = answer("score", "--target", path, "--pred", pred, "--foreground", "255", "--json")
        scores = json.loads(shown)["protocols"]
        assert next(iter(scores)) == "iou(of=foreground)"
        assert scores["iou(of=foreground)"]["miou"] == pytest.approx(label * (target == 1).mean())

    def test_a_class_that_is_none_is_refused(self, files, target, refusal):
        path, save = files
        pred = save("pred", target)
        options = ["--foreground", "255", "--protocol", "iou(of=nuclei)"]
        said = refusal("score", "--target", path, "--pred", pred, *options)
        assert "unknown class 'nuclei'; known: background, foreground" in said

    def test_python_takes_the_same_default(self, files, target):
        import ensemble as ens

        path, save = files
        pred = save("pred", np.ones_like(target))
        result = ens.score(path, pred, classes=2, foreground=255)
        assert result.protocol == "iou(of=foreground)"
        assert result.miou == pytest.approx((target == 1).mean())
        assert result.interval is not None
        assert result.under("masked").miou == pytest.approx((target == 1).mean() / 2)


class TestTraining:
    @pytest.fixture
    def data(self, tmp_path, target):
        rng = np.random.default_rng(0)
        images = (target * 150 + rng.integers(0, 60, target.shape)).astype(np.uint8)[:, None]

        def save(masks, name="data"):
            arrays = {"images": images, "masks": CLASSES.stored(masks)}
            np.savez(tmp_path / f"{name}.npz", **arrays)
            return str(tmp_path / f"{name}.npz")

        return save

    ARGUMENTS = ("--foreground", "255", "--folds", "2", "--workers", "1", "--epochs", "2")
    MEMBER = ("--member", "tiny={architecture: 'unet(width=2, depth=1)', batch: 4}")

    def train(self, data, folder, *more):
        arguments = ["train-members", "--data", data, "--run", str(folder)]
        return [*arguments, *self.ARGUMENTS, *self.MEMBER, *more]

    def test_the_metric_is_said_kept_and_what_scores_rank_by(self, data, target, tmp_path, capsys):
        folder = tmp_path / "run"
        assert run_command(self.train(data(target), folder)) == 0
        said = capsys.readouterr().err
        assert "metric: IoU of foreground, since two classes have a declared foreground" in said
        assert run_command(["score", "--run", str(folder)]) == 0
        shown = capsys.readouterr()
        assert "metric: IoU of foreground" in shown.err
        assert "Scores are IoU of foreground." in shown.out
        assert run_command(["compare", "--run", str(folder), "--json"]) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out)["protocol"] == "iou(of=foreground)"
        assert run_command(["report", "--run", str(folder)]) == 0
        page = (folder / "report" / "index.html").read_text(encoding="utf-8")
        assert "IoU of foreground" in page
        assert "masked mIoU" not in page
        assert run_command(self.train(data(target), folder, "--objective-metric", "dice")) == 0
        assert "training: tiny fold 0 done" in capsys.readouterr().err
        assert yaml.safe_load((folder / "experiment.yaml").read_text())["metric"] == "dice"

    @pytest.mark.parametrize(
        ("metric", "words"),
        [
            ("iou(of=nuclei)", "unknown class 'nuclei'; known: background, foreground"),
            ("diec", "unknown protocol 'diec'"),
            ("foreground", "needs option 'but'"),
        ],
    )
    def test_what_is_no_metric_is_refused(self, data, target, tmp_path, refusal, metric, words):
        arguments = self.train(data(target), tmp_path / "run", "--objective-metric", metric)
        assert words in refusal(*arguments)
        assert not (tmp_path / "run" / "members").exists()

    def test_training_images_without_what_is_measured_are_refused(self, target, tmp_path, refusal):
        images = np.zeros((IMAGES, 1, *SIZE), np.uint8)
        np.savez(tmp_path / "data.npz", images=images, masks=target)
        arguments = ["--data", tmp_path / "data.npz", "--run", tmp_path / "run", *self.MEMBER]
        metric = ["--classes", "sky,sand,rock", "--objective-metric", "iou(of=rock)"]
        said = refusal("train-members", *arguments, *metric, "--folds", "2")
        assert "split 'oof' has no pixel of rock (it has: sky, sand)" in said
        assert not (tmp_path / "run" / "members").exists()

    def test_a_bad_metric_in_a_file_is_named_with_the_file(self, tmp_path, refusal):
        file = tmp_path / "experiment.yaml"
        file.write_text("metric: iou(of=rock)\nclasses: {names: [sky, sand]}\n")
        said = refusal("train-members", "--experiment", str(file), "--run", str(tmp_path / "run"))
        assert "experiment.yaml: protocol iou(of=rock): unknown class 'rock'" in said


def test_a_split_without_the_foreground_is_refused_before_work(run, target, refusal):
    empty = replace(DataSet.load(run.data(OOF)), masks=np.zeros_like(target))
    empty.save(run.data("empty"))
    for command in ("score", "compare"):
        said = refusal(command, "--run", str(run.path), "--split", "empty")
        assert "split 'empty' has no pixel of nucleus (it has: background)" in said
    assert not run.fusions()


class TestFits:
    def test_class_bias_maximises_the_metric(self, maps, target):
        scores = {}
        for metric in ("masked", METRIC, "dice"):
            form = set_metric(metric, CLASSES)
            chain = parse_chain("class_bias", classes=2, ignore=None, metric=form)
            pred = fit_chain(chain, ArrayMaps("maps", maps), target)(maps)
            counts = confusion(target, pred, classes=2).sum(axis=0)
            for other in ("masked", METRIC, "dice"):
                value = float(build_protocol(other, CLASSES)(counts, None).miou)
                scores[metric, other] = value
        for metric in ("masked", METRIC, "dice"):
            best = max(scores[fitted, metric] for fitted in ("masked", METRIC, "dice"))
            assert scores[metric, metric] == pytest.approx(best, abs=1e-6)

    def test_greedy_takes_the_member_that_the_metric_prefers(self):
        """One is better at the frequent class, the other finds the rare one."""
        target = np.zeros((1, 10, 10), np.uint8)
        target[0, 0, :4] = 1
        frequent, rare = np.zeros_like(target), np.zeros_like(target)
        frequent[0, 0, :1] = 1
        rare[0, 0, :4] = 1
        rare[0, 5, :4] = 1
        members = np.eye(2, dtype=np.float32)[np.stack([frequent, rare])]
        block = TrainingBlock(members.transpose(0, 1, 4, 2, 3), target)
        for metric, expected in (("iou(of=background)", 0), (METRIC, 1)):
            fit = greedy(2, None, set_metric(metric, CLASSES), bags=0, rounds=1).fit
            assert fit([block]).weights.argmax() == expected

    def test_records_name_the_metric_only_where_it_matters(self, run):
        members = RunMembers.of(run)

        def configs(metric):
            set_metric_of(run, metric)
            experiment = read_experiment(run.experiment)
            member = Member("m", Recipe(architecture="unet"))
            fold = Fold(0, np.arange(4))
            chain = run_chain(run, "class_bias")
            return [
                training_job(run, experiment, member, fold).config,
                resolve_fusion(experiment, members, "greedy").config,
                labels_record(members, "one", chain, "x", OOF).input_digests,
                labels_record(members, "one", run_chain(run, "blur"), "x", OOF).input_digests,
            ]

        masked, default = configs("masked"), configs(None)
        assert [config.get("metric") for config in masked] == [None] * 4
        assert [config.get("metric") for config in default] == [METRIC] * 3 + [None]
        assert run_metric(run) == METRIC


class TestTuning:
    @pytest.fixture
    def tuned(self, run, tmp_path):
        space = tmp_path / "space.yaml"
        space.write_text("class_bias: {}\nclose: {size: [9]}\nblur: {sigma: [0.7]}\n")
        lines = []
        budget = TuningBudget(trials=6, seed=0, space=space)
        return tune(run, "one", budget, name=None, log=lines.append)

    def test_everything_as_foreground_is_not_recommended(self, tuned, run, maps, target):
        assert tuned.protocol == METRIC
        pred = parse_chain(tuned.fitted, classes=2, ignore=None)(maps)
        assert iou(target, pred) > 2 * (target == 1).mean()
        assert iou(target, pred) >= iou(target, maps.argmax(axis=1))
        assert tuned.plain == pytest.approx(iou(target, maps.argmax(axis=1)), abs=0.01)

    def test_it_is_stale_once_the_metric_changes(self, tuned, run):
        asked = json.loads((run.path / "tuning" / "one" / "provenance.json").read_text())["asked"]
        assert asked["metric"] == METRIC
        assert is_tuned(RunMembers.of(run), "one", asked)
        set_metric_of(run, "dice")
        assert not is_tuned(RunMembers.of(run), "one", asked)


@pytest.mark.parametrize("metric", ["dice", "foreground(but=background)", "dice(per=image)"])
def test_commands_rank_by_any_metric(run, target, answer, metric):
    set_metric_of(run, metric)
    board = json.loads(answer("score", "--run", str(run.path), "--json"))
    assert board["protocol"] == metric
    assert all(row["examined"] is not None for row in board["candidates"])
    worth = json.loads(answer("members", "--run", str(run.path), "--json"))
    assert worth["protocol"] == metric.replace("(per=image)", "")
    audited = json.loads(
        answer("audit", "one_argmax", "two_argmax", "--run", str(run.path), "--json")
    )
    assert metric in audited["protocols"]


FILES = (
    "fuse --maps maps.npy --maps noisy.npy --fit-maps maps.npy --fit-maps noisy.npy"
    " --fit-target target.npy --out f.npy --json"
)


@pytest.mark.parametrize(
    ("strategy", "said"), [("stacking", True), ("stacking(objective=log_loss)", False)]
)
def test_files_fused_by_the_metric_say_that_they_hold_no_probabilities(
    maps, target, tmp_path, monkeypatch, capsys, strategy, said
):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(5).uniform(0, 0.3, target.shape)
    noisy = maps[:, 1] * (1 - noise) + noise / 2
    np.save("maps.npy", maps)
    np.save("noisy.npy", np.stack([1 - noisy, noisy], axis=1).astype(np.float32))
    np.save("target.npy", target)
    assert run_command([*FILES.split(), "--strategy", strategy]) == 0
    printed = capsys.readouterr()
    assert ("scored highest in inner folds, and decides" in printed.err) is said
    assert ("decision" in json.loads(printed.out)) is said


def test_python_and_the_report_show_probabilities_where_the_metric_decides(
    tmp_path, target, answer, monkeypatch
):
    """Of a good member and one of noise the geometric mean is bad: the good one decides."""
    rng = np.random.default_rng(3)
    good = np.clip(0.25 + 0.5 * target + rng.normal(0, 0.1, target.shape), 0.01, 0.99)
    members = {"good": good, "noise": rng.beta(0.1, 0.1, target.shape)}
    maps = {name: np.stack([1 - one, one], 1).astype("f4") for name, one in members.items()}
    run = write_run(tmp_path / "run", target, maps)
    for name, objective in (("decided", "metric"), ("expected", "log_loss")):
        strategy = f"stacking(l2=1000000, objective={objective})"
        answer("fuse", "--strategy", strategy, "--name", name, "--run", run.path)
    opened = OpenedRun(run.path)
    for split in (OOF, "validation"):
        expected = opened.maps("expected", split)
        given = opened.maps("decided", split, probabilities=True)
        np.testing.assert_allclose(given, expected, atol=1e-3)
        assert np.abs(opened.maps("decided", split) - expected).max() > 0.05
    seen = {}
    monkeypatch.setattr(
        figures, "reliability_diagram", lambda sets: seen.update(sets) or Drawing("", [])
    )
    data = DataSet.load(run.data("validation"))
    for name in ("decided", "expected"):
        trace = CandidateTrace(tuple(maps), None, name, (), run_chain(run, ""), data)
        figures.reliability_figure(RunMembers.of(run), trace, "validation")
    decided, expected = (calibration_gap(seen[name]) for name in ("decided", "expected"))
    assert decided == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("command", "metric", "words"),
    [
        (
            "fuse --strategy greedy",
            "nnunet",
            "greedy: fitted by masked mIoU: the run's metric, nnun",
        ),
        (
            "fuse --strategy stacking",
            "dice(per=image)",
            "stacking: fitted by Dice: the run's metric",
        ),
        ("fuse --strategy stacking", "dice", None),
        (
            "postprocess --fusion one --chain class_bias",
            "keras",
            "class_bias: fitted by masked mIoU",
        ),
    ],
)
def test_what_fits_by_another_metric_than_the_runs_says_so(run, capsys, command, metric, words):
    set_metric_of(run, metric)
    assert run_command([*command.split(), "--run", str(run.path)]) == 0
    printed = capsys.readouterr().err
    assert words in printed if words else "cannot be fitted" not in printed
