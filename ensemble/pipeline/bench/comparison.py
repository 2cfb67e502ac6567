"""Chains on the same maps: score, speed, memory, and what each step does to the pixels.

Which maps are post-processed: those that were named, or the fusion that is chosen on `oof`.

Scores of chains under two protocols, each gain with its paired interval.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.bench.chain_costs import TIMED_BLOCKS, costs
from ensemble.pipeline.bench.chains import (
    Compared,
    Log,
    fit_all,
    parse_all,
    read_chains,
    usual,
)
from ensemble.pipeline.bench.labelling import label_all, ledger_document
from ensemble.pipeline.bench.timing import machine
from ensemble.pipeline.candidates.chains import FittedChain
from ensemble.pipeline.candidates.postprocess import is_labelled, read_candidate, read_labels
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import OOF, RunMembers, run_experiment
from ensemble.pipeline.scoring.score import fused
from evaluation.confusion import parallel_confusion
from evaluation.core.errors import BadRun
from evaluation.core.run_folder import Run
from evaluation.core.types import Counts, Labels
from evaluation.leaderboard import Candidate, Leaderboard, compare
from evaluation.leaderboard_text import interval_document
from evaluation.protocols import masked
from evaluation.scores import ScoredImages, number
from members.data.dataset import DataSet
from members.specialists import OneVsRestMember
from members.store import ProbabilityStore
from postproc.chain import FLOAT16_FLOOR, Chain, StepContext


def scored_highest(sources: RunMembers, log: Callable[[str], None]) -> str:
    """Return the fusion whose plain argmax is the highest on `oof`, by `masked`.

    Only label maps that are there and current are looked at, as `ens score` leaves them; where
    none are, it is the first fusion.

    Args:
        sources: of the run.
        log: receives a line that says which, and why.

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
    target = DataSet.load(run.data(OOF)).target()
    scores = {name: _on_oof(sources, name, target) for name in names}
    known = {name: score for name, score in scores.items() if not math.isnan(score)}
    if not known:
        log(f"no fusion has been scored on {OOF} (`ens score` does), so the first: {names[0]}")
        return names[0]
    best = max(known, key=lambda name: known[name])
    log(f"{best}: the highest of {len(known)} fusions on {OOF}, {known[best]:.3f} by plain argmax")
    return best


def open_target(run: Run, split: str) -> DataSet:
    """Open a split that has target.

    Raises:
        BadRun: no such split, or one without target.
    """
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    data = DataSet.load(run.data(split))
    if data.masks is None:
        raise BadRun(f"split {split!r} has no target to score by; take one with masks")
    return data


def open_maps(
    sources: RunMembers, source: str, split: str, data: DataSet
) -> ProbabilityStore | OneVsRestMember:
    """Open maps of the images of a split.

    Raises:
        BadRun: no such maps, or maps of other images.
    """
    maps = sources.open(source, split)
    if maps.ids != data.ids:
        raise BadRun(f"{source!r} has maps of other images than {split}; make them again")
    return maps


def _on_oof(sources: RunMembers, fusion: str, target: Labels) -> float:
    """Score the label maps that are the fusion's plain argmax; NaN where none are there."""
    run, classes = sources.run, run_classes(sources.run)
    for name in run.candidates():
        is_plain = read_candidate(run, name) == (fusion, "")
        if is_plain and is_labelled(sources, fusion, "", name, OOF):
            labels = read_labels(run, name, OOF)
            counts = parallel_confusion(target, labels, classes=len(classes))
            return float(masked()(counts.sum(axis=0), classes.ignore).miou)
    return math.nan


JUDGES = ("masked", "keras")
"""The score, and the one that a suppressed background raises without a pixel's being right."""


def boards_of(
    counts: Mapping[str, Counts], data: DataSet, split: str, *, seed: int
) -> dict[str, Leaderboard]:
    """Compare candidates with the first of them, under each protocol.

    Args:
        counts: per image, by name; all gains are over the first.
        data: the images.
        split: their name.
        seed: of what the comparison draws.

    Returns:
        A leaderboard a protocol, by name.
    """
    groups = data.group_names()
    first, *_ = counts
    candidates = [
        Candidate(name, ScoredImages(table, data.ids, groups), is_member=name == first)
        for name, table in counts.items()
    ]
    return {
        protocol: compare(
            candidates,
            data.classes,
            rng=np.random.default_rng(seed),
            split=split,
            protocol=protocol,
        )
        for protocol in JUDGES
    }


def scores_document(boards: Mapping[str, Leaderboard], name: str) -> dict[str, Any]:
    """Give a candidate's score, gain and interval under each protocol as a JSON document."""
    return {protocol: _row(board, name) for protocol, board in boards.items()}


def _row(board: Leaderboard, name: str) -> dict[str, Any]:
    row = next(row for row in board.rows if row.name == name)
    return {
        "miou": number(row.examined),
        "gain": number(row.gain),
        "interval": interval_document(row.gain_interval),
        "iou": dict(row.iou),
    }


PLAIN = ""
"""The name of no post-processing, which no chain of a file can have."""


@dataclass(frozen=True)
class Asked:
    """What is compared.

    Args:
        fusion: or member; by default the fusion that is the highest on `oof`.
        chains: a file of them; by default a usual set.
        split: the images that are examined.
        rounds: how often each chain is timed.
    """

    fusion: str | None
    chains: Path | None
    split: str
    rounds: int


def bench_postproc(run: Run, asked: Asked, log: Log) -> dict[str, Any]:
    """Compare chains with no post-processing on the same maps; nothing is written into the run.

    Args:
        run: the experiment folder.
        asked: which maps, which chains.
        log: receives a line for each part.

    Returns:
        A JSON document: the machine and what was compared; `plain`, the argmax alone, and
        `chains`: of each the score under both protocols with its gain over plain and the paired
        interval, images a second of processor time, peak memory, and the ledger, a row a step.

    Raises:
        BadSpec: a chain that does not parse.
        BadRun: no such maps or split, or a chain that learns and no out-of-fold maps.
        Leak: a chain would learn from images that the source was trained on.
    """
    sources, data = RunMembers.of(run), open_target(run, asked.split)
    classes, named = data.classes, None if asked.chains is None else read_chains(asked.chains)
    around = StepContext(len(classes), classes.ignore, FLOAT16_FLOOR)
    # Before anything is told; a second time with the floor of the maps, once they are chosen.
    parse_all(named or {}, around, str(asked.chains))
    source = asked.fusion or scored_highest(sources, log)
    maps = open_maps(sources, source, asked.split, data)
    around = replace(around, floor=maps.floor)
    if named is None:
        chains = usual(sources, source, around, log)
    else:
        chains = parse_all(named, around, str(asked.chains))
    log(f"{source}: {len(chains)} chains over {len(data)} images of {asked.split}")
    plain = Chain((), (), around)
    compared = [
        Compared(PLAIN, plain, FittedChain(plain)),
        *fit_all(sources, source, chains, log),
    ]
    labelled = label_all(compared, maps, data, asked.split)
    log("chains are scored")
    counts = {one.name: done.counts for one, done in zip(compared, labelled, strict=True)}
    boards = boards_of(counts, data, asked.split, seed=run_experiment(run).seed)
    spent = costs({one.name: one.fitted.chain for one in compared}, maps, data, asked.rounds)
    rows = [
        {
            **_about(one),
            "protocols": scores_document(boards, one.name),
            **spent[one.name],
            "ledger": ledger_document(one.asked, done, data.classes),
        }
        for one, done in zip(compared, labelled, strict=True)
    ]
    return {
        "machine": machine(),
        "run": str(run.path),
        "source": source,
        "split": asked.split,
        "images": len(data),
        "groups": boards["masked"].groups,
        "level": boards["masked"].level,
        "interval_level": boards["masked"].gain_level,
        "cores": 1,
        "rounds": asked.rounds,
        "timed_blocks": TIMED_BLOCKS,
        "plain": rows[0],
        "chains": rows[1:],
    }


def _about(one: Compared) -> dict[str, Any]:
    fitted = str(one.fitted.chain) if one.asked.learns else None
    return {"name": one.name, "chain": str(one.asked), "fitted": fitted}
