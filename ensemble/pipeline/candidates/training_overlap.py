"""Scores on images that a model behind them was trained on decide nothing: they are too high."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from ensemble.pipeline.candidates.postprocess import read_candidate
from ensemble.pipeline.run.open_run import OOF, RunMembers
from evaluation.core.errors import LeakageError
from evaluation.leaderboard import Candidate


def describe_overlap(sources: RunMembers, source: str, split: str) -> str:
    """Say how many images of a split the models behind a source's maps were trained on.

    Empty where there are none; undeclared maps are let pass, as by `refuse_leak`.
    """
    if sources.identity(source, split) is None:
        return ""
    saw = sources.open(source, split).saw()
    if saw is None or not saw.any():
        return ""
    return f"its members were trained on {int(saw.sum())} of the {len(saw)} images of {split}"


def check_unseen(sources: RunMembers, source: str, split: str, *, candidate: str) -> None:
    """Refuse to examine a candidate on images that its members were trained on.

    Args:
        sources: of the run.
        source: what the candidate is made of.
        split: the split that is examined.
        candidate: what was asked for.

    Raises:
        Leak: its members were trained on some of them.
    """
    if words := describe_overlap(sources, source, split):
        raise LeakageError(
            f"{candidate!r} is not examined on {split}, {words}; import maps of images they did"
            " not see, or take another --split"
        )


def without_trained_on(
    sources: RunMembers,
    candidates: Sequence[Candidate],
    split: str,
    log: Callable[[str], None],
) -> list[Candidate]:
    """Return of the candidates what was counted on images that their members did not see.

    Args:
        sources: of the run.
        candidates: with their counts.
        split: the split that is examined.
        log: receives a line for each that is left out, or loses its counts on `oof`.

    Raises:
        Leak: all of them are left out.
    """

    @cache
    def seen(source: str, where: str) -> str:
        return describe_overlap(sources, source, where)

    kept = []
    for candidate in candidates:
        source, _ = read_candidate(sources.run, candidate.name)
        if words := seen(source, split):
            log(f"{candidate.name}: left out, {words}")
        elif candidate.oof is not None and (words := seen(source, OOF)):
            log(f"{candidate.name}: no oof score, {words}")
            kept.append(replace(candidate, oof=None))
        else:
            kept.append(candidate)
    if candidates and not kept:
        raise LeakageError(
            f"every candidate's members were trained on images of {split}; train or import"
            " members that did not see them, or take another --split"
        )
    return kept
