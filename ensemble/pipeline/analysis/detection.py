"""How many groups of images would show a given gap between candidates, by their oof scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.pipeline.candidates.postprocess import read_candidate
from ensemble.pipeline.candidates.staleness import scores_record
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import RunMembers, run_experiment, run_metric
from evaluation.core.errors import BadData, BadRun
from evaluation.core.run_folder import OOF, Run
from evaluation.formatting import format_decimal
from evaluation.gains import argmax
from evaluation.intervals import LEVEL
from evaluation.joint_tests import JointTests
from evaluation.protocols import build_protocol
from evaluation.run_metric import metric_label
from evaluation.scores import CandidateScores, read_scores
from evaluation.significance import POWER, GroupsNeeded, groups_needed


@dataclass(frozen=True)
class DetectionPlan:
    """How many groups would show a gap between two candidates.

    Args:
        candidates: the highest on oof, and the highest single member besides it.
        metric: of the gap.
        oof_groups: number of groups of oof, on which the paired variance was measured.
        alone: if the comparison of the two is fixed before.
        among_all: if it is one of all pairs of the candidates.
        compared: number of candidates.
    """

    candidates: tuple[str, str]
    metric: str
    oof_groups: int
    alone: GroupsNeeded
    among_all: GroupsNeeded
    compared: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "candidates": list(self.candidates),
            "metric": self.metric,
            "oof_groups": self.oof_groups,
            "alone": self.alone.to_dict(),
            "among_all": self.among_all.to_dict(),
            "compared": self.compared,
        }


def plan_detection(run: Run, gap: float) -> DetectionPlan:
    """Return how many groups would show a gap in the run's metric.

    Args:
        run: the experiment folder, with candidates that are scored on oof.
        gap: the true difference in score, above 0.

    Raises:
        BadRun: fewer than two candidates with current scores on oof.
        BadData: a single group, or candidates that do not differ.
    """
    members, metric = RunMembers.of(run), run_metric(run)
    names = [name for name in run.candidates() if scores_record(run, name, OOF).is_current()]
    if len(names) < 2:
        raise BadRun(
            f"{run.path}: {len(names)} candidates have current scores on {OOF!r}; expected two or"
            f" more, run `ens score --run {run.path}`"
        )
    classes = run_classes(run)
    scored = [read_scores(run.scores(name), OOF)[1] for name in names]
    scores = CandidateScores.of(scored, build_protocol(metric, classes), classes.ignore)
    rng = np.random.default_rng(run_experiment(run).seed)
    tests = JointTests.of(scores, rng=rng)
    mious = scores.mious.tolist()
    chosen = argmax(mious, range(len(names)))
    if scores.groups < 2 or chosen is None or not tests.compared[chosen]:
        raise BadData(f"{run.path}: {OOF} has no two groups with scored pixels, so no variance")
    others = [k for k in range(len(names)) if k != chosen and tests.standard_errors[chosen, k] > 0]
    sources = {k: read_candidate(run, names[k]) for k in others}
    single = [
        k for k, (source, chain) in sources.items() if source in members.names() and not chain
    ]
    other = argmax(mious, single or others)
    if other is None:
        raise BadData(f"{run.path}: no candidate differs from {names[chosen]!r} on {OOF}")
    error, freedom = tests.error_of(chosen, other, np.inf)

    def needed(freedom: float, level: float) -> GroupsNeeded:
        return groups_needed(gap, error=error, freedom=freedom, groups=scores.groups, level=level)

    return DetectionPlan(
        candidates=(names[chosen], names[other]),
        metric=metric,
        oof_groups=scores.groups,
        alone=needed(freedom, LEVEL),
        among_all=needed(min(freedom, tests.most_freedom), tests.pairs_level(LEVEL)),
        compared=len(names),
    )


def format_detection(plan: DetectionPlan) -> str:
    """Write a plan as text."""
    chosen, other = plan.candidates
    head = (
        f"Groups of images that show a true gap of {format_decimal(plan.alone.gap)} in"
        f" {metric_label(plan.metric)} between {chosen} and {other} with power {POWER:g}, by their"
        f" paired variance on {plan.oof_groups} groups of {OOF}:"
    )
    each = f"{100 * plan.among_all.level:.4g}% each"
    return "\n".join(
        [
            head,
            f"  {_number(plan.alone)} if only these two are compared, at {100 * LEVEL:g}%",
            f"  {_number(plan.among_all)} among all pairs of {plan.compared} candidates, at {each}",
            "The range is that of the variance at 95%. Images of one group count as one.",
        ]
    )


def _number(needed: GroupsNeeded) -> str:
    return f"{needed.groups} ({needed.low} to {needed.high})"
