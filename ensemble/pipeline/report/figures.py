"""What the figures of the page need, gathered from a run."""

import csv
from collections.abc import Callable

import numpy as np

from ensemble.diversity.disagreement import count_both_right, measure_pairs
from ensemble.diversity.member_worth import without_one
from ensemble.pipeline.analysis.worth import judge_of
from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.report.candidate_trace import Walk
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.run.opened_members import open_members
from evaluation.core.blocks import sum_blocks
from evaluation.core.errors import BadRun
from evaluation.reliability import Reliability, reliability
from evaluation.report.figures import (
    Points,
    Worth,
    error_correlation,
    member_worth,
    reliability_diagram,
    training_curves,
)
from evaluation.report.page import Figure
from members.maps import MapReader
from members.trainers.training_curves import TABLE

SCORE = "holdout_miou"


def reliability_figure(walk: Walk) -> Figure:
    """Draw how far the reference member's and the source's confidence can be trusted."""
    shown = {walk.source: walk.readers[-1]}
    if walk.reference in walk.members:
        place = walk.members.index(str(walk.reference))
        shown = {str(walk.reference): walk.readers[place], **shown}
    found = {name: _reliability(walk, reader) for name, reader in shown.items()}
    return Figure(
        "reliability",
        reliability_diagram(found),
        "Of the predictions made with some confidence, the share that is right. ECE: the mean distance"
        " from the diagonal.",
    )


def _reliability(walk: Walk, reader: MapReader) -> Reliability:
    target, ignore = walk.data.target(), walk.data.classes.ignore

    def count(block: slice) -> Reliability:
        return reliability(reader.read(block), np.asarray(target[block]), ignore=ignore)

    return sum_blocks(count, len(walk.data))


def curves_figure(sources: RunMembers) -> Figure | None:
    """Draw the trainings of the run's networks; None where it has none."""
    run = sources.run
    found: dict[str, list[Points]] = {}
    for member in sources.members:
        for fold in read_folds(run):
            file = run.model(member.name, fold.index) / TABLE
            if not file.is_file():
                continue
            with file.open(newline="", encoding="utf-8") as text:
                points = [(float(row["epoch"]), float(row[SCORE])) for row in csv.DictReader(text)]
            found.setdefault(member.name, []).append(points)
    if not found:
        return None
    caption = "Each line is one fold's model of a member."
    return Figure("training", training_curves(found), caption)


def member_figures(sources: RunMembers, split: str, log: Callable[[str], None]) -> list[Figure]:
    """Draw what members add to the mean of the others, and how alike their errors are."""
    try:
        maps = open_members(sources, split, log)
    except BadRun:
        return []  # fewer than two members: nobody to compare with
    data = maps.data
    both, pixels = count_both_right(maps.readers, data.target(), ignore=data.classes.ignore)
    if not pixels:
        return []  # nothing was scored
    everyone = tuple(range(len(maps.names)))
    judge = judge_of(sources, maps, len(everyone) + 1)
    judge.counts.of([everyone, *without_one(everyone)])
    worth = []
    for name, others in zip(maps.names, without_one(everyone), strict=True):
        change = judge.change(everyone, others)
        ends = change.interval
        low, high = (change.value,) * 2 if ends is None else (ends.low, ends.high)
        worth.append(Worth(name, change.value, low, high))
    correlation = measure_pairs(both, pixels).correlation
    return [
        Figure(
            "member-worth",
            member_worth(worth),
            "What the mean of all gains by each member, with intervals.",
        ),
        Figure(
            "error-correlation",
            error_correlation(maps.names, correlation),
            "How alike the errors of two members are.",
        ),
    ]
