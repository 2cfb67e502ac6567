"""Training curves: the holdout's score epoch by epoch."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evaluation.report.figures.drawing import SERIES, drawn

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
