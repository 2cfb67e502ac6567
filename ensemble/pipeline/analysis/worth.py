"""The worth of each member to the mean of all, its cost, and which members can be dropped."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.diversity.disagreement import PairMatrix, count_pairs, measure_pairs
from ensemble.diversity.member_worth import (
    Elimination,
    Removal,
    ShapleyEstimator,
    eliminate_members,
    shapley,
    shapley_estimator,
    size_curve,
    subsets_without_one,
)
from ensemble.diversity.subset_scorer import (
    ScoreDifference,
    SubsetCounts,
    SubsetScorer,
    group_indices,
)
from ensemble.pipeline.analysis.inference_cost import measure_member
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import (
    OpenedSplit,
    RunMembers,
    check_metric_defined,
    open_members,
    open_split,
    run_experiment,
    run_metric,
)
from evaluation.core.errors import BadRun, LeakageError
from evaluation.core.files import atomic_file
from evaluation.core.progress import Log
from evaluation.core.run_folder import OOF, VALIDATION, Run
from evaluation.formatting import MISSING, format_columns, format_decimal, format_interval
from evaluation.intervals import Interval
from evaluation.iou import Score
from evaluation.protocols import build_protocol
from evaluation.report.figures import GrowthPoint, member_growth
from evaluation.report.svg import standalone
from evaluation.run_metric import metric_label, score_column, summed_form
from evaluation.scores import iou_by_name, nan_to_none
from members.data.dataset import DataSet

STRATEGY = "mean"
SHOWN_PAIRS = 3

Table = list[list[float | None]]


@dataclass(frozen=True)
class ScoreChange:
    """A change of the score with its paired interval; None for a single group of images."""

    change: float
    interval: Interval | None
    half_width: float | None


@dataclass(frozen=True)
class RemovedMember(ScoreChange):
    """A member that is dropped after the ones before it, and the change against all members."""

    dropped: str


@dataclass(frozen=True)
class ValidatedChange(ScoreChange):
    """The change by dropping members on a split that they were not chosen on."""

    split: str


@dataclass(frozen=True)
class PruningAdvice:
    """Which members can be dropped, in this order.

    Args:
        drop: their names.
        keep: the others.
        time_saved: share of the inference time; None if a member's time is unknown.
        steps: one per dropped member.
        refused: the next member, whose removal costs too much; None if one member is left.
        examined: the change on validation; None if it was not evaluated.
    """

    drop: list[str]
    keep: list[str]
    time_saved: float | None
    steps: list[RemovedMember]
    refused: RemovedMember | None
    examined: ValidatedChange | None = None


@dataclass(frozen=True)
class ShapleyValue:
    """A member's share of the score of all; `sampling_error` is a standard error, 0 if exact."""

    value: float
    interval: Interval | None
    sampling_error: float


@dataclass(frozen=True)
class MemberReport:
    """Scores, worth and costs of a member or family.

    `leave_one_out` is the change by adding it to the mean of the others; for costs see
    `MemberCost`.
    """

    name: str
    miou: float | None
    iou: dict[str, float | None]
    leave_one_out: ScoreChange
    shapley: ShapleyValue
    milliseconds: float | None
    parameters: int | None
    bytes: int


@dataclass(frozen=True)
class EnsembleSize:
    """The mean score of all ensembles of a size, and its gain over one member fewer."""

    members: int
    miou: float | None
    gain: ScoreChange | None


@dataclass(frozen=True)
class PairMeasures:
    """Diversity measures of all pairs of members, as symmetric tables."""

    members: list[str]
    disagreement: Table
    double_fault: Table
    correlation: Table
    q_statistic: Table
    label_disagreement: Table


@dataclass(frozen=True)
class WorthReport:
    """The worth of a run's members to the mean of all, by falling Shapley value.

    `protocol` is the run's metric in its form for summed pixels, and `miou` the score by it of the
    mean of all. `circles` is the number of sampled permutations, None if
    Shapley values are exact; `tolerance` the largest loss of the score for which members are
    dropped.
    """

    split: str
    strategy: str
    protocol: str
    images: int
    groups: int
    miou: float | None
    iou: dict[str, float | None]
    members: list[MemberReport]
    growth: list[EnsembleSize]
    circles: int | None
    pairs: PairMeasures
    tolerance: float
    advice: PruningAdvice

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def estimate_worth(
    run: Run, *, split: str, circles: int, tolerance: float, log: Log
) -> WorthReport:
    """Return what each member of a run is worth to the mean of all, and which ones to drop.

    Advice from `oof` is evaluated on `validation` too, if all members have maps of it.

    Args:
        run: the experiment folder.
        split: to score on; it must have target.
        circles: number of permutations that Shapley values are sampled from, if members are too
            many for all orders; see `ensemble.diversity.member_worth.sampled_estimator`.
        tolerance: the largest loss of the score that dropping members may cost.
        log: receives a line per member that is left out.

    Raises:
        BadData: the run's metric is undefined on the split.
        BadRun: no such split, one without target or scored pixels, or fewer than two members.
        BadMaps: maps of other images.
        LeakageError: maps of images that the member was trained on.
    """
    run_members, rng = RunMembers.of(run), np.random.default_rng(run_experiment(run).seed)
    _check_metric(run_members, split)
    maps = open_members(run_members, split, log)
    everyone = tuple(range(len(maps.names)))
    estimator = shapley_estimator(len(everyone), permutations=circles, rng=rng)
    singles = [(member,) for member in everyone]
    subsets = [*estimator.subsets, *singles, *subsets_without_one(everyone), everyone]
    scorer = subset_scorer(run_members, maps, len(subsets))
    scorer.counts.of(subsets)  # counted in one pass over the maps; all that follows is cached
    miou, iou = _scores_of(scorer.score([everyone]), 0, maps)
    if miou is None:
        raise BadRun(f"split {split!r} of {run.path} has no scored pixel; take another --split")
    members = _report_members(run_members, maps, scorer, estimator)
    elimination = eliminate_members(scorer, len(everyone), tolerance=tolerance)
    advice = recommend_pruning(elimination, maps.names, [row.milliseconds for row in members])
    if split == OOF and advice.drop:
        examined = _validate_pruning(run_members, maps.names, advice.keep, log)
        advice = replace(advice, examined=examined)
    return WorthReport(
        split=split,
        strategy=STRATEGY,
        protocol=scored_metric(run_members),
        images=len(maps.data),
        groups=scorer.counts.groups,
        miou=miou,
        iou=iou,
        members=sorted(members, key=lambda row: -row.shapley.value),
        growth=_growth(scorer, estimator),
        circles=None if estimator.exact else len(estimator.weights),
        pairs=_measure_pairs(maps),
        tolerance=tolerance,
        advice=advice,
    )


def subset_scorer(run_members: RunMembers, maps: OpenedSplit, subsets: int) -> SubsetScorer:
    """Return what scores means of subsets of a run's members; so many will be scored.

    Raises:
        BadRun: the split has no target.
    """
    data, seed = maps.data, run_experiment(run_members.run).seed
    if data.masks is None:
        raise BadRun(f"split {maps.split!r} has no target to score by; take another --split")
    rng = np.random.default_rng(seed)
    groups = group_indices(data.group_names(), subsets=subsets, classes=len(data.classes), rng=rng)
    counts = SubsetCounts(maps.readers, data.target(), groups)
    protocol = build_protocol(scored_metric(run_members), data.classes)
    return SubsetScorer(counts, protocol, data.classes.ignore, seed)


def scored_metric(run_members: RunMembers) -> str:
    """Return the run's metric in its form for the summed pixels of a group of images."""
    return summed_form(run_metric(run_members.run), run_classes(run_members.run))


def _check_metric(run_members: RunMembers, split: str) -> None:
    """Check that the split, if there is one with target, holds what the metric measures."""
    run = run_members.run
    if split in run.splits() and DataSet.load(run.data(split)).masks is not None:
        check_metric_defined(run, scored_metric(run_members), split)


def recommend_pruning(
    elimination: Elimination, names: Sequence[str], milliseconds: Sequence[float | None]
) -> PruningAdvice:
    """Return which members can be dropped, and the time per image that it saves."""
    kept = elimination.steps[-1].kept if elimination.steps else tuple(range(len(names)))
    times = [time for time in milliseconds if time is not None]
    saved = None if len(times) < len(names) else 1 - sum(times[m] for m in kept) / sum(times)
    refused = elimination.refused

    def removed(step: Removal) -> RemovedMember:
        return RemovedMember(*_change(step.change), dropped=names[step.dropped])

    return PruningAdvice(
        drop=[names[step.dropped] for step in elimination.steps],
        keep=[names[member] for member in kept],
        time_saved=saved,
        steps=[removed(step) for step in elimination.steps],
        refused=None if refused is None else removed(refused),
    )


def format_worth(report: WorthReport) -> str:
    """Format scores, worth and costs, the most and least similar pairs, and the advice."""
    advice = format_advice(
        report.advice, split=report.split, members=len(report.members), tolerance=report.tolerance
    )
    notes = [
        "gain: what the member adds to the mean of the others, paired; Shapley values sum to the",
        "score of all. ms: per image through one fold's network, on one core of this machine.",
    ]
    if report.circles is not None:
        worst = max(row.shapley.sampling_error for row in report.members)
        notes.append(
            f"Shapley values: {report.circles} sampled permutations, standard error {worst:.4f}."
        )
    size = f"{report.images} images, {report.groups} groups"
    tables = [
        format_columns(_score_cells(report), left=1),
        [*format_columns(_worth_cells(report), left=1), *notes],
        format_columns(_size_cells(report), left=1),
        format_columns(_pair_cells(report.pairs), left=2),
    ]
    label = metric_label(report.protocol)
    head = f"{len(report.members)} members on {report.split}: {size}; {label}"
    return "\n\n".join([head, *("\n".join(table) for table in tables), advice])


def format_advice(advice: PruningAdvice, *, split: str, members: int, tolerance: float) -> str:
    """Format the advice in one line: which members to drop, what that changes and saves."""
    if not advice.drop:
        refused = advice.refused
        assert refused is not None
        tolerated = f"{tolerance:g} within noise is tolerated"
        return f"drop none: {split} {_signed(refused, 4)} without {refused.dropped}; {tolerated}"
    change = f"{split} {_signed(advice.steps[-1])}"
    if advice.examined:
        change += f", {advice.examined.split} {_signed(advice.examined)}"
    saved = advice.time_saved
    time = "time not known" if saved is None else f"{saved:.0%} less time"
    names = ", ".join(advice.drop)
    return f"drop {names} ({len(advice.drop)} of {members}): {change} and {time}"


def draw_growth(report: WorthReport, file: Path) -> None:
    """Draw the score by number of members as SVG; bars are intervals of the last one's gain."""
    points: list[GrowthPoint] = []
    for size in report.growth:
        assert size.miou is not None
        low = high = size.miou
        if points and size.gain is not None and size.gain.interval is not None:
            low = points[-1].score + size.gain.interval.low
            high = points[-1].score + size.gain.interval.high
        points.append(GrowthPoint(size.members, size.miou, low, high))
    with atomic_file(file) as partial:
        growth = member_growth(points, metric_label(report.protocol))
        partial.write_text(standalone(growth.svg), encoding="utf-8")


def _report_members(
    run_members: RunMembers, maps: OpenedSplit, scorer: SubsetScorer, estimator: ShapleyEstimator
) -> list[MemberReport]:
    everyone = tuple(range(len(maps.names)))
    alone = scorer.score((member,) for member in everyone)
    values = shapley(scorer, estimator)
    reports = []
    for member, others in zip(everyone, subsets_without_one(everyone), strict=True):
        gain = scorer.change(everyone, others)
        cost = measure_member(run_members, maps.names[member], maps.data)
        value, error = float(values.value[member]), float(values.errors[member])
        reports.append(
            MemberReport(
                maps.names[member],
                *_scores_of(alone, member, maps),
                leave_one_out=ScoreChange(*_change(gain)),
                shapley=ShapleyValue(value, values.intervals[member], error),
                milliseconds=cost.milliseconds,
                parameters=cost.parameters,
                bytes=cost.bytes,
            )
        )
    return reports


def _growth(scorer: SubsetScorer, estimator: ShapleyEstimator) -> list[EnsembleSize]:
    return [
        EnsembleSize(
            size.members,
            nan_to_none(size.miou),
            None if size.gain is None else ScoreChange(*_change(size.gain)),
        )
        for size in size_curve(scorer, estimator.subsets)
    ]


def _scores_of(
    scores: Score, index: int, maps: OpenedSplit
) -> tuple[float | None, dict[str, float | None]]:
    score = Score(scores.iou[index], np.asarray(scores.miou[index]))
    return nan_to_none(float(score.miou)), iou_by_name(score, maps.data.classes)


def _measure_pairs(maps: OpenedSplit) -> PairMeasures:
    data = maps.data
    counts = count_pairs(maps.readers, data.target(), ignore=data.classes.ignore)
    pairs = measure_pairs(counts)

    def table(measure: PairMatrix) -> Table:
        return [[nan_to_none(value) for value in line] for line in measure.tolist()]

    return PairMeasures(
        list(maps.names),
        table(pairs.disagreement),
        table(pairs.double_fault),
        table(pairs.correlation),
        table(pairs.q_statistic),
        table(pairs.label_disagreement),
    )


def _validate_pruning(
    run_members: RunMembers, names: tuple[str, ...], kept: list[str], log: Log
) -> ValidatedChange | None:
    """Return the change by dropping members on validation, where they were not chosen.

    None where there is no such split, or a member has seen its images.
    """
    run = run_members.run
    known = VALIDATION in run.splits() and all(VALIDATION in run_members.splits(n) for n in names)
    if not known or DataSet.load(run.data(VALIDATION)).masks is None:
        return None
    maps = open_split(run_members, VALIDATION, list(names))
    try:
        maps.check_no_leakage(f"the advice on {VALIDATION}", hint="the advice is not evaluated")
    except LeakageError as error:
        log(str(error))
        return None
    new, old = (
        tuple(index for index, name in enumerate(maps.names) if name in chosen)
        for chosen in (kept, names)
    )
    change = subset_scorer(run_members, maps, 2).change(new, old)
    return ValidatedChange(*_change(change), split=VALIDATION)


def _change(difference: ScoreDifference) -> tuple[float, Interval | None, float | None]:
    return difference.value, difference.interval, difference.half_width


def _signed(change: ScoreChange, decimals: int = 3) -> str:
    width = change.half_width
    noise = "" if width is None else f" +- {width:.{decimals}f}"
    return f"{change.change:+.{decimals}f}{noise}"


def _score_cells(report: WorthReport) -> list[list[str]]:
    rows = [(f"{report.strategy} of all", report.miou, report.iou)]
    rows += [(member.name, member.miou, member.iou) for member in report.members]
    names = list(report.iou)
    cells = [
        [name, format_decimal(miou), *(format_decimal(iou.get(n)) for n in names)]
        for name, miou, iou in rows
    ]
    return [["member", score_column(report.protocol), *names], *cells]


def _worth_cells(report: WorthReport) -> list[list[str]]:
    header = ["member", "gain", "95% interval", "Shapley", "95% interval", "ms", "params", "disk"]
    return [header, *(_member_cells(member) for member in report.members)]


def _member_cells(member: MemberReport) -> list[str]:
    time, parameters = member.milliseconds, member.parameters
    return [
        member.name,
        format_decimal(member.leave_one_out.change, "+"),
        format_interval(member.leave_one_out.interval, "+"),
        format_decimal(member.shapley.value),
        format_interval(member.shapley.interval),
        MISSING if time is None else f"{time:.1f}",
        MISSING if parameters is None else f"{parameters / 1e6:.2f} M",
        f"{member.bytes / 1e6:.0f} MB",
    ]


def _size_cells(report: WorthReport) -> list[list[str]]:
    cells = [["any members", score_column(report.protocol), "one more gained", "95% interval"]]
    for size in report.growth:
        gain = [MISSING, MISSING]
        if size.gain is not None:
            gain = [format_decimal(size.gain.change, "+"), format_interval(size.gain.interval, "+")]
        cells.append([str(size.members), format_decimal(size.miou), *gain])
    return cells


def _pair_cells(pairs: PairMeasures) -> list[list[str]]:
    """List the pairs whose errors are most alike, then those whose errors differ most."""
    names, correlation = pairs.members, pairs.correlation
    known = [(a, b) for a, b in combinations(range(len(names)), 2) if correlation[a][b] is not None]
    known.sort(key=lambda pair: -(correlation[pair[0]][pair[1]] or 0.0))
    few = len(known) <= 2 * SHOWN_PAIRS
    shown = known if few else [*known[:SHOWN_PAIRS], *known[-SHOWN_PAIRS:]]
    header = ["pair, most alike first", "", "correlation of errors", "Q", "disagreement"]
    header += ["both wrong", "other label"]
    tables = [correlation, pairs.q_statistic, pairs.disagreement]
    tables += [pairs.double_fault, pairs.label_disagreement]
    return [
        header,
        *(
            [names[a], names[b], *(format_decimal(table[a][b]) for table in tables)]
            for a, b in shown
        ),
    ]
