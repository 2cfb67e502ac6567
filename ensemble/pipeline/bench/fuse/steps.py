"""What every strategy adds to reading, beside `mean`."""

from pathlib import Path
from typing import Any

from ensemble.fusion import Block, Fusion, Learned
from ensemble.pipeline.bench.fuse.drawn import CLASSES, Size, drawn_members
from ensemble.pipeline.bench.timing import compared, in_turns
from ensemble.strategies import STRATEGIES
from ensemble.strategy import build_strategy

PICTURES, FIT_PICTURES = 64, 4
VARIANTS = (
    "majority_vote(ties=first_member)",
    "majority_vote(ties=lowest)",
    "mean(calibrate=isotonic)",
    "mean(calibrate=temperature)",
    "mean(calibrate=vector)",
    "per_class_vote(votes=hard)",
    "power_mean(exponent=7)",
    "stacking(neighbours=2)",
    "weighted_mean(per_class=True)",
)


def steps(size: Size, folder: Path) -> dict[str, Any]:
    """Compare the fuse steps: one block, in memory, of what was fitted on a few pictures.

    Args:
        size: how much; 64 pictures at most.
        folder: nothing is written.
    """
    maps = drawn_members(size.members, min(size.pictures, PICTURES))
    # All members are of some use, or what selects them would have little to do.
    truth = maps.mean(axis=0).argmax(axis=1)
    block = Block(maps[:, :FIT_PICTURES], truth[:FIT_PICTURES])
    fusions = {spec: _fitted(spec, block, size.members) for spec in (*STRATEGIES, *VARIANTS)}
    sides = {spec: lambda fusion=fusion: fusion(maps) for spec, fusion in fusions.items()}
    return {"sides": compared(in_turns(sides, size.rounds), "mean"), "pictures": maps.shape[1]}


def _fitted(spec: str, block: Block, members: int) -> Fusion:
    built = build_strategy(
        spec,
        classes=CLASSES,
        ignore=0,
        kinds=("probabilities",) * members,
        floor=2.0**-25,
        seed=0,
    )
    return built.fit([block]) if isinstance(built, Learned) else built
