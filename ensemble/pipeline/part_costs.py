"""How long a fusion and a chain take for a picture, on maps of the run and one core."""

import time
from collections.abc import Callable

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.fitted import load_fitted
from ensemble.fuse import stacked
from ensemble.fusion import Fusion, fuse_block
from ensemble.pipeline.fusing import FITTED, Plan
from ensemble.pipeline.member_costs import one_thread
from ensemble.pipeline.postprocessing import applied_chain, read_candidate
from ensemble.pipeline.sources import Sources
from ensemble.strategies import SEES_SPECIALISTS
from ensemble.strategies.weighted_mean import WeightedMean
from evaluation.ground.specs import parse_spec
from members.data.dataset import DataSet

PICTURES, PASSES = 16, 3


def fusion_milliseconds(sources: Sources, plan: Plan, split: str) -> float:
    """Time a fitted fusion.

    Args:
        sources: of the run.
        plan: of the fusion.
        split: whose maps are taken.

    Raises:
        BadRun: the fusion or maps are missing.
    """
    raw = parse_spec(plan.strategy).name in SEES_SPECIALISTS
    fusion = load_fitted(sources.run.fusion(plan.name) / FITTED).fusion
    pictures = _pictures(sources, split)
    readers = [sources.open(member, split, raw=raw) for member in plan.members]
    maps = stacked(readers, slice(0, len(pictures)))
    return _milliseconds(lambda: fuse_block(fusion, maps, pictures), len(pictures))


def chain_milliseconds(sources: Sources, candidate: str, split: str) -> float:
    """Time a candidate's chain, as it was fitted; the plain argmax is one too.

    Args:
        sources: of the run.
        candidate: its name.
        split: whose maps are taken.

    Raises:
        BadRun: no such candidate, or its maps are missing.
    """
    source, _ = read_candidate(sources.run, candidate)
    reader = sources.open(source, split)
    steps = applied_chain(sources.run, candidate, floor=reader.floor)
    pictures = _pictures(sources, split)
    maps = reader.read(slice(0, len(pictures)))
    return _milliseconds(lambda: steps(maps, pictures), len(pictures))


def used_members(sources: Sources, plan: Plan) -> tuple[str, ...]:
    """Return the members of a fusion but those that it gives no weight at all.

    Args:
        sources: of the run.
        plan: of the fusion.

    Raises:
        BadRun: the fusion is missing.
    """
    fusion: Fusion = load_fitted(sources.run.fusion(plan.name) / FITTED).fusion
    if not isinstance(fusion, WeightedMean):
        return plan.members
    weighs = np.asarray(fusion.weights.reshape(len(plan.members), -1).any(axis=1))
    return tuple(name for name, has in zip(plan.members, weighs, strict=True) if has)


def _pictures(sources: Sources, split: str) -> np.ndarray:
    return np.array(DataSet.load(sources.run.data(split)).pictures[:PICTURES])


def _milliseconds(work: Callable[[], object], pictures: int) -> float:
    """Return the fastest of some passes: what others do on the machine only ever adds."""
    with one_thread(), one_blas_thread():
        work()
        seconds = []
        for _ in range(PASSES):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds) / pictures
