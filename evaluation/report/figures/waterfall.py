"""The story of the score: from the best member to the candidate, pixels against denominator."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from evaluation.report.figures.drawing import FAINT, INK, SERIES, drawn

WIDTH, ROOM = 0.6, 0.04
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
    """Draw the first stage as a bar from 0, each gain as a step, and each score as a number.

    Args:
        protocol: under which the scores are.
        stages: in order; each has the gains that lead to it.
    """

    def paint(axes: Axes) -> None:
        height = stages[0].miou
        axes.bar(0, height, WIDTH, color=FAINT)
        for place, stage in enumerate(stages[1:], start=1):
            axes.hlines(height, place - 1, place, color=FAINT, linewidth=1)
            for gain, colour in ((stage.pixels, PIXELS), (stage.denominator, DENOMINATOR)):
                axes.bar(place, gain, WIDTH, bottom=height, color=colour)
                height += gain
        for place, stage in enumerate(stages):
            axes.text(place, stage.miou + ROOM / 4, f"{stage.miou:.3f}", color=INK, ha="center")
        scores = [stage.miou for stage in stages]
        axes.set_xticks(range(len(stages)), [stage.name for stage in stages])
        axes.set(title=protocol, ylabel="mIoU", ylim=(max(0, min(scores) - 3 * ROOM), None))
        axes.margins(y=0.2)
        axes.bar(0, 0, color=PIXELS, label="pixels")
        axes.bar(0, 0, color=DENOMINATOR, label="denominator")
        axes.legend(loc="lower right", ncols=2)

    return drawn(f"story under {protocol}", paint)
