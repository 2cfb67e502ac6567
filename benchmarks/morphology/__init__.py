"""The parts of `ens bench morphology`: each compares a step with what libraries do for the same.

What is compared: a step, and what users of a library would write for one image.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from evaluation.core.specs import Table
from evaluation.core.types import Array

_HERE = "benchmarks.morphology"

PARTS = Table(
    "part",
    {
        "remove_small": f"{_HERE}.regions:remove_small",
        "keep_largest": f"{_HERE}.regions:keep_largest",
        "fill_holes": f"{_HERE}.regions:fill_holes",
        "mode_filter": f"{_HERE}.windows:mode_filter",
        "open": f"{_HERE}.windows:opening",
        "close": f"{_HERE}.windows:closing",
        "median": f"{_HERE}.maps:median",
        "blur": f"{_HERE}.maps:blur",
        "superpixel_vote": f"{_HERE}.maps:superpixel_vote",
    },
)


Image = UInt8[np.ndarray, "row col"]
ImageMask = Bool[np.ndarray, "row col"]
ImageMap = Float[np.ndarray, "class row col"]


@dataclass(frozen=True)
class Referee:
    """One library's way.

    Args:
        apply: from the labels or the map of one image, and the grey image, to the same kind.
        differs: in what its answers may differ, and why; empty where they are the same.
    """

    apply: Callable[[Array, Image], Array]
    differs: str = ""


@dataclass(frozen=True)
class Part:
    """One step and its referees.

    Args:
        spec: of the step.
        referees: by the library's name.
    """

    spec: str
    referees: Mapping[str, Referee]
