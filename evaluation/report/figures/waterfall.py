"""The story of the score: from the best member to the candidate, pixels against denominator."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from evaluation.report.figures.drawing import FAINT, INK, SERIES, drawn, in_lines

WIDTH = 0.6
ROOM, LEAST_ROOM = 0.3, 0.005
CHARACTERS = 66  # that the names have beside each other
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
            axes.hlines(stage.miou, place - WIDTH / 2, reach + WIDTH / 2, color=FAINT, linewidth=1)
            height, top = stages[max(place - 1, 0)].miou, stage.miou
            parts = ((-0.25, stage.pixels, PIXELS), (0.25, stage.denominator, DENOMINATOR))
            for side, gain, colour in parts:
                axes.bar(place + side * WIDTH, gain, WIDTH / 2, bottom=height, color=colour)
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
        width = max(8, CHARACTERS // len(stages))
        axes.set_xticks(range(len(stages)), [in_lines(stage.name, width) for stage in stages])
        axes.set(title=f"mIoU under {protocol}")
        room = max(LEAST_ROOM, ROOM * (max(levels) - min(levels)))
        axes.set_ylim(min(levels) - room, max(levels) + room)
        named = {"pixels": PIXELS, "denominator": DENOMINATOR}
        patches = [Patch(color=colour, label=name) for name, colour in named.items()]
        axes.figure.legend(handles=patches, loc="outside lower center", ncols=2)

    return drawn(f"story under {protocol}", paint)
