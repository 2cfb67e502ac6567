"""A confusion matrix: where the pixels of each true class went."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from evaluation.report.figures.drawing import INK, SERIES, drawn, in_lines

DARK = 0.55
CHARACTERS = 40  # of the title's lines


def confusion_matrix(
    name: str, classes: Sequence[str], counts: Num[np.ndarray, "true guess"]
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
        axes.set(xlabel="guessed", ylabel="true", title=in_lines(name, CHARACTERS))

    return drawn(f"confusion of {name}", paint, width=4.6, height=4.0)
