"""What each stage gained: the best member, the fusion without steps, the candidate."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ensemble.pipeline.candidates.postprocess import ARGMAX, read_candidate
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.audit import GainDecomposition, audit
from evaluation.core.classes import Classes
from evaluation.core.specs import parse_spec
from evaluation.formatting import format_decimal
from evaluation.leaderboard import Leaderboard
from evaluation.protocols import build_protocol, score_images
from evaluation.report.figures import ScoreStage, waterfall
from evaluation.report.page import Figure
from evaluation.run_metric import score_column
from evaluation.scores import ScoredImages, read_scores

CAPTION = (
    "Bars go from one score to the next: what better pixels gained, and what averaging over other"
    " classes did (the denominator of the mean)."
)

SECOND_PROTOCOL = "keras"
"""Told beside the run's metric: it rises where the ignored class is no longer predicted."""


@dataclass(frozen=True)
class ScoredStage:
    """A candidate that stands for one stage.

    Args:
        name: of the candidate.
        images: its counts on the evaluated split.
    """

    name: str
    images: ScoredImages


def stages(run_members: RunMembers, board: Leaderboard, candidate: str) -> list[ScoredStage]:
    """Return the reference member, the candidate's fusion without steps, and the candidate."""
    source, _ = read_candidate(run_members.run, candidate)
    scored = {row.name for row in board.rows}
    names = dict.fromkeys([board.reference, f"{source}_{ARGMAX}", candidate])
    return [
        ScoredStage(name, read_scores(run_members.run.scores(name), board.split)[1])
        for name in names
        if name is not None and name in scored
    ]


def waterfalls(path: Sequence[ScoredStage], metric: str, classes: Classes) -> list[Figure]:
    """Plot the gain of each stage under the run's metric and the second protocol.

    There is nothing to plot where the candidate is the best single member itself.
    """
    if len(path) < 2:
        return []
    figures: list[Figure] = []
    first_bars: list[ScoreStage] = []
    for protocol in dict.fromkeys((metric, SECOND_PROTOCOL)):
        scorer = build_protocol(protocol, classes)
        first = score_images(scorer, path[0].images.counts, classes.ignore).miou
        bars = [ScoreStage(path[0].name, float(first))]
        bars += [
            ScoreStage(after.name, gain.after, gain.pixels, gain.denominator)
            for after, gain in zip(path[1:], gains(protocol, path, classes), strict=True)
        ]
        if figures and _written(bars) == _written(first_bars):
            continue  # the same numbers again
        first_bars = bars
        name, words = f"story-{parse_spec(protocol).name}", score_title(protocol)
        figures.append(Figure(name, _gain_title(bars, words), CAPTION, waterfall(words, bars)))
    return figures


def _written(bars: Sequence[ScoreStage]) -> list[list[str]]:
    return [[format_decimal(number) for number in bar[1:]] for bar in bars]


def _gain_title(bars: Sequence[ScoreStage], score: str) -> str:
    """Say which stage gained most, or that none did."""
    steps = [(after.score - before.score, after.name) for before, after in pairwise(bars)]
    gain, name = max(steps)
    if not gain > 0:
        return f"No stage gains in {score}"
    return f"{name} gains {format_decimal(gain, '+')} in {score}"


def gains(protocol: str, path: Sequence[ScoredStage], classes: Classes) -> list[GainDecomposition]:
    """Return the gain of each stage over the one before."""
    scorer = build_protocol(protocol, classes)
    return [
        audit(scorer, a.images.counts, b.images.counts, classes.ignore) for a, b in pairwise(path)
    ]


def score_title(protocol: str) -> str:
    """Return the title of a figure of scores under a protocol."""
    name = score_column(protocol)
    return f"{name} under {protocol}" if name == "mIoU" else name


def summary_sentence(path: Sequence[ScoredStage], metric: str, classes: Classes) -> str:
    """Return one sentence: what all stages together gained under both protocols."""
    first, last = path[0], path[-1]
    if len(path) < 2:
        return f"{first.name} is both the best single member and the candidate."
    parts = []
    for protocol in dict.fromkeys((metric, SECOND_PROTOCOL)):
        (gain,) = gains(protocol, [first, last], classes)
        parts.append(
            f"{gain.after - gain.before:+.3f} under {protocol} ({gain.pixels:+.3f} by pixels,"
            f" {gain.denominator:+.3f} by the denominator)"
        )
    return f"From {first.name} to {last.name}: {' and '.join(parts)}."
