"""Which maps are post-processed: those that were named, or the fusion that is chosen on `oof`."""

import math
from collections.abc import Callable

from ensemble.pipeline.folds import OOF
from ensemble.pipeline.postprocessing import read_candidate
from ensemble.pipeline.scoring import fused, is_scored
from ensemble.pipeline.sources import Sources, run_experiment
from evaluation.ground.errors import BadRun
from evaluation.scores import read_scores
from members.data.dataset import DataSet
from members.specialists import Family
from members.store import ProbabilityStore

PROTOCOL = "masked"


def scored_highest(sources: Sources, tell: Callable[[str], None]) -> str:
    """Return the fusion whose plain argmax is the highest on `oof`, the first where none is scored.

    Scores that are there and current are looked at; nothing is scored here.

    Args:
        sources: of the run.
        tell: gets a line that says which, and why.

    Raises:
        BadRun: no fusion at all.
    """
    run = sources.run
    names = fused(run, run_experiment(run))
    if not names:
        raise BadRun(
            f"{run.path} holds no fusion; make one: `ens fuse --run {run.path} --strategy mean`,"
            " or name a member by --fusion"
        )
    scores = {name: _on_oof(sources, name) for name in names}
    known = {name: score for name, score in scores.items() if not math.isnan(score)}
    if not known:
        tell(f"no fusion is scored on {OOF} (`ens score` does), so the first: {names[0]}")
        return names[0]
    best = max(known, key=lambda name: known[name])
    tell(f"{best}: the highest of {len(known)} scored fusions on {OOF}, {known[best]:.3f}")
    return best


def open_split(
    sources: Sources, source: str, split: str
) -> tuple[ProbabilityStore | Family, DataSet]:
    """Open maps of a split, with its pictures and truth.

    Raises:
        BadRun: no such split, no truth, no such maps, or maps of other pictures.
    """
    run = sources.run
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    maps, data = sources.open(source, split), DataSet.load(run.data(split))
    if data.masks is None:
        raise BadRun(f"split {split!r} has no truth to score by; take one with masks")
    if maps.ids != data.ids:
        raise BadRun(f"{source!r} has maps of other pictures than {split}; make them again")
    return maps, data


def _on_oof(sources: Sources, fusion: str) -> float:
    """Return the score of the candidates that are the fusion's argmax; NaN where none is known."""
    run = sources.run
    for name in run.candidates():
        if read_candidate(run, name) == (fusion, "") and is_scored(run, name, OOF):
            document, _ = read_scores(run.scores(name), OOF)
            return float(document["protocols"][PROTOCOL]["miou"])
    return math.nan
