"""Figures of the page: each function takes numbers and gives one SVG element.

IoU of each class for a few candidates, with intervals.

A confusion matrix: where the pixels of each true class went.

Score against cost, with the front that nothing beats in both.

Training curves: the holdout's score epoch by epoch.

What members are worth, and how alike their errors are.

A reliability diagram: how often predictions of a confidence are right.

The story of the score: from the best member to the candidate, pixels against denominator.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from evaluation.reliability import Reliability, ece
from evaluation.report.figure_base import (
    FAINT,
    INK,
    SERIES,
    drawn,
    in_lines,
)

WIDTH = 0.8


def class_bars(
    names: Sequence[str],
    classes: Sequence[str],
    iou: Float[np.ndarray, "candidate class"],
    low: Float[np.ndarray, "candidate class"],
    high: Float[np.ndarray, "candidate class"],
) -> str:
    """Draw a group of bars a class.

    Args:
        names: of the candidates.
        classes: names of those that are scored.
        iou: NaN where a class is absent.
        low: lower ends of the intervals.
        high: upper ends.
    """

    def paint(axes: Axes) -> None:
        wide = WIDTH / len(names)
        for place, name in enumerate(names):
            at = np.arange(len(classes)) + (place - (len(names) - 1) / 2) * wide
            axes.bar(at, iou[place], 0.92 * wide, color=SERIES[place % len(SERIES)], label=name)
            axes.vlines(at, low[place], high[place], color=INK, linewidth=1)
        axes.set_xticks(range(len(classes)), classes)
        axes.set(ylabel="IoU", ylim=(0, 1))
        axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.22))

    return drawn("IoU of each class", paint, height=3.6)


DARK = 0.55
CHARACTERS = 40  # of the title's lines


def confusion_matrix(
    name: str, classes: Sequence[str], counts: Num[np.ndarray, "true prediction"]
) -> str:
    """Draw shares of each true class; a row sums to 1.

    Args:
        name: of the candidate.
        classes: their names.
        counts: pixels; rows without any stay empty.
    """
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    shade = LinearSegmentedColormap.from_list("shade", [(0, 0.45, 0.7, 0), SERIES[0]])

    def paint(axes: Axes) -> None:
        axes.pcolormesh(shares, cmap=shade, vmin=0, vmax=1)
        places = np.arange(len(classes)) + 0.5
        for row, col in np.ndindex(shares.shape):
            if not np.isnan(shares[row, col]):
                ink = "white" if shares[row, col] > DARK else INK
                text = f"{shares[row, col]:.2f}"
                axes.text(col + 0.5, row + 0.5, text, color=ink, ha="center", va="center")
        axes.set_xticks(places, classes, rotation=30, ha="right")
        axes.set_yticks(places, classes)
        axes.invert_yaxis()
        axes.set(xlabel="predicted", ylabel="true", title=in_lines(name, CHARACTERS))

    return drawn(f"confusion of {name}", paint, width=4.6, height=4.0)


LETTERS, ABOVE = 8, 5
AXES_POINTS = 150  # that the scores take of the figure's height, about


class Point(NamedTuple):
    """A candidate.

    Args:
        name: of it.
        cost_ms: of an image, in milliseconds.
        miou: examined.
        on_front: whether none is cheaper and scores as high.
    """

    name: str
    cost_ms: float
    miou: float
    on_front: bool


def score_against_cost(points: Sequence[Point]) -> str:
    """Draw the candidates; those on the front are named and joined."""

    def paint(axes: Axes) -> None:
        front = sorted((point for point in points if point.on_front), key=lambda p: p.cost_ms)
        others = [point for point in points if not point.on_front]
        axes.scatter(
            [p.cost_ms for p in others], [p.miou for p in others], color=FAINT, s=18, label="others"
        )
        axes.plot(
            [p.cost_ms for p in front],
            [p.miou for p in front],
            color=SERIES[0],
            marker="o",
            drawstyle="steps-post",
            linewidth=1,
            label="front",
        )
        middle = math.sqrt(min(p.cost_ms for p in points) * max(p.cost_ms for p in points))
        for point, height in zip(front, _heights(front, points), strict=True):
            right = point.cost_ms > middle
            axes.annotate(
                point.name,
                (point.cost_ms, point.miou),
                xytext=(-6 if right else 4, height),
                textcoords="offset points",
                color=INK,
                fontsize=LETTERS,
                ha="right" if right else "left",
            )
        axes.set(xlabel="ms an image", ylabel="masked mIoU", xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.12)
        axes.legend(loc="lower right")

    return drawn("score against cost", paint)


def _heights(front: Sequence[Point], points: Sequence[Point]) -> list[float]:
    """Return how far above its point each name stands, in points: none upon the one before."""
    scores = [point.miou for point in points]
    unit = AXES_POINTS / ((max(scores) - min(scores)) or 1)
    heights: list[float] = []
    at = -math.inf
    for point in front:
        at = max(point.miou * unit + ABOVE, at + LETTERS + 1)
        heights.append(at - point.miou * unit)
    return heights


Points = Sequence[tuple[float, float]]


def training_curves(found: Mapping[str, Sequence[Points]]) -> str:
    """Draw one line a model, in one colour a member.

    Args:
        found: by member, for each fold its (epoch, masked mIoU of the holdout).
    """

    def paint(axes: Axes) -> None:
        for place, (name, folds) in enumerate(found.items()):
            for fold, points in enumerate(folds):
                epochs, scores = zip(*points, strict=True)
                axes.plot(
                    epochs,
                    scores,
                    color=SERIES[place % len(SERIES)],
                    linestyle=("-", "--", ":", "-.")[place // len(SERIES) % 4],
                    linewidth=1.2,
                    marker="o" if len(points) == 1 else None,  # of one epoch there is no line
                    markersize=4,
                    label=name if fold == 0 else None,
                )
        axes.set(xlabel="epoch", ylabel="masked mIoU of the holdout")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return drawn("training curves", paint, width=7.6)


ROW_INCH = 0.3
LEAST_INCH = 5.0  # the page stretches figures, and their letters, to its columns


class Worth(NamedTuple):
    """What a member adds to the mean of the others.

    Args:
        name: of the member.
        gain: of masked mIoU.
        low: lower end of its interval.
        high: upper end.
    """

    name: str
    gain: float
    low: float
    high: float


class Grown(NamedTuple):
    """What any so many members score on average.

    Args:
        members: how many.
        miou: masked mIoU of their mean.
        low: lowest that it may be by the interval of what the last member gained.
        high: highest.
    """

    members: int
    miou: float
    low: float
    high: float


def member_growth(found: Sequence[Grown]) -> str:
    """Draw the score by the number of members, with where each one more may lead.

    Args:
        found: ascending.
    """
    members = [size.members for size in found]

    def paint(axes: Axes) -> None:
        axes.vlines(members, [g.low for g in found], [g.high for g in found], color=SERIES[0])
        axes.plot(members, [g.miou for g in found], "-o", color=SERIES[0])
        axes.set_xticks(members)
        axes.set(xlabel="any so many members", ylabel="masked mIoU of their mean")

    return drawn("score by number of members", paint)


def member_worth(found: Sequence[Worth]) -> str:
    """Draw one line a member with its interval."""

    def paint(axes: Axes) -> None:
        at = np.arange(len(found))[::-1]
        axes.axvline(0, color=INK, linewidth=0.6)
        axes.hlines(at, [w.low for w in found], [w.high for w in found], color=SERIES[0])
        axes.plot([w.gain for w in found], at, "o", color=SERIES[0])
        axes.set_yticks(at, [w.name for w in found])
        axes.set_ylim(-0.5, len(found) - 0.5)
        axes.set(xlabel="masked mIoU of the mean, with the member minus without")
        axes.locator_params(axis="x", nbins=6)

    return drawn("worth of the members", paint, height=1 + ROW_INCH * len(found))


def error_correlation(names: Sequence[str], values: Float[np.ndarray, "member member"]) -> str:
    """Draw how alike the errors of two members each are; NaN stays empty.

    Args:
        names: of the members.
        values: correlation of being right.
    """

    def paint(axes: Axes) -> None:
        for row, col in np.ndindex(values.shape):
            if row > col and not np.isnan(values[row, col]):
                strength = max(0.0, float(values[row, col]))
                square = (
                    [col - 0.5, col + 0.5, col + 0.5, col - 0.5],
                    [row - 0.5] * 2 + [row + 0.5] * 2,
                )
                axes.fill(*square, color=SERIES[0], alpha=strength, linewidth=0)
                text = f"{values[row, col]:.2f}"
                axes.text(col, row, text, color=INK, ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(names) - 1), names[:-1], rotation=40, ha="right")
        axes.set_yticks(range(1, len(names)), names[1:])
        axes.set(xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5))

    side = max(LEAST_INCH, 2 + 0.45 * len(names))
    return drawn("correlation of errors", paint, width=side, height=0.7 * side)


def reliability_diagram(found: Mapping[str, Reliability]) -> str:
    """Draw one line a candidate; on the diagonal, confidence is what it says.

    Args:
        found: by name, sums of the bins of confidence; see `evaluation.reliability.reliability`.
    """

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        for place, (name, sums) in enumerate(found.items()):
            pixels, confidence, right = sums
            met = pixels > 0
            label = f"{name} (ECE {ece(sums):.3f})"
            axes.plot(
                confidence[met] / pixels[met],
                right[met] / pixels[met],
                marker="o",
                markersize=4,
                color=SERIES[place % len(SERIES)],
                label=label,
            )
        axes.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.legend()

    return drawn("reliability", paint, width=4.6, height=4.0)


WATERFALL_WIDTH = 0.6
ROOM, LEAST_ROOM = 0.3, 0.005
WATERFALL_CHARACTERS = 66  # that the names have beside each other
PIXELS, DENOMINATOR = SERIES[0], SERIES[1]


class Stage(NamedTuple):
    """One stage of the story under one protocol.

    Args:
        name: of the stage.
        miou: after it.
        pixels: what the pixels gained since the stage before; 0 for the first.
        denominator: what the denominator gained; 0 for the first.
    """

    name: str
    miou: float
    pixels: float = 0.0
    denominator: float = 0.0


def waterfall(protocol: str, stages: Sequence[Stage]) -> str:
    """Draw each score as a line with its number, and what leads from one to the next as bars.

    Args:
        protocol: under which the scores are.
        stages: in order; each has the gains that lead to it. None is drawn where a score is NaN:
            then no pixel could be scored.
    """
    scored = not any(math.isnan(stage.miou) for stage in stages)

    def paint(axes: Axes) -> None:
        levels = [stage.miou for stage in stages] if scored else [0.0, 1.0]
        for place, stage in enumerate(stages if scored else ()):
            reach = min(place + 1, len(stages) - 1)
            axes.hlines(
                stage.miou,
                place - WATERFALL_WIDTH / 2,
                reach + WATERFALL_WIDTH / 2,
                color=FAINT,
                linewidth=1,
            )
            height, top = stages[max(place - 1, 0)].miou, stage.miou
            parts = ((-0.25, stage.pixels, PIXELS), (0.25, stage.denominator, DENOMINATOR))
            for side, gain, colour in parts:
                axes.bar(
                    place + side * WATERFALL_WIDTH,
                    gain,
                    WATERFALL_WIDTH / 2,
                    bottom=height,
                    color=colour,
                )
                height += gain
                top = max(top, height, height - gain)
                levels.append(height)
            axes.annotate(
                f"{stage.miou:.3f}",
                (place, top),
                xytext=(0, 4),
                textcoords="offset points",
                color=INK,
                ha="center",
            )
        width = max(8, WATERFALL_CHARACTERS // len(stages))
        axes.set_xticks(range(len(stages)), [in_lines(stage.name, width) for stage in stages])
        axes.set(title=f"mIoU under {protocol}")
        room = max(LEAST_ROOM, ROOM * (max(levels) - min(levels)))
        axes.set_ylim(min(levels) - room, max(levels) + room)
        named = {"pixels": PIXELS, "denominator": DENOMINATOR}
        patches = [Patch(color=colour, label=name) for name, colour in named.items()]
        axes.figure.legend(handles=patches, loc="outside lower center", ncols=2)

    return drawn(f"story under {protocol}", paint)
