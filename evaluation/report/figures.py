"""Figures of the report: each function takes numbers and returns one SVG element."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from evaluation.reliability import Reliability, expected_calibration_error
from evaluation.report.figure_base import FAINT, INK, SERIES, render, wrap

MIOU = "masked mIoU"

BARS_WIDTH = 0.8
WHITE_TEXT_ABOVE = 0.55
TITLE_CHARACTERS = 40
LABEL_POINTS, LABEL_OFFSET = 8, 5
AXES_POINTS = 150
"""Approximate height of the axes of the cost figure."""

ROW_INCHES = 0.3
MIN_INCHES = 5.0
"""The page stretches figures, and their letters, to its columns."""

FEW_CLASSES = 7
"""Classes up to which a confusion matrix takes half the page's width."""

LABEL_CHARACTERS = 60
"""Characters of all class names in one line; longer ones are turned."""

WATERFALL_WIDTH = 0.6
MARGIN, MIN_MARGIN = 0.3, 0.005
WATERFALL_CHARACTERS = 66
"""Characters of all stage names in one line."""

PIXELS, DENOMINATOR = SERIES[0], SERIES[1]

Curve = Sequence[tuple[float, float]]
"""(epoch, score) of one training."""


def class_bars(
    names: Sequence[str],
    classes: Sequence[str],
    iou: Float[np.ndarray, "candidate class"],
    low: Float[np.ndarray, "candidate class"],
    high: Float[np.ndarray, "candidate class"],
) -> str:
    """Draw the IoU of each class for a few candidates, with intervals.

    Args:
        names: of the candidates.
        classes: names of the scored classes.
        iou: NaN if a class is absent.
        low: lower ends of the intervals.
        high: upper ends.
    """

    def paint(axes: Axes) -> None:
        width = BARS_WIDTH / len(names)
        for index, name in enumerate(names):
            x = np.arange(len(classes)) + (index - (len(names) - 1) / 2) * width
            axes.bar(x, iou[index], 0.92 * width, color=SERIES[index % len(SERIES)], label=name)
            axes.vlines(x, low[index], high[index], color=INK, linewidth=1)
        axes.set_xticks(range(len(classes)), classes)
        if sum(map(len, classes)) > LABEL_CHARACTERS:
            axes.tick_params(axis="x", labelrotation=40)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.set(ylabel="IoU", ylim=(0, 1))
        axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.22))

    return render("IoU of each class", paint, height=3.6)


def confusion_matrix(
    name: str, classes: Sequence[str], counts: Num[np.ndarray, "target prediction"]
) -> str:
    """Draw the shares of predicted classes for each target class; a row sums to 1, or is empty."""
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    many = len(classes) > FEW_CLASSES
    points, scale = (8, 1.6) if many else (None, 1.0)
    shade = LinearSegmentedColormap.from_list("shade", [(0, 0.45, 0.7, 0), SERIES[0]])

    def paint(axes: Axes) -> None:
        axes.pcolormesh(shares, cmap=shade, vmin=0, vmax=1)
        centres = np.arange(len(classes)) + 0.5
        for row, col in np.ndindex(shares.shape):
            if not np.isnan(shares[row, col]):
                ink = "white" if shares[row, col] > WHITE_TEXT_ABOVE else INK
                text = f"{shares[row, col]:.2f}"
                axes.text(
                    col + 0.5, row + 0.5, text, color=ink, ha="center", va="center", fontsize=points
                )
        axes.set_xticks(centres, classes, rotation=30, ha="right")
        axes.set_yticks(centres, classes)
        axes.invert_yaxis()
        axes.set(xlabel="predicted", ylabel="true", title=wrap(name, TITLE_CHARACTERS))

    return render(f"confusion of {name}", paint, width=4.6 * scale, height=4.0 * scale)


class CostPoint(NamedTuple):
    """A candidate of the cost figure; `cost_ms` is per image."""

    name: str
    cost_ms: float
    miou: float
    on_front: bool


def score_against_cost(points: Sequence[CostPoint], metric: str = MIOU) -> str:
    """Draw scores against costs; candidates on the Pareto front are named and joined.

    Args:
        points: one per candidate.
        metric: words for the score.
    """

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
                fontsize=LABEL_POINTS,
                ha="right" if right else "left",
            )
        axes.set(xlabel="ms per image", ylabel=metric, xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.12)
        axes.legend(loc="lower right")

    return render("score against cost", paint)


def _heights(front: Sequence[CostPoint], points: Sequence[CostPoint]) -> list[float]:
    """Return how far above its point each name is drawn, in points, so that none overlap."""
    scores = [point.miou for point in points]
    unit = AXES_POINTS / ((max(scores) - min(scores)) or 1)
    heights: list[float] = []
    y = -math.inf
    for point in front:
        y = max(point.miou * unit + LABEL_OFFSET, y + LABEL_POINTS + 1)
        heights.append(y - point.miou * unit)
    return heights


def training_curves(curves: Mapping[str, Sequence[Curve]], metric: str = MIOU) -> str:
    """Draw the holdout's score by epoch: one line per fold, one colour per member.

    Args:
        curves: by member, one per fold.
        metric: words for the score.
    """

    def paint(axes: Axes) -> None:
        for index, (name, folds) in enumerate(curves.items()):
            for fold, points in enumerate(folds):
                epochs, scores = zip(*points, strict=True)
                axes.plot(
                    epochs,
                    scores,
                    color=SERIES[index % len(SERIES)],
                    linestyle=("-", "--", ":", "-.")[index // len(SERIES) % 4],
                    linewidth=1.2,
                    marker="o" if len(points) == 1 else None,  # one epoch makes no line
                    markersize=4,
                    label=name if fold == 0 else None,
                )
        axes.set(xlabel="epoch", ylabel=f"{metric} of the holdout")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return render("training curves", paint, width=7.6)


class MemberWorth(NamedTuple):
    """Gain in score of the mean by a member, with the ends of its interval."""

    name: str
    gain: float
    low: float
    high: float


class GrowthPoint(NamedTuple):
    """Average score of the mean of `members`, with the ends of the last gain's interval."""

    members: int
    miou: float
    low: float
    high: float


def member_growth(sizes: Sequence[GrowthPoint], metric: str = MIOU) -> str:
    """Draw the score by the number of members, which ascends; `metric` is words for the score."""
    members = [size.members for size in sizes]

    def paint(axes: Axes) -> None:
        axes.vlines(members, [s.low for s in sizes], [s.high for s in sizes], color=SERIES[0])
        axes.plot(members, [s.miou for s in sizes], "-o", color=SERIES[0])
        axes.set_xticks(members)
        axes.set(xlabel="number of members", ylabel=f"{metric} of their mean")

    return render("score by number of members", paint)


def member_worth(members: Sequence[MemberWorth], metric: str = MIOU) -> str:
    """Draw the gain by each member with its interval; `metric` is words for the score."""

    def paint(axes: Axes) -> None:
        y = np.arange(len(members))[::-1]
        axes.axvline(0, color=INK, linewidth=0.6)
        axes.hlines(y, [m.low for m in members], [m.high for m in members], color=SERIES[0])
        axes.plot([m.gain for m in members], y, "o", color=SERIES[0])
        axes.set_yticks(y, [m.name for m in members])
        axes.set_ylim(-0.5, len(members) - 0.5)
        axes.set(xlabel=f"{metric} of the mean, with the member minus without")
        axes.locator_params(axis="x", nbins=6)

    return render("worth of the members", paint, height=1 + ROW_INCHES * len(members))


def error_correlation(names: Sequence[str], values: Float[np.ndarray, "member member"]) -> str:
    """Draw the correlation of being correct for each pair of members; NaN is left empty."""

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

    side = max(MIN_INCHES, 2 + 0.45 * len(names))
    return render("correlation of errors", paint, width=side, height=0.7 * side)


def reliability_diagram(sums: Mapping[str, Reliability]) -> str:
    """Draw accuracy against confidence, one line per candidate; the diagonal is ideal.

    Args:
        sums: by name, as of `evaluation.reliability.reliability`.
    """

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        for index, (name, bins) in enumerate(sums.items()):
            pixels, confidence, correct = bins
            filled = pixels > 0
            label = f"{name} (ECE {expected_calibration_error(bins):.3f})"
            axes.plot(
                confidence[filled] / pixels[filled],
                correct[filled] / pixels[filled],
                marker="o",
                markersize=4,
                color=SERIES[index % len(SERIES)],
                label=label,
            )
        axes.set(xlabel="confidence", ylabel="share that is correct", xlim=(0, 1), ylim=(0, 1))
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.legend()

    return render("reliability", paint, width=4.6, height=4.0)


class ScoreStage(NamedTuple):
    """The score after one stage, and the gains by pixels and by denominator that led to it."""

    name: str
    miou: float
    pixels: float = 0.0
    denominator: float = 0.0


def waterfall(title: str, stages: Sequence[ScoreStage]) -> str:
    """Draw the scores from the best member to the candidate, and the gains between them as bars.

    Args:
        title: of the figure: what the scores are.
        stages: in order; nothing is drawn if a score is NaN, since then no pixel could be scored.
    """
    scored = not any(math.isnan(stage.miou) for stage in stages)

    def paint(axes: Axes) -> None:
        levels = [stage.miou for stage in stages] if scored else [0.0, 1.0]
        for index in range(len(stages) if scored else 0):
            levels += _paint_stage(axes, stages, index)
        width = max(8, WATERFALL_CHARACTERS // len(stages))
        axes.set_xticks(range(len(stages)), [wrap(stage.name, width) for stage in stages])
        axes.set(title=title)
        margin = max(MIN_MARGIN, MARGIN * (max(levels) - min(levels)))
        axes.set_ylim(min(levels) - margin, max(levels) + margin)
        colours = {"pixels": PIXELS, "denominator": DENOMINATOR}
        patches = [Patch(color=colour, label=name) for name, colour in colours.items()]
        axes.figure.legend(handles=patches, loc="outside lower center", ncols=2)

    return render(title, paint)


def _paint_stage(axes: Axes, stages: Sequence[ScoreStage], index: int) -> list[float]:
    """Draw the score of a stage and the bars of its gains; return where these end."""
    stage, half = stages[index], WATERFALL_WIDTH / 2
    reach = min(index + 1, len(stages) - 1)
    axes.hlines(stage.miou, index - half, reach + half, color=FAINT, linewidth=1)
    height, top = stages[max(index - 1, 0)].miou, stage.miou
    ends = []
    for side, gain, colour in ((-1, stage.pixels, PIXELS), (1, stage.denominator, DENOMINATOR)):
        axes.bar(index + side * half / 2, gain, half, bottom=height, color=colour)
        height += gain
        top = max(top, height, height - gain)
        ends.append(height)
    axes.annotate(
        f"{stage.miou:.3f}",
        (index, top),
        xytext=(0, 4),
        textcoords="offset points",
        color=INK,
        ha="center",
    )
    return ends
