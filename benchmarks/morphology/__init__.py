"""Steps compared with what libraries do for the same: `python -m benchmarks.morphology`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from evaluation.core.specs import Table
from evaluation.core.types import Array

_CONTENDERS = "benchmarks.morphology.contenders"

COMPARISONS = Table(
    "part",
    {
        "remove_small": f"{_CONTENDERS}:remove_small",
        "keep_largest": f"{_CONTENDERS}:keep_largest",
        "fill_holes": f"{_CONTENDERS}:fill_holes",
        "mode_filter": f"{_CONTENDERS}:mode_filter",
        "open": f"{_CONTENDERS}:opening",
        "close": f"{_CONTENDERS}:closing",
        "median": f"{_CONTENDERS}:median",
        "blur": f"{_CONTENDERS}:blur",
        "superpixel_vote": f"{_CONTENDERS}:superpixel_vote",
    },
)

Image = UInt8[np.ndarray, "row col"]


@dataclass(frozen=True)
class ReferenceTool:
    """What users of a library would write for one image.

    Args:
        apply: from the labels or the map of one image, and the grey image, to the same kind.
        differs: why its results may differ from ours; empty if they must be the same.
    """

    apply: Callable[[Array, Image], Array]
    differs: str = ""


@dataclass(frozen=True)
class Comparison:
    """A step, and the tools it is compared with.

    Args:
        spec: of the step.
        tools: by the library's name.
    """

    spec: str
    tools: Mapping[str, ReferenceTool]
