"""Score against cost, with the front that nothing beats in both."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from evaluation.report.figures.drawing import FAINT, INK, SERIES, drawn

LETTERS, ABOVE = 8, 5
AXES_POINTS = 150  # that the scores take of the figure's height, about


class Point(NamedTuple):
    """A candidate.

    Args:
        name: of it.
        cost_ms: of a picture, in milliseconds.
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
        axes.set(xlabel="ms a picture", ylabel="masked mIoU", xscale="log")
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
