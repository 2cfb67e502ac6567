"""Figures of the page that are computed from maps and training histories of a run."""

import csv
import math
from collections.abc import Mapping

import numpy as np

from ensemble.diversity.disagreement import count_pairs, measure_pairs
from ensemble.diversity.member_worth import subsets_without_one
from ensemble.pipeline.analysis.worth import scored_metric, subset_scorer
from ensemble.pipeline.candidates.probabilities import open_probabilities
from ensemble.pipeline.members.teaching import network_folds
from ensemble.pipeline.report.candidate_trace import CandidateTrace
from ensemble.pipeline.report.leaderboard import estimate
from ensemble.pipeline.run.open_run import RunMembers, open_members
from evaluation.core.blocks import sum_blocks
from evaluation.core.errors import BadRun
from evaluation.core.progress import Log
from evaluation.core.run_folder import Run
from evaluation.core.specs import parse_spec
from evaluation.core.types import Array
from evaluation.formatting import format_decimal
from evaluation.intervals import LEVEL
from evaluation.reliability import Reliability, expected_calibration_error, reliability
from evaluation.report.figures import (
    Estimate,
    Training,
    dot_rows,
    matrix,
    reliability_diagram,
    training_curves,
)
from evaluation.report.page import Figure
from evaluation.run_metric import metric_label
from members.maps import MapReader
from members.recipe import Recipe
from members.trainers.training_curves import TABLE

CURVE_COLUMN, LOSS_COLUMN = "holdout_miou", "holdout_loss"
BEST_IS_KEPT = ("supervised", "adversarial")
"""Trainers that keep the weights of the epoch with the best holdout score of all."""

SPECIALIST_CURVES = (
    " Specialists show the mean IoU of two classes, their own and all others together: .5 or less"
    " while their class is never predicted, so their heights do not compare with other members'."
)


def reliability_figure(run_members: RunMembers, trace: CandidateTrace, split: str) -> Figure:
    """Plot accuracy against confidence of the reference member and of the source.

    Of a fusion whose decisions were fitted by the metric, the probabilities are taken.
    """
    names = [trace.source]
    if trace.reference_index is not None:
        names = list(dict.fromkeys([trace.members[trace.reference_index], trace.source]))
    readers = {name: open_probabilities(run_members, name, split) for name in names}
    sums = {name: _reliability(trace, reader) for name, reader in readers.items()}
    pixels, confidence, correct = sums[trace.source].sum(axis=1)
    title = f"{trace.source} has no scored pixel"
    if pixels:
        over = float((confidence - correct) / pixels)
        sure = "over-confident" if over > 0 else "under-confident"
        errors = [
            f"{format_decimal(expected_calibration_error(one))} ({n})" for n, one in sums.items()
        ]
        title = (
            f"{trace.source} is {sure} by {format_decimal(abs(over))}; calibration error"
            f" {', '.join(errors)}"
        )
    classes = trace.data.classes
    renormalised = ""
    if classes.ignore is not None:
        renormalised = (
            f" The probability of {classes.names[classes.ignore]}, which is ignored, is removed"
            " first and the others are renormalised to sum to 1."
        )
    caption = (
        "Below the diagonal, pixels are predicted with more confidence than they are correct; the"
        " expected calibration error (ECE) is the mean distance from it, 0 to 1." + renormalised
    )
    return Figure("reliability", title, caption, reliability_diagram(sums))


def _reliability(trace: CandidateTrace, reader: MapReader) -> Reliability:
    target, ignore = trace.data.target(), trace.data.classes.ignore

    def count(block: slice) -> Reliability:
        return reliability(reader.read(block), np.asarray(target[block]), ignore=ignore)

    return sum_blocks(count, trace.data.extent)


def curves_figure(run_members: RunMembers) -> Figure | None:
    """Plot the training curves of the run's networks; None if it has none."""
    run = run_members.run
    members: dict[str, list[Training]] = {}
    for member in run_members.members:
        for fold in network_folds(run, member):
            training = _read_training(run, member.name, fold.index, member.recipe)
            if training is not None:
                members.setdefault(member.name, []).append(training)
    if not members:
        return None
    metric = f"{metric_label(scored_metric(run_members))} of the holdout"
    title = _curves_title(members)
    caption = (
        f"{metric[0].upper()}{metric[1:]} after each epoch, a line per fold; the large dot is the"
        " epoch whose weights were kept."
    )
    if any(member.name in members for member in run_members.members if member.label is not None):
        caption += SPECIALIST_CURVES
    return Figure("training", title, caption, training_curves(members, metric))


def _read_training(run: Run, member: str, fold: int, recipe: Recipe) -> Training | None:
    file = run.model(member, fold) / TABLE
    if not file.is_file():
        return None
    with file.open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    epochs, scores, losses = (
        [float(row[column]) for row in rows] for column in ("epoch", CURVE_COLUMN, LOSS_COLUMN)
    )
    kept = None
    if parse_spec(recipe.trainer).name in BEST_IS_KEPT and rows:
        by_loss = recipe.monitor == "loss"
        watched = [
            -math.inf if math.isnan(loss) else -loss if by_loss or math.isnan(score) else score
            for score, loss in zip(scores, losses, strict=True)
        ]
        kept = epochs[watched.index(max(watched))]
    return Training(fold, epochs, scores, kept)


def _curves_title(members: Mapping[str, list[Training]]) -> str:
    """Say how many trainings were best in their last epoch, and so might gain by more of them."""
    trainings = [one for folds in members.values() for one in folds if one.kept is not None]
    if not trainings:
        return "Training curves of all members"
    last = [one for one in trainings if one.kept == one.epochs[-1]]
    kept = [one.kept for one in trainings if one.kept is not None]
    return (
        f"Kept epochs are {min(kept):g} to {max(kept):g}; {len(last)} of {len(trainings)} trainings"
        " were best in their last epoch"
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
    changes = [scorer.change(everyone, others) for others in subsets_without_one(everyone)]
    worth = {
        name: estimate(change.value, change.interval)
        for name, change in zip(maps.names, changes, strict=True)
    }
    metric = metric_label(scored_metric(run_members))
    return [
        _worth_figure(worth, metric),
        _diversity_figure(maps.names, measure_pairs(pairs).correlation),
    ]


def _worth_figure(worth: Mapping[str, Estimate], metric: str) -> Figure:
    ordered = sorted(worth, key=lambda name: -worth[name].value)
    best, added = ordered[0], [name for name in ordered if worth[name].low > 0]
    title = f"{best} adds most, {format_decimal(worth[best].value, '+')}"
    if not math.isnan(worth[best].low):
        title += f"; {len(added)} of {len(ordered)} members with a significant gain"
    caption = (
        "What the mean of all members would lose without each; a filled dot is significant: its"
        f" interval, at {100 * LEVEL:g} % each, excludes 0."
    )
    drawing = dot_rows(
        "worth of the members",
        ordered,
        {"gain": [worth[name] for name in ordered]},
        what="member",
        axis=f"{metric} of the mean, with the member minus without",
        signed=True,
    )
    return Figure("member-worth", title, caption, drawing)


def _diversity_figure(names: tuple[str, ...], correlation: Array) -> Figure:
    below = np.tril(np.ones(correlation.shape, bool), k=-1)
    values = np.where(below, correlation, np.nan)
    title = "Members make the same errors or none"
    if not np.isnan(values).all():
        alike = np.unravel_index(np.nanargmax(values), values.shape)
        apart = np.unravel_index(np.nanargmin(values), values.shape)
        title = f"{_pair(names, alike)} err most alike ({values[alike]:.2f})"
        if alike != apart:
            title += f", {_pair(names, apart)} least ({values[apart]:.2f})"
    caption = (
        "Correlation of being correct for each pair of members: 1 if they err on one set of pixels."
    )
    drawing = matrix(
        "correlation of errors",
        names[1:],
        names[:-1],
        values[1:, :-1],
        axes=("", ""),
        strongest=1.0,
    )
    return Figure("error-correlation", title, caption, drawing)


def _pair(names: tuple[str, ...], place: tuple[np.intp, ...]) -> str:
    return " and ".join(names[int(k)] for k in sorted(place))
