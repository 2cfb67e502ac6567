"""Figures of the page that are computed from maps and training histories of a run."""

import csv

import numpy as np

from ensemble.diversity.disagreement import count_pairs, measure_pairs
from ensemble.diversity.member_worth import subsets_without_one
from ensemble.pipeline.analysis.worth import scored_metric, subset_scorer
from ensemble.pipeline.candidates.probabilities import open_probabilities
from ensemble.pipeline.members.teaching import network_folds
from ensemble.pipeline.report.candidate_trace import CandidateTrace
from ensemble.pipeline.run.open_run import RunMembers, open_members
from evaluation.core.blocks import sum_blocks
from evaluation.core.errors import BadRun
from evaluation.core.progress import Log
from evaluation.reliability import Reliability, reliability
from evaluation.report.figures import (
    Curve,
    MemberWorth,
    error_correlation,
    member_worth,
    reliability_diagram,
    training_curves,
)
from evaluation.report.page import Figure
from evaluation.run_metric import metric_label
from members.maps import MapReader
from members.trainers.training_curves import TABLE

CURVE_COLUMN = "holdout_miou"


def reliability_figure(run_members: RunMembers, trace: CandidateTrace, split: str) -> Figure:
    """Plot accuracy against confidence of the reference member and of the source.

    Of a fusion whose decisions were fitted by the metric, the probabilities are taken.
    """
    names = [trace.source]
    if trace.reference_index is not None:
        names = [trace.members[trace.reference_index], trace.source]
    readers = {name: open_probabilities(run_members, name, split) for name in names}
    caption = (
        "Share of right pixels among those predicted with the same confidence. ECE (expected"
        " calibration error): the mean distance from the diagonal. Of a fusion that decides by the"
        " metric, it shows the probabilities."
    )
    diagram = reliability_diagram({name: _reliability(trace, r) for name, r in readers.items()})
    return Figure("reliability", diagram, caption)


def _reliability(trace: CandidateTrace, reader: MapReader) -> Reliability:
    target, ignore = trace.data.target(), trace.data.classes.ignore

    def count(block: slice) -> Reliability:
        return reliability(reader.read(block), np.asarray(target[block]), ignore=ignore)

    return sum_blocks(count, trace.data.extent)


def curves_figure(run_members: RunMembers) -> Figure | None:
    """Plot the training curves of the run's networks; None if it has none."""
    run = run_members.run
    metric = scored_metric(run_members)
    curves: dict[str, list[Curve]] = {}
    for member in run_members.members:
        for fold in network_folds(run, member):
            file = run.model(member.name, fold.index) / TABLE
            if not file.is_file():
                continue
            with file.open(newline="", encoding="utf-8") as text:
                points = [
                    (float(row["epoch"]), float(row[CURVE_COLUMN])) for row in csv.DictReader(text)
                ]
            curves.setdefault(member.name, []).append(points)
    if not curves:
        return None
    return Figure(
        "training", training_curves(curves, metric_label(metric)), "One line per fold of a member."
    )


def member_figures(run_members: RunMembers, split: str, log: Log) -> list[Figure]:
    """Plot what each member adds to the mean of the others, and how errors correlate."""
    try:
        maps = open_members(run_members, split, log)
    except BadRun:
        return []  # fewer than two members
    data = maps.data
    pairs = count_pairs(maps.readers, data.target(), ignore=data.classes.ignore)
    if not pairs.pixels:
        return []  # no scored pixel
    everyone = tuple(range(len(maps.names)))
    scorer = subset_scorer(run_members, maps, len(everyone) + 1)
    scorer.counts.of([everyone, *subsets_without_one(everyone)])
    worth = []
    for name, others in zip(maps.names, subsets_without_one(everyone), strict=True):
        change = scorer.change(everyone, others)
        interval = change.interval
        low, high = (change.value,) * 2 if interval is None else (interval.low, interval.high)
        worth.append(MemberWorth(name, change.value, low, high))
    correlation = measure_pairs(pairs).correlation
    return [
        Figure(
            "member-worth",
            member_worth(worth, metric_label(scored_metric(run_members))),
            "Gain of the mean of all members by each of them, with intervals.",
        ),
        Figure(
            "error-correlation",
            error_correlation(maps.names, correlation),
            "Correlation of the errors of each pair of members.",
        ),
    ]
