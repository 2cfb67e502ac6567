"""The parts of `ens bench morphology`: each compares a step with what libraries do for the same."""

from evaluation.ground.specs import Table

_HERE = "ensemble.pipeline.bench.morphology"

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
