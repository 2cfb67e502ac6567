"""Compare chains on the same maps: score, speed, memory, and what each step does to the pixels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.bench.chain_costs import TIMED_BLOCKS, ChainCost, measure_costs
from ensemble.pipeline.bench.chains import (
    ChainCounts,
    ComparedChain,
    count_all,
    fit_all,
    parse_all,
    read_chains,
    usual_chains,
)
from ensemble.pipeline.bench.timing import machine
from ensemble.pipeline.candidates.chains import FittedChain
from ensemble.pipeline.candidates.postprocess import is_labelled, read_candidate, read_labels
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import (
    Reader,
    RunMembers,
    check_metric_defined,
    run_experiment,
    run_metric,
)
from ensemble.pipeline.scoring.score import fusion_names
from evaluation.confusion import parallel_confusion
from evaluation.core.classes import Classes
from evaluation.core.errors import BadRun
from evaluation.core.progress import Log
from evaluation.core.ragged import Stack
from evaluation.core.run_folder import OOF, Run
from evaluation.core.types import Array
from evaluation.formatting import (
    COLUMN_GAP,
    MISSING,
    format_columns,
    format_decimal,
    format_interval,
)
from evaluation.intervals import Interval
from evaluation.leaderboard import Candidate, Leaderboard, compare
from evaluation.protocols import build_protocol, score_images
from evaluation.run_metric import MASKED, set_metric
from evaluation.scores import ScoredImages, nan_to_none
from members.data.dataset import DataSet
from members.maps import check_same_images
from postproc.chain import FLOAT16_FLOOR, Chain, StepContext

PLAIN, ARGMAX = "", "plain argmax"
"""The name of no post-processing, which no chain of a file can have, and its name in tables."""

SECOND_PROTOCOL = "keras"
"""Shown beside the run's metric: a suppressed background raises it though no pixel gets right."""


@dataclass(frozen=True)
class BenchConfig:
    """What is compared; by default the fusion that scores highest on `oof`, by usual chains."""

    fusion: str | None
    chains: Path | None
    split: str
    rounds: int


@dataclass(frozen=True)
class ProtocolScore:
    """Score of a chain under a protocol, and its gain over the plain argmax."""

    miou: float | None
    gain: float | None
    interval: Interval | None
    iou: dict[str, float | None]


@dataclass(frozen=True)
class PixelChanges:
    """Pixels that become right, that become wrong, and that move between wrong classes."""

    fixed: int
    broken: int
    moved: int


@dataclass(frozen=True)
class StepChanges(PixelChanges):
    """Pixels that a step changes, in all and by true class."""

    step: str
    classes: dict[str, PixelChanges]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = asdict(self)
        return {"step": values.pop("step"), **values}


@dataclass(frozen=True)
class ChainReport:
    """Scores by protocol, cost, and pixels changed by each step; the plain argmax has no name."""

    name: str
    chain: str
    fitted: str | None
    protocols: dict[str, ProtocolScore]
    cost: ChainCost
    ledger: tuple[StepChanges, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = asdict(self)
        cost = values.pop("cost")
        del values["ledger"]
        return {**values, **cost, "ledger": [step.to_dict() for step in self.ledger]}


@dataclass(frozen=True)
class BenchReport:
    """Chains compared with the plain argmax on the same maps.

    All gain intervals, each at `interval_level`, hold together at `level`. `metric` is the run's.
    """

    machine: dict[str, Any]
    run: str
    source: str
    split: str
    metric: str
    images: int
    groups: int
    level: float
    interval_level: float
    cores: int
    rounds: int
    timed_blocks: int
    plain: ChainReport
    chains: tuple[ChainReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        chains = [chain.to_dict() for chain in self.chains]
        return {**vars(self), "plain": self.plain.to_dict(), "chains": chains}


def bench_postproc(run: Run, config: BenchConfig, log: Log) -> BenchReport:
    """Compare chains with no post-processing on the same maps; nothing is written into the run.

    Args:
        run: the experiment folder.
        config: which maps, which chains.
        log: receives a line per stage.

    Raises:
        BadSpec: a chain that cannot be parsed.
        BadRun: no such maps or split, or a chain that learns without out-of-fold maps.
        LeakageError: a chain would learn from images that the source was trained on.
    """
    split = config.split
    run_members, data = RunMembers.of(run), _open_labelled(run, split)
    metric = run_metric(run)
    check_metric_defined(run, metric, split)
    source, maps, compared = _open_compared(run_members, data, config, metric, log)
    counted = count_all(compared, maps, data, split)
    log("scoring the chains")
    seed = run_experiment(run).seed
    boards = _leaderboards(compared, counted, data, split, metric=metric, seed=seed)
    fitted = {chain.name: chain.fitted.chain for chain in compared}
    costs = measure_costs(fitted, maps, data, config.rounds)
    reports = _reports(compared, counted, boards, costs, data.classes)
    board = boards[metric]
    return BenchReport(
        machine=machine(),
        run=str(run.path),
        source=source,
        split=split,
        metric=metric,
        images=len(data),
        groups=board.groups,
        level=board.level,
        interval_level=board.gain_level,
        cores=1,
        rounds=config.rounds,
        timed_blocks=TIMED_BLOCKS,
        plain=reports[0],
        chains=tuple(reports[1:]),
    )


def _open_compared(
    run_members: RunMembers, data: DataSet, config: BenchConfig, metric: str, log: Log
) -> tuple[str, Reader, list[ComparedChain]]:
    """Return what has the maps, these, and the chains, fitted; the first does nothing."""
    named = None if config.chains is None else read_chains(config.chains)
    form = set_metric(metric, data.classes)
    context = StepContext(len(data.classes), data.classes.ignore, FLOAT16_FLOOR, form)
    # Before anything is logged; parsed again with the floor of the maps, once they are chosen.
    parse_all(named or {}, context, str(config.chains))
    source = config.fusion or best_oof_candidate(run_members, log)
    maps = run_members.open(source, config.split)
    check_same_images(maps.ids, data.ids, member=source, split=config.split, error=BadRun)
    context = replace(context, floor=maps.floor)
    if named is None:
        chains = usual_chains(run_members, source, context, log)
    else:
        chains = parse_all(named, context, str(config.chains))
    log(f"{source}: {len(chains)} chains over {len(data)} images of {config.split}")
    plain = Chain((), (), context)
    fitted = fit_all(run_members, source, chains, log)
    return source, maps, [ComparedChain(PLAIN, plain, FittedChain(plain)), *fitted]


def _reports(
    compared: Sequence[ComparedChain],
    counted: Sequence[ChainCounts],
    boards: Mapping[str, Leaderboard],
    costs: Mapping[str, ChainCost],
    classes: Classes,
) -> list[ChainReport]:
    return [
        ChainReport(
            name=chain.name,
            chain=str(chain.chain),
            fitted=str(chain.fitted.chain) if chain.chain.learns else None,
            protocols={name: _protocol_score(b, chain.name) for name, b in boards.items()},
            cost=costs[chain.name],
            ledger=_step_changes(chain.chain, counts, classes),
        )
        for chain, counts in zip(compared, counted, strict=True)
    ]


def best_oof_candidate(run_members: RunMembers, log: Log) -> str:
    """Return the fusion whose plain argmax has the highest score on `oof`, by the run's metric.

    Only existing and current label maps count, as `ens score` leaves them; without any, it is the
    first fusion.

    Raises:
        BadRun: no fusion.
    """
    run = run_members.run
    names = fusion_names(run, run_experiment(run))
    if not names:
        raise BadRun(
            f"{run.path} holds no fusion; make one: `ens fuse --run {run.path} --strategy mean`,"
            " or name a member by --fusion"
        )
    target = DataSet.load(run.data(OOF)).target()
    scores = {name: _score_argmax(run_members, name, target) for name in names}
    known = {name: score for name, score in scores.items() if not math.isnan(score)}
    if not known:
        log(f"no fusion has been scored on {OOF} (`ens score` does), so the first: {names[0]}")
        return names[0]
    best = max(known, key=lambda name: known[name])
    log(f"{best}: the highest of {len(known)} fusions on {OOF}, {known[best]:.3f} by plain argmax")
    return best


def format_bench(report: BenchReport) -> str:
    """Format scores and costs as a table with notes, then the pixels changed by each step."""
    head = (
        f"{report.source} of {report.run} over {report.split}: {report.images:,} images,"
        f" {report.groups} groups"
    )
    percent = f"{100 * report.interval_level:.4g}% interval"
    name = report.metric
    header = ["chain", name, "gain", percent, "", SECOND_PROTOCOL, "gain", percent, "metric's"]
    header += ["images/s", "x argmax", "MB", "over argmax"]
    cells = [header, *(_chain_cells(chain, name) for chain in (report.plain, *report.chains))]
    parts = [_format_table(cells), _notes(report), _format_ledger(report.chains)]
    return "\n\n".join([head, *("\n".join(part) for part in parts)])


def _open_labelled(run: Run, split: str) -> DataSet:
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    data = DataSet.load(run.data(split))
    if data.masks is None:
        raise BadRun(f"split {split!r} has no target to score by; take one with masks")
    return data


def _score_argmax(run_members: RunMembers, fusion: str, target: Stack) -> float:
    """Score the label maps that are the fusion's plain argmax on `oof`; NaN if there are none."""
    run, classes = run_members.run, run_classes(run_members.run)
    protocol = build_protocol(run_metric(run), classes)
    for name in run.candidates():
        is_plain = read_candidate(run, name) == (fusion, "")
        if is_plain and is_labelled(run_members, fusion, "", name, OOF):
            labels = read_labels(run, name, OOF)
            counts = parallel_confusion(target, labels, classes=len(classes))
            return float(score_images(protocol, counts, classes.ignore).miou)
    return math.nan


def _leaderboards(
    compared: Sequence[ComparedChain],
    counted: Sequence[ChainCounts],
    data: DataSet,
    split: str,
    *,
    metric: str,
    seed: int,
) -> dict[str, Leaderboard]:
    """Compare chains with the first of them, under each protocol."""
    groups = data.group_names()
    candidates = [
        Candidate(
            chain.name, ScoredImages(c.counts, data.ids, groups), is_member=chain is compared[0]
        )
        for chain, c in zip(compared, counted, strict=True)
    ]
    return {
        protocol: compare(
            candidates,
            data.classes,
            rng=np.random.default_rng(seed),
            split=split,
            protocol=protocol,
        )
        for protocol in (metric, SECOND_PROTOCOL)
    }


def _protocol_score(board: Leaderboard, name: str) -> ProtocolScore:
    row = next(row for row in board.rows if row.name == name)
    return ProtocolScore(
        nan_to_none(row.examined), nan_to_none(row.gain), row.gain_interval, dict(row.iou)
    )


def _step_changes(chain: Chain, counts: ChainCounts, classes: Classes) -> tuple[StepChanges, ...]:
    def per_class(changes: Array) -> dict[str, PixelChanges]:
        return {classes.names[k]: PixelChanges(*changes[k].tolist()) for k in classes.scored}

    steps = []
    for spec, changes in zip(chain.specs, counts.changes, strict=True):
        fixed, broken, moved = changes.sum(axis=0).tolist()
        steps.append(StepChanges(fixed, broken, moved, str(spec), per_class(changes)))
    return tuple(steps)


def _chain_cells(chain: ChainReport, metric: str) -> list[str]:
    score, keras = chain.protocols[metric], chain.protocols[SECOND_PROTOCOL]
    cost = chain.cost
    metrics = None
    if score.gain is not None and keras.gain is not None:
        metrics = keras.gain - score.gain
    interval, verdict = score.interval, ""
    if interval is not None:
        verdict = "better" if interval.low > 0 else "worse" if interval.high < 0 else ""
    return [
        chain.name or ARGMAX,
        format_decimal(score.miou),
        format_decimal(score.gain, "+"),
        format_interval(interval, "+"),
        verdict,
        format_decimal(keras.miou),
        format_decimal(keras.gain, "+"),
        format_interval(keras.interval, "+"),
        format_decimal(metrics, "+"),
        f"{cost.images_per_s:,.0f}",
        f"{cost.times_as_long:.1f}",
        MISSING if cost.peak_mb is None else f"{cost.peak_mb:.0f}",
        MISSING if cost.peak_mb_over_plain is None else f"{cost.peak_mb_over_plain:+.1f}",
    ]


def _notes(report: BenchReport) -> list[str]:
    metrics = ['"metric\'s" is the keras gain minus that of the metric.']
    if report.metric == MASKED:
        metrics = [
            "Under keras, one scored pixel predicted as the ignored class adds a class of IoU 0 to",
            'the mean. "metric\'s" is the keras gain minus the masked one: it comes from the',
            "number of classes that is divided by, not from pixels.",
        ]
    return [
        f"Gains are over the {ARGMAX}; intervals are paired, over groups of images,",
        f"and so wide that all {len(report.chains)} hold together at {100 * report.level:g}%.",
        *metrics,
        "A chain chosen from this table has been chosen on its evaluation: choose on --split oof.",
        "images/s: by processor time of one core, maps in memory, chains timed in turns, median",
        f"of {report.rounds} rounds. MB: peak of a process of its own with one block.",
    ]


def _format_ledger(chains: Sequence[ChainReport]) -> list[str]:
    """Format a row per step, below its chain if that has a name of its own."""
    classes = list(dict.fromkeys(name for c in chains for s in c.ledger for name in s.classes))
    cells = [["pixels by step", "fixed", "broken", "net", "moved", *classes]]
    for chain in chains:
        if chain.ledger and chain.name != chain.chain:
            cells.append([chain.name])
        for step in chain.ledger:
            per_class = (step.classes[name] for name in classes)
            net = f"{step.fixed - step.broken:+,}"
            total = [f"{step.fixed:,}", f"{step.broken:,}", net, f"{step.moved:,}"]
            by_class = [f"+{changes.fixed:,} -{changes.broken:,}" for changes in per_class]
            cells.append([f"{COLUMN_GAP}{step.step}", *total, *by_class])
    return [
        *_format_table(cells),
        "",
        "fixed: a wrong pixel becomes right; broken: a right one becomes wrong; moved: from one",
        "wrong class to another. By true class: +fixed -broken.",
    ]


def _format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    full = [[*row, *[""] * (len(rows[0]) - len(row))] for row in rows]
    return format_columns(full, left=1, rule=True)
