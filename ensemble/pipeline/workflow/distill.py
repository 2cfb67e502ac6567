"""Train one student of a candidate, and compare it with all that it could replace."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.pipeline.analysis.inference_cost import CostMeter, network_milliseconds
from ensemble.pipeline.candidates.chains import read_fitted_chain
from ensemble.pipeline.candidates.postprocess import read_candidate, run_chain, update_candidate
from ensemble.pipeline.candidates.staleness import scores_record
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.members.teaching import (
    base_members,
    network_folds,
    prepare_unlabelled,
    transductive_students,
    unlabelled_split,
)
from ensemble.pipeline.members.train import train_members
from ensemble.pipeline.run.experiment import Experiment, is_split_name, resolve_data_path
from ensemble.pipeline.run.open_run import (
    RunMembers,
    check_metric_defined,
    check_no_leakage,
    run_experiment,
    run_metric,
)
from ensemble.pipeline.scoring.score import counts_of
from evaluation.core.errors import BadData, BadRun, BadSpec
from evaluation.core.progress import Log
from evaluation.core.run_folder import OOF, Run, run_lock
from evaluation.core.specs import Spec
from evaluation.formatting import format_decimal, format_interval
from evaluation.intervals import LEVEL, Interval, interval_to_dict
from evaluation.joint_tests import JointTests
from evaluation.margins import MarginRow, check_margin, compare_with_margin
from evaluation.protocols import build_protocol
from evaluation.run_metric import metric_label
from evaluation.scores import CandidateScores, ScoredImages, read_scores
from members.batches import oversampled
from members.data.dataset import DataSet, class_pixels
from members.recipe import Recipe, read_member
from members.train import HOLDOUT_SHARE, WEIGHTS

WIDTHS = (32, 24, 16, 12, 8, 6, 4, 3, 2)
"""Of the U-Nets that are tried for a budget, where no network is named."""


@dataclass(frozen=True)
class StudentRecipes:
    """A student, and the network that shows what its teacher is worth.

    Args:
        name: of the student.
        student: its recipe.
        alone: the same network trained by the labels alone, for as many steps.
    """

    name: str
    student: Recipe
    alone: Recipe

    @property
    def alone_name(self) -> str:
        """Name of the network without a teacher."""
        return f"{self.name}-alone"

    @property
    def members(self) -> dict[str, Recipe]:
        """Both, by name."""
        return {self.name: self.student, self.alone_name: self.alone}


@dataclass(frozen=True)
class Compared:
    """A candidate that takes part in the comparison.

    Args:
        name: of the candidate.
        role: what it is here: `student`, `without a teacher`, `teacher` or `best member`.
        score: on the split.
        milliseconds: per image, on one core of this machine.
        weights_bytes: of all its networks.
    """

    name: str
    role: str
    score: float
    milliseconds: float
    weights_bytes: int


@dataclass(frozen=True)
class StudentGain:
    """The student's score minus that of another candidate.

    Args:
        role: of the other.
        difference: of the scores.
        interval: paired, two-sided; None with one group of images.
        margin: the same with a margin, by one-sided bounds; None as above.
    """

    role: str
    difference: float
    interval: Interval | None
    margin: MarginRow | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "role": self.role,
            "difference": self.difference,
            "interval": interval_to_dict(self.interval),
            "margin": None if self.margin is None else self.margin.to_dict(),
        }


@dataclass(frozen=True)
class DistillResult:
    """A student compared with its teacher, the best member, and itself without a teacher.

    Args:
        run: its folder.
        split: of the images that were scored.
        metric: the run's.
        margin: difference in score that does not matter.
        groups: of images.
        candidates: the student first.
        gains: of the student over each of the others, in their order.
        transductive: splits whose images it learnt from, without labels.
    """

    run: Run
    split: str
    metric: str
    margin: float
    groups: int
    candidates: tuple[Compared, ...]
    gains: tuple[StudentGain, ...]
    transductive: tuple[str, ...]

    @property
    def is_worse(self) -> bool:
        """Whether the student is shown to be worse than a single network that exists already."""
        singles = [gain.interval for gain in self.gains if gain.role != "teacher"]
        return any(interval is not None and interval.high < 0 for interval in singles)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "run": str(self.run.path),
            "split": self.split,
            "metric": self.metric,
            "margin": self.margin,
            "groups": self.groups,
            "candidates": [vars(one) for one in self.candidates],
            "gains": [gain.to_dict() for gain in self.gains],
            "transductive": list(self.transductive),
        }

    def describe(self) -> str:
        """Return the comparison as text."""
        width = max(len(one.role) for one in self.candidates)
        names = max(len(one.name) for one in self.candidates)
        label = metric_label(self.metric)
        lines = [
            f"{one.role:{width}}  {one.name:{names}}  {label} {format_decimal(one.score)}"
            f"  {one.milliseconds:7.2f} ms  {one.weights_bytes / 1e6:6.2f} MB"
            for one in self.candidates
        ]
        student, teacher = self.candidates[0], self._role("teacher")
        lines.append(f"cost: {student.milliseconds / teacher.milliseconds:.3f} of the teacher's")
        for gain in self.gains:
            words = format_interval(gain.interval) if gain.interval else "no interval: one group"
            line = f"student minus {gain.role}: {gain.difference:+.4f}, {words}"
            if gain.margin is not None:
                line += (
                    f"; lower bound {gain.margin.low:+.4f}: {gain.margin.statement} by"
                    f" {self.margin:g}"
                )
            lines.append(line)
        lines.append(
            f"On {self.split}, {self.groups} groups of images. Each comparison was fixed before,"
            f" and holds by itself at {LEVEL:.0%}: intervals two-sided, the bound one-sided."
        )
        lines.append(
            "The student has no out-of-fold score: its teachers saw all training images. So it is"
            " left out of selection and stacking."
        )
        lines += [
            f"transductive on {split}: it learnt from these images without their labels; its labels"
            " of them can be handed in, a score of them holds for no other images"
            for split in self.transductive
        ]
        return "\n".join(lines)

    def _role(self, role: str) -> Compared:
        return next(one for one in self.candidates if one.role == role)


def distill_run(
    run: Run,
    candidate: str,
    *,
    budget_ms: float,
    member: str | None = None,
    unlabelled: str | None = None,
    options: Mapping[str, Any],
    margin: float,
    split: str,
    device: str = "auto",
    workers: int | None = None,
    log: Log,
) -> DistillResult:
    """Train a student of a candidate within a budget of time, and compare it.

    What exists and is current is kept, so that an interrupted run resumes where it stopped.

    Args:
        run: the experiment folder.
        candidate: whose maps teach; the student is post-processed by the same chain.
        budget_ms: most milliseconds per image of the student's network, on one core.
        member: `NAME=SPEC` or `NAME={recipe}`; what it does not set is as in the recipe of the best
            member. By default the widest U-Net within the budget.
        unlabelled: a split without masks, or a path; by default the run's.
        options: of the trainer `distill`, without the teacher.
        margin: difference in score that does not matter.
        split: the labelled split to compare on.
        device: see `members.devices.devices`.
        workers: processes on each device.
        log: receives a line per decision and per job that ended.

    Raises:
        BadSpec: a network over the budget, a chain that learns, or a name that is taken.
        BadRun: no such candidate, or a run without a scored member.
        LeakageError: unlabelled images of `validation`, or a teacher that saw images of the split.
    """
    run_members, experiment = RunMembers.of(run), run_experiment(run)
    source, chain = _source(run_members, candidate)
    _check_comparable(run, split, margin)
    best = _best_member(run_members, experiment, source)
    if unlabelled is not None:
        named = unlabelled if is_split_name(unlabelled) else resolve_data_path(unlabelled)
        experiment = experiment.model_copy(update={"unlabelled": named})
    prepare_unlabelled(run, experiment)
    teaching = unlabelled_split(run, experiment)
    num_unlabelled = 0 if teaching is None else len(DataSet.load(run.data(teaching)))
    recipes = student_recipes(
        member or _widest(run, budget_ms),
        experiment.recipes()[best].model_dump(mode="json"),
        {"teacher": source, **options},
        DataSet.load(run.data(OOF)),
        num_unlabelled,
    )
    _check_budget(run, recipes, budget_ms, log)
    experiment = _with_recipes(run_members, experiment, recipes)
    names = list(recipes.members)
    train_members(run, experiment, only=names, device=device, workers=workers, log=log)
    roles = {
        recipes.name: "student",
        source: "teacher",
        **({} if best == source else {best: "best member"}),
        recipes.alone_name: "without a teacher",
    }
    return _compare(run, roles, chain, margin=margin, split=split, log=log)


def student_recipes(
    text: str,
    defaults: Mapping[str, Any],
    options: Mapping[str, Any],
    training: DataSet,
    unlabelled: int,
) -> StudentRecipes:
    """Return the recipes of a single student and of the same network without a teacher.

    An epoch of the student has the unlabelled images too: the network alone has more epochs, and
    as many times the patience, so that both take the same number of steps.

    Args:
        text: `NAME=SPEC`, `NAME={recipe}` or SPEC.
        defaults: recipe keys where the text does not set them.
        options: of the trainer `distill`.
        training: the training images.
        unlabelled: number of images without labels.

    Raises:
        BadSpec: the recipe cannot be read, or has a trainer of its own.
    """
    name, recipe = read_member(text, {**defaults, "trainer": "supervised", "single": False})
    if recipe.trainer != "supervised" or recipe.single:
        raise BadSpec(
            f"member {name!r} has trainer {recipe.trainer}, single {recipe.single}; leave out both,"
            " which `ens distill` sets"
        )
    trainer = str(Spec("distill", (), dict(options)))
    student = recipe.model_copy(update={"trainer": trainer, "single": True})
    student.check()
    pixels = class_pixels(training.target(), len(training.classes))
    drawn = len(oversampled(pixels, ignore=training.classes.ignore, times=recipe.oversample))
    labelled = drawn * recipe.train_share * (1 - HOLDOUT_SHARE)
    ratio = (labelled + unlabelled) / labelled
    longer = {key: round(getattr(recipe, key) * ratio) for key in ("epochs", "patience")}
    return StudentRecipes(name, student, recipe.model_copy(update={**longer, "single": True}))


def _source(run_members: RunMembers, candidate: str) -> tuple[str, str]:
    """Return the teacher and the chain of a candidate; a bare member or fusion means its argmax."""
    run = run_members.run
    known = [*run_members.names(), *run.fusions()]
    if candidate in known and candidate not in run.candidates():
        return candidate, ""
    source, chain = read_candidate(run, candidate)
    if run_chain(run, chain).learns or read_fitted_chain(run, candidate):
        raise BadSpec(
            f"candidate {candidate!r} has a chain that learns from out-of-fold maps; expected one"
            f" that does not, as a student has no such maps: take {source!r}"
        )
    return source, chain


def _check_comparable(run: Run, split: str, margin: float) -> None:
    """Check before any training that a comparison will be possible."""
    RunMembers.of(run).check_split(split)
    if split == OOF:
        raise BadData("--split oof: the student's teachers saw all of it; expected another split")
    data = DataSet.load(run.data(split))
    if data.masks is None:
        raise BadRun(f"split {split!r} has no target to score by; take another --split")
    check_metric_defined(run, run_metric(run), split)
    check_margin(margin, None, ("student", "teacher"), len(np.unique(data.group_names())))


def _best_member(run_members: RunMembers, experiment: Experiment, teacher: str) -> str:
    """Return the trained member behind the teacher that is the highest on `oof`.

    Raises:
        BadRun: none has a current score there.
    """
    run, classes = run_members.run, run_classes(run_members.run)
    protocol = build_protocol(run_metric(run), classes)
    recipes = experiment.recipes()
    scores: dict[str, float] = {}
    for name in base_members(run_members, teacher):
        if name in recipes and scores_record(run, f"{name}_argmax", OOF).is_current():
            counts = read_scores(run.scores(f"{name}_argmax"), OOF)[1].counts
            scores[name] = float(protocol(counts.sum(axis=0), classes.ignore).miou)
    scores = {name: score for name, score in scores.items() if not np.isnan(score)}
    if not scores:
        raise BadRun(
            f"no member behind {teacher!r} is scored on {OOF}; run `ens score --run {run.path}`"
        )
    return max(scores, key=lambda name: scores[name])


def _widest(run: Run, budget_ms: float) -> str:
    """Return the widest U-Net whose time per image is within the budget.

    Raises:
        BadSpec: none is.
    """
    data = DataSet.load(run.data(OOF))
    for width in WIDTHS:
        spec = f"unet(width={width})"
        if network_milliseconds(Recipe(architecture=spec), data) <= budget_ms:
            return f"student={spec}"
    raise BadSpec(
        f"unet(width={WIDTHS[-1]}) takes more than {budget_ms:g} ms per image; expected a larger"
        " --budget-ms, or a smaller network by --member"
    )


def _check_budget(run: Run, recipes: StudentRecipes, budget_ms: float, log: Log) -> None:
    if is_trained_student(run, recipes):
        return
    milliseconds = network_milliseconds(recipes.student, DataSet.load(run.data(OOF)))
    if milliseconds > budget_ms:
        raise BadSpec(
            f"{recipes.student.architecture} takes {milliseconds:.2f} ms per image on one core;"
            f" expected {budget_ms:g} at most: a smaller --member, or a larger --budget-ms"
        )
    log(f"{recipes.name}: {milliseconds:.2f} ms per image, of {budget_ms:g}")


def is_trained_student(run: Run, recipes: StudentRecipes) -> bool:
    """Tell whether the student has weights; its time was checked before it was trained."""
    return (run.model(recipes.name, 0) / WEIGHTS).is_file()


def _with_recipes(
    run_members: RunMembers, experiment: Experiment, recipes: StudentRecipes
) -> Experiment:
    """Return the experiment with the student and the network alone.

    Raises:
        BadSpec: a name is taken by something else.
    """
    known = experiment.recipes()
    for name, recipe in recipes.members.items():
        other = known.get(name)
        is_taken = name in experiment.fusions or name in run_members.imported
        if is_taken or (other is not None and other != recipe):
            raise BadSpec(
                f"{run_members.run.path} has {name!r} already, made in another way; write --member"
                " NAME=SPEC with another name"
            )
    return experiment.with_members(recipes.members)


def _compare(
    run: Run, roles: Mapping[str, str], chain: str, *, margin: float, split: str, log: Log
) -> DistillResult:
    experiment, metric = run_experiment(run), run_metric(run)
    run_members = RunMembers.of(run)
    for name in roles:
        maps = run_members.open(name, split)
        check_no_leakage(f"a comparison on {split}", name, maps, hint="or take another --split")
    with run_lock(run.path):
        candidates = [
            update_candidate(run_members, name, chain, name=None, log=log) for name in roles
        ]
    counts = counts_of(run, candidates, split=split, log=log)
    protocol, classes = build_protocol(metric, run_classes(run)), run_classes(run)
    scores = CandidateScores.of(counts, protocol, classes.ignore)
    meter = CostMeter(run_members, experiment, split, log)
    compared = [
        Compared(name, role, float(score), meter.measure(name).milliseconds, size)
        for name, role, score, size in zip(
            candidates,
            roles.values(),
            scores.mious,
            (_weights_bytes(run_members, source) for source in roles),
            strict=True,
        )
    ]
    rng = np.random.default_rng(experiment.seed)
    gains = [
        _gain(one.role, counts[0], other, protocol, classes.ignore, margin, rng)
        for one, other in zip(compared[1:], counts[1:], strict=True)
    ]
    student = next(iter(roles))
    return DistillResult(
        run,
        split,
        metric,
        margin,
        scores.groups,
        tuple(compared),
        tuple(gains),
        tuple(s for s in run.splits() if transductive_students(run_members, student, s)),
    )


def _gain(
    role: str,
    student: ScoredImages,
    other: ScoredImages,
    protocol: Any,
    ignore: int | None,
    margin: float,
    rng: np.random.Generator,
) -> StudentGain:
    """Compare the student with one other candidate, a comparison that was fixed before."""
    tests = JointTests.of(CandidateScores.of([student, other], protocol, ignore), rng=rng)
    against = tests.against(1, [0], level=LEVEL)
    bounds = compare_with_margin(tests, ("student", role), 1, margin, predeclared=True, level=LEVEL)
    return StudentGain(
        role,
        float(tests.scores[0] - tests.scores[1]),
        tests.interval(0, 1, LEVEL, most_freedom=against.most_freedom),
        bounds.rows[0] if bounds.rows else None,
    )


def _weights_bytes(run_members: RunMembers, source: str) -> int:
    """Return the size of the networks behind a member or fusion."""
    run, names = run_members.run, base_members(run_members, source)
    networks = [m for m in run_members.members if (m.family or m.name) in names]
    files = [
        run.model(member.name, fold.index) / WEIGHTS
        for member in networks
        for fold in network_folds(run, member)
    ]
    return sum(file.stat().st_size for file in files if file.is_file())
