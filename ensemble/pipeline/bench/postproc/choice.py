"""Which maps are post-processed: those that were named, or the fusion that is chosen on `oof`."""

import math
from collections.abc import Callable

from ensemble.pipeline.folds import OOF
from ensemble.pipeline.postprocessing import is_labelled, read_candidate, read_labels
from ensemble.pipeline.prepare import run_classes
from ensemble.pipeline.scoring import fused
from ensemble.pipeline.sources import Sources, run_experiment
from evaluation.counts import confusion_by_threads
from evaluation.ground.arrays import Labels
from evaluation.ground.errors import BadRun
from evaluation.ground.layout import Run
from evaluation.protocols.masked import masked
from members.data.dataset import DataSet
from members.specialists import Family
from members.store import ProbabilityStore


def scored_highest(sources: Sources, tell: Callable[[str], None]) -> str:
    """Return the fusion whose plain argmax is the highest on `oof`, by `masked`.

    Only label maps that are there and current are looked at, as `ens score` leaves them; where
    none are, it is the first fusion.

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
    truth = DataSet.load(run.data(OOF)).truth()
    scores = {name: _on_oof(sources, name, truth) for name in names}
    known = {name: score for name, score in scores.items() if not math.isnan(score)}
    if not known:
        tell(f"no fusion has been scored on {OOF} (`ens score` does), so the first: {names[0]}")
        return names[0]
    best = max(known, key=lambda name: known[name])
    tell(f"{best}: the highest of {len(known)} fusions on {OOF}, {known[best]:.3f} by plain argmax")
    return best


def open_truth(run: Run, split: str) -> DataSet:
    """Open a split that has truth.

    Raises:
        BadRun: no such split, or one without truth.
    """
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    data = DataSet.load(run.data(split))
    if data.masks is None:
        raise BadRun(f"split {split!r} has no truth to score by; take one with masks")
    return data


def open_maps(
    sources: Sources, source: str, split: str, data: DataSet
) -> ProbabilityStore | Family:
    """Open maps of the pictures of a split.

    Raises:
        BadRun: no such maps, or maps of other pictures.
    """
    maps = sources.open(source, split)
    if maps.ids != data.ids:
        raise BadRun(f"{source!r} has maps of other pictures than {split}; make them again")
    return maps


def _on_oof(sources: Sources, fusion: str, truth: Labels) -> float:
    """Score the label maps that are the fusion's plain argmax; NaN where none are there."""
    run, classes = sources.run, run_classes(sources.run)
    for name in run.candidates():
        is_plain = read_candidate(run, name) == (fusion, "")
        if is_plain and is_labelled(sources, fusion, "", name, OOF):
            labels = read_labels(run, name, OOF)
            counts = confusion_by_threads(truth, labels, classes=len(classes))
            return float(masked()(counts.sum(axis=0), classes.ignore).miou)
    return math.nan
