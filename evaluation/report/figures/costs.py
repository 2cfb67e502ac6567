"""Score against cost, with the front that nothing beats in both."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from evaluation.report.figures.drawing import FAINT, INK, SERIES, drawn


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
        for point in front:
            axes.annotate(
                point.name,
                (point.cost_ms, point.miou),
                xytext=(4, 5),
                textcoords="offset points",
                color=INK,
                fontsize=8,
            )
        axes.set(xlabel="ms a picture", ylabel="masked mIoU", xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.12)
        axes.legend(loc="lower right")

    return drawn("score against cost", paint)
