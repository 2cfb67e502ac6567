"""A reliability diagram: how often guesses of a confidence are right."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from evaluation.calibration import Reliability, ece
from evaluation.report.figures.drawing import FAINT, SERIES, drawn


def reliability_diagram(found: Mapping[str, Reliability]) -> str:
    """Draw one line a candidate; on the diagonal, confidence is what it says.

    Args:
        found: by name, sums of the bins of confidence; see `evaluation.calibration.reliability`.
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
