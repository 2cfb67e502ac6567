"""What members are worth, and how alike their errors are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from evaluation.report.figures.drawing import INK, SERIES, drawn

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
