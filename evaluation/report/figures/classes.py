"""IoU of each class for a few candidates, with intervals."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from evaluation.report.figures.drawing import INK, SERIES, drawn

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
