"""Students of a run: what they count as trained on, and where they are left out."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from ensemble.cli import run_command
from ensemble.pipeline.analysis.inference_cost import CostMeter
from ensemble.pipeline.candidates.staleness import Artifact, Staleness
from ensemble.pipeline.data.prepare import prepare, read_folds
from ensemble.pipeline.members.jobs import job_is_current, training_job
from ensemble.pipeline.members.teaching import transductive_students
from ensemble.pipeline.members.train import train_members
from ensemble.pipeline.run.experiment import Experiment, read_experiment
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from ensemble.pipeline.workflow import distill as distill_command
from ensemble.pipeline.workflow.distill import DistillResult, StudentGain, student_recipes
from evaluation.core.errors import BadSpec, EnsError, LeakageError
from evaluation.core.files import write_json
from evaluation.core.provenance import CONFIG
from evaluation.core.run_folder import CANDIDATE, OOF, Run
from evaluation.intervals import Interval
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from members.jobs import Taught
from members.store_metadata import TrainingIds
from members.train import WEIGHTS

NETWORK = "unet(width=2, depth=1)"

pytestmark = pytest.mark.slow


def recipe(**keys):
    return {"architecture": NETWORK, "epochs": 1, **keys}


def silent(_):
    """Take no notice."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    sample = draw_sample(images=80, test=6, validation=24, size=(16, 24))
    return sample.save(tmp_path_factory.mktemp("distill"))


@pytest.fixture(scope="module")
def experiment(files):
    return Experiment(
        data=str(files[0]),
        validation=str(files[1]),
        unlabelled="test",
        members={
            "one": recipe(),
            "two": recipe(loss="dice"),
            "plain": recipe(trainer="distill(teacher=mean, rounds=2)"),
            "inner": recipe(trainer="distill(teacher=first, nested=true)"),
        },
        fusions={"mean": "mean", "first": {"strategy": "mean", "members": ["one"]}},
        chains={"argmax": ""},
    )


@pytest.fixture(scope="module")
def trained(experiment, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("runs") / "taught")
    train_members(run, experiment, workers=1, log=silent)
    assert run_command(["score", "--run", str(run.path)]) == 0
    return run


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run")
    return Run(tmp_path / "run")


def open_maps(run, name, split):
    return RunMembers.of(run).open(name, split)


class TestWhatAStudentCountsAsTrainedOn:
    def test_every_image_that_a_teacher_saw(self, trained):
        maps = open_maps(trained, "plain", OOF)
        assert maps.trained_on_mask().all()
        assert all(ids == frozenset(maps.ids) for ids in maps.seen.models)

    def test_with_nested_teachers_the_images_of_its_fold_are_left_out(self, trained):
        maps = open_maps(trained, "inner", OOF)
        assert not maps.trained_on_mask().any()
        for fold in read_folds(trained):
            held_out = {maps.ids[k] for k in fold.held_out(len(maps.ids))}
            assert maps.seen.models[fold.index] == set(maps.ids) - held_out

    def test_no_nested_teacher_saw_the_fold(self, trained):
        ids = DataSet.load(trained.data(OOF)).ids
        for fold in read_folds(trained):
            nested = Run(trained.path / "nested" / f"without-{fold.index}")
            held_out = {ids[k] for k in fold.held_out(len(ids))}
            for split in (OOF, "test"):
                assert not held_out & set().union(*open_maps(nested, "one", split).seen.models)
            assert not held_out & set(DataSet.load(nested.data(OOF)).ids)

    def test_of_undeclared_teachers_all_training_images_and_else_undeclared(self, trained):
        data = DataSet.load(trained.data(OOF))
        own, taught = TrainingIds((frozenset("a"),), (0,)), Taught((frozenset("b"),), False)
        assert taught.seen(own, data, out_of_fold=False) is None
        assert set(data.ids) < taught.seen(own, data, out_of_fold=True).models[0]
        declared = Taught((frozenset("b"),), True)
        assert declared.seen(own, data, out_of_fold=True).models == (frozenset("ab"),)


class TestWhereAStudentIsLeftOut:
    def test_nothing_is_fitted_on_it(self, run, refusal):
        words = ["fuse", "--run", run.path, "--strategy", "stacking", "--members", "one,plain"]
        assert "'plain' was trained on" in refusal(*words)

    def test_a_nested_one_may_be_stacked(self, run):
        words = ["fuse", "--run", str(run.path), "--strategy", "stacking"]
        assert run_command([*words, "--members", "one,inner"]) == 0

    def test_it_is_not_chosen(self, run, answer):
        board = json.loads(answer("score", "--run", run.path, "--json"))
        rows = {row["name"]: row for row in board["candidates"]}
        assert rows["plain_argmax"]["oof"] is None
        assert rows["inner_argmax"]["oof"] is not None
        assert board["chosen"] != "plain_argmax"

    def test_members_are_compared_without_it(self, trained, answer):
        worth = json.loads(answer("members", "--run", trained.path, "--json"))
        assert {row["name"] for row in worth["members"]} == {"one", "two", "inner"}

    def test_a_fusion_of_all_members_is_without_students(self, trained):
        fitted = json.loads((trained.fused("mean", OOF) / "provenance.json").read_text())
        assert fitted[CONFIG]["members"] == ["one", "two"]

    def test_a_fusion_that_is_no_longer_configured_is_stale(self, trained):
        experiment = run_experiment(trained)
        without = Staleness(RunMembers.of(trained), experiment.model_copy(update={"fusions": {}}))
        result = Artifact("fusion", "mean", OOF)
        assert without.fusion("mean") is None
        assert without.stale_inputs(result) == [result]
        assert Staleness(RunMembers.of(trained), experiment).is_current(result)

    def test_it_teaches_no_labelled_images_of_a_next_student(self, run):
        base = run_experiment(run)
        fusions = {**base.fusions, "mixed": {"strategy": "mean", "members": ["one", "plain"]}}
        members = {**base.members, "next": recipe(trainer="distill(teacher=mixed)")}
        experiment = Experiment(**{**base.model_dump(), "fusions": fusions, "members": members})
        with pytest.raises(LeakageError, match="'mixed' was trained on"):
            train_members(run, experiment, only=["next"], workers=1, log=silent)


@pytest.mark.parametrize("nested", [True, False])
def test_the_labels_of_a_fold_reach_its_student_unless_its_teachers_are_nested(
    experiment, tmp_path, nested
):
    weights = []
    student = recipe(trainer=f"distill(teacher=one, label_share=0, nested={nested})")
    alone = experiment.model_copy(
        update={"members": {"one": recipe(), "s": student}, "fusions": {}, "unlabelled": None}
    )
    for changed in (False, True):
        run = Run(tmp_path / f"{changed}")
        prepare(run, alone, silent)
        if changed:
            path = run.data(OOF) / "target.npy"
            target, fold = np.load(path), read_folds(run)[0]
            held_out = fold.held_out(len(target))
            target[held_out] = np.array([0, 2, 1, 3, 4], np.uint8)[target[held_out]]
            np.save(path, target)
        train_members(run, alone, workers=1, log=silent)
        weights.append(load_file(run.model("s", 0) / WEIGHTS))
    before, after = weights
    same = all((before[name] == after[name]).all() for name in before)
    assert same == nested


class TestNestedTeachers:
    def test_what_is_current_is_not_trained_again(self, run, experiment):
        folder = run.model("inner", 0)
        before = (folder / WEIGHTS).stat().st_mtime_ns
        train_members(run, experiment, only=["inner"], workers=1, log=silent)
        assert (folder / WEIGHTS).stat().st_mtime_ns == before

    def test_without_their_runs_a_student_is_stale(self, run, experiment):
        (member,) = [m for m in RunMembers.of(run).members if m.name == "inner"]
        (fold, *_) = read_folds(run)
        assert job_is_current(training_job(run, experiment, member, fold))
        shutil.rmtree(run.path / "nested")
        assert not job_is_current(training_job(run, experiment, member, fold))

    def test_imported_maps_are_refused_before_any_training(self, run, tmp_path):
        maps = open_maps(run, "one", OOF)
        np.savez(tmp_path / "x.npz", probs=maps.read(slice(0, len(maps))), ids=maps.ids)
        words = ["import", "--run", str(run.path), "--name", "bought", "--split", "oof"]
        assert run_command([*words, str(tmp_path / "x.npz"), "--no-checks"]) == 0
        base = run_experiment(run)
        new = recipe(trainer="distill(teacher=mean, nested=true)")
        more = base.model_copy(update={"members": {**base.members, "new": new, "next": recipe()}})
        refused = "needs the maps of bought, whose networks cannot be trained without a fold"
        with pytest.raises(BadSpec, match=refused):
            train_members(run, more, workers=1, log=silent)
        assert not run.model("next", 0).exists()


class TestUnlabelledImages:
    def refused(self, run, unlabelled, error, match):
        base, new = run_experiment(run), recipe(trainer="distill(teacher=mean)")
        members = {**base.members, "new": new}
        experiment = base.model_copy(update={"unlabelled": unlabelled, "members": members})
        before = sorted(run.path.rglob("*"))
        with pytest.raises(error, match=match):
            train_members(run, experiment, only=["new"], workers=1, log=silent)
        after = set(run.path.rglob("*")) - set(before)
        return not {path for path in after if "new" in path.parts}

    def test_those_of_validation_teach_nothing(self, run):
        words = "would teach by images that evaluate"
        assert self.refused(run, "validation", LeakageError, words)

    @pytest.mark.parametrize(
        ("split", "words"),
        [("validation", "2 images of validation"), ("oof", "2 images of the training images")],
    )
    def test_nor_do_the_same_images_from_elsewhere(self, run, tmp_path, split, words):
        np.save(tmp_path / "x.npy", np.asarray(DataSet.load(run.data(split)).images)[3:5])
        assert self.refused(run, str(tmp_path / "x.npy"), LeakageError, words)

    def test_an_unknown_split_is_refused(self, run):
        words = "no split 'more'.*write ./more for a path"
        assert self.refused(run, "more", EnsError, words)

    def test_labels_of_images_that_taught_are_transductive(self, run, tmp_path, capsys):
        run_members = RunMembers.of(run)
        assert transductive_students(run_members, "plain", "test") == ["plain"]
        assert transductive_students(run_members, "plain", "validation") == []
        assert transductive_students(run_members, "mean", "test") == []
        out = tmp_path / "labels.csv"
        words = ["submit", "--run", str(run.path), "--candidate", "plain_argmax", "--split", "test"]
        assert run_command([*words, "--out", str(out)]) == 0
        assert "transductive: plain learnt from the images of test" in capsys.readouterr().err
        assert out.is_file()

    def test_a_path_is_a_split_of_its_own_and_marks_the_same_images(self, run, tmp_path):
        np.save(tmp_path / "x.npy", np.asarray(DataSet.load(run.data("test")).images)[:4])
        new = recipe(trainer="distill(teacher=mean)")
        base = run_experiment(run)
        experiment = base.model_copy(
            update={"unlabelled": str(tmp_path / "x.npy"), "members": {**base.members, "new": new}}
        )
        train_members(run, experiment, only=["new"], workers=1, log=silent)
        assert len(DataSet.load(run.data("unlabelled"))) == 4
        assert transductive_students(RunMembers.of(run), "new", "test") == ["new"]


@pytest.mark.parametrize(
    ("members", "changes", "words"),
    [
        ({"s": recipe(trainer="distill(teacher=best)")}, {}, "teacher 'best'; known: one, s, mean"),
        ({"s": recipe(trainer="distill(teacher=s)")}, {}, "made of the student 's' itself"),
        ({"s": recipe(trainer="distill(teacher=mix)")}, {}, "made of the student 's' itself"),
        (
            {
                "s": recipe(trainer="distill(teacher=t)"),
                "t": recipe(trainer="distill(teacher=u)"),
                "u": recipe(trainer="distill(teacher=t)"),
            },
            {},
            "made of the student 't' itself",
        ),
        (
            {
                "t": recipe(trainer="distill(teacher=one)"),
                "s": recipe(trainer="distill(teacher=t, nested=true)"),
            },
            {},
            "teacher 't' is made of students; leave out nested",
        ),
        ({"s": recipe(trainer="distill(teacher=mean, rounds=2)")}, {}, "no unlabelled images"),
        ({"s": recipe(trainer="distill(teacher=one)")}, {"unlabelled": "x"}, "no split 'x'"),
        ({"s": recipe(trainer="distill(teacher=one, nested=true)")}, {"folds": 2}, "3 folds or"),
        (
            {"s": recipe(trainer="distill(teacher=one, nested=true)", single=True)},
            {},
            "leave out nested or single",
        ),
    ],
)
def test_a_student_that_cannot_be_taught_is_refused(experiment, tmp_path, members, changes, words):
    fusions: dict[str, object] = {"mean": "mean"}
    if "mix" in str(members):
        fusions["mix"] = {"strategy": "mean", "members": ["one", "s"]}
    given = {
        **experiment.model_dump(),
        "unlabelled": None,
        "members": {"one": recipe(), **members},
        "fusions": fusions,
        **changes,
    }
    with pytest.raises(EnsError, match=re.escape(words)):
        train_members(Run(tmp_path / "run"), Experiment(**given), workers=1, log=silent)
    assert not (tmp_path / "run" / "members").exists()


def test_the_network_alone_takes_as_many_steps_as_the_student(trained):
    training = DataSet.load(trained.data(OOF))
    given = ("x=unet", {"epochs": 10, "patience": 4}, {"teacher": "mean"}, training)
    recipes = student_recipes(*given, len(training))
    # A tenth of the labelled images is held out, and none of the unlabelled ones: (.9 + 1) / .9.
    assert (recipes.student.epochs, recipes.alone.epochs) == (10, 21)
    assert recipes.alone.patience == 8
    assert student_recipes(*given, 0).alone.epochs == 10


@pytest.fixture(scope="module")
def distilled(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilled") / "run"
    shutil.copytree(trained.path, folder)
    return Run(folder)


class TestCommand:
    def words(self, run, *more):
        member = f"small={{architecture: '{NETWORK}', epochs: 2}}"
        words = ["distill", "--run", run.path, "--candidate", "mean", "--budget-ms", "1000"]
        return [*words, "--member", member, "--rounds", "2", "--workers", "1", *more]

    def test_it_compares_the_student_with_all_that_it_could_replace(self, distilled, answer):
        result = json.loads(answer(*self.words(distilled), "--json"))
        roles = [one["role"] for one in result["candidates"]]
        assert roles == ["student", "teacher", "best member", "without a teacher"]
        assert [gain["role"] for gain in result["gains"]] == roles[1:]
        student, teacher, _, alone = result["candidates"]
        assert student["milliseconds"] < teacher["milliseconds"]
        assert student["weights_bytes"] == alone["weights_bytes"]
        assert teacher["weights_bytes"] == 6 * student["weights_bytes"]
        gain = result["gains"][0]
        assert gain["difference"] == pytest.approx(student["score"] - teacher["score"])
        low, high = gain["interval"]["low"], gain["interval"]["high"]
        assert low < gain["margin"]["low"] < gain["difference"] < high  # one-sided: nearer
        assert result["transductive"] == ["test"]
        recipes = read_experiment(distilled.experiment).recipes()
        assert recipes["small"].trainer == "distill(teacher=mean, rounds=2)"
        assert recipes["small-alone"].trainer == "supervised"

    def test_the_same_command_trains_nothing_again(self, distilled, answer, capsys):
        folder = distilled.model("small", 0)
        before = (folder / WEIGHTS).stat().st_mtime_ns
        text = answer(*self.words(distilled))
        assert (folder / WEIGHTS).stat().st_mtime_ns == before
        assert "student minus without a teacher:" in text
        assert "transductive on test" in text

    def test_the_student_is_one_network_without_out_of_fold_maps(self, distilled):
        run_members = RunMembers.of(distilled)
        assert run_members.splits("small") == ["validation", "test"]
        staleness = Staleness(run_members, run_experiment(distilled))
        assert staleness.splits("small") == ["validation", "test"]
        assert not distilled.model("small", 1).exists()
        meter = CostMeter(run_members, run_experiment(distilled), "validation", silent)
        one = meter.measure("small_argmax").milliseconds
        assert one < meter.measure("one_argmax").milliseconds

    def test_it_is_packed_and_applied_as_in_the_run(self, distilled, tmp_path, capsys):
        words = ["freeze", "--run", str(distilled.path), "--candidate", "small_argmax"]
        assert run_command([*words, "--out", str(tmp_path / "p")]) == 0
        assert "all pixels are as in the run" in capsys.readouterr().err
        assert len(list((tmp_path / "p").rglob(WEIGHTS))) == 1

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (["--budget-ms", "0.0001"], "expected 0.0001 at most: a smaller --member"),
            (["--member", "one=unet(width=4)"], "has 'one' already, made in another way"),
            (["--member", "x={trainer: staged}"], "leave out both, which `ens distill` sets"),
            (["--split", "oof"], "the student's teachers saw all of it"),
            (["--split", "test"], "split 'test' has no target to score by; take another --split"),
            (["--unlabelled", "validation"], "would teach by images that evaluate"),
            (["--candidate", "nothing"], "nothing"),
        ],
    )
    def test_what_cannot_be_done_is_refused_before_any_training(self, run, refusal, more, words):
        before = run.experiment.read_text()
        assert words in refusal(*self.words(run), *more)
        assert run.experiment.read_text() == before
        assert not run.model("small", 0).exists()

    def test_a_chain_that_learns_cannot_be_taught(self, run, refusal):
        (run.path / "labels" / "biased").mkdir()
        write_json(run.path / "labels/biased" / CANDIDATE, {"of": "mean", "chain": "class_bias"})
        said = refusal(*self.words(run), "--candidate", "biased")
        assert "has a chain that learns from out-of-fold maps; expected one that does not" in said

    def test_the_best_member_is_chosen_by_scores_that_exist(self, run, refusal):
        for name in ("one", "two"):
            shutil.rmtree(run.scores(f"{name}_argmax"))
        said = refusal(*self.words(run))
        assert f"no member behind 'mean' is scored on oof; run `ens score --run {run.path}`" in said

    @pytest.mark.parametrize(("budget", "width"), [(100.0, 32), (16.5, 16), (0.5, None)])
    def test_without_a_network_the_widest_within_the_budget_is_trained(
        self, run, monkeypatch, budget, width
    ):
        given = {"options": {}, "margin": 0.01, "split": "validation", "log": silent}

        class Chosen(Exception):
            """What would be trained."""

        def cost(recipe, _):
            return float(re.search(r"width=(\d+)", recipe.architecture)[1])

        def train(run, experiment, **_):
            raise Chosen(experiment.recipes()["student"].architecture)

        monkeypatch.setattr(distill_command, "network_milliseconds", cost)
        monkeypatch.setattr(distill_command, "train_members", train)
        expected = Chosen if width else BadSpec
        words = f"width={width}" if width else "takes more than 0.5 ms per image; expected a larger"
        with pytest.raises(expected, match=words):
            distill_command.distill_run(run, "mean", budget_ms=budget, **given)


@pytest.mark.parametrize(
    ("role", "low", "high", "expected"),
    [
        ("best member", -0.04, -0.01, True),
        ("without a teacher", -0.04, -0.01, True),
        ("teacher", -0.04, -0.01, False),  # what it costs is known, and smaller
        ("best member", -0.04, 0.01, False),
    ],
)
def test_a_student_worse_than_one_network_is_not_proposed(role, low, high, expected):
    gain = StudentGain(role, (low + high) / 2, Interval(low, high, 0.95), None)
    result = DistillResult(Run(Path("run")), "validation", "masked", 0.01, 9, (), (gain,), ())
    assert result.is_worse is expected
    assert not replace(result, gains=(replace(gain, interval=None),)).is_worse
