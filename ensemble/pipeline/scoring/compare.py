"""Rank what is scored: who is first, who cannot be told from the first, at what cost."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble.pipeline.analysis.inference_cost import Meter
from ensemble.pipeline.candidates.postprocess import read_candidate
from ensemble.pipeline.candidates.staleness import Artifact, Staleness
from ensemble.pipeline.candidates.training_overlap import without_trained_on
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import OOF, RunMembers, run_experiment
from ensemble.pipeline.scoring.score import fused
from ensemble.pipeline.scoring.score_inputs import is_scored
from evaluation.core.errors import BadRun
from evaluation.core.files import atomic_file
from evaluation.core.run_folder import Run
from evaluation.leaderboard import Candidate, Leaderboard, compare
from evaluation.leaderboard_text import leaderboard_frame
from evaluation.protocols import PROTOCOLS
from evaluation.scores import ScoredImages, read_scores

Log = Callable[[str], None]


def compare_run(
    run: Run, *, split: str, protocol: str, csv: Path | None = None, log: Log
) -> Leaderboard:
    """Compare the candidates that `ens score` has scored; nothing is made or scored here.

    Costs that are not known yet are measured and kept in the run.

    Args:
        run: the experiment folder.
        split: the split that is examined.
        protocol: name of the protocol that decides.
        csv: where to write the board as a table, too.
        log: receives a line for whatever was measured or left out.

    Raises:
        BadRun: no such split, or nothing scored on it.
        BadSpec: no such protocol.
        Leak: the members of all that is scored were trained on the images.
    """
    PROTOCOLS.check(protocol)
    sources, experiment = RunMembers.of(run), run_experiment(run)
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    names = _scored(sources, experiment, split, log)
    if not names:
        raise BadRun(
            f"no candidate of {run.path} is scored on {split!r} as it is today; run"
            f" `ens score --run {run.path} --split {split}`"
        )
    read = without_trained_on(
        sources, [_candidate(sources, name, split) for name in names], split, log
    )
    fresh = Staleness(sources, experiment)
    fresh.warn([Artifact("scores", candidate.name, split) for candidate in read], log)
    meter = Meter(sources, experiment, split, log)
    candidates = [_priced(candidate, meter) for candidate in read]
    rng = np.random.default_rng(experiment.seed)
    board = compare(candidates, run_classes(run), rng=rng, split=split, protocol=protocol)
    if csv is not None:
        with atomic_file(csv) as partial:
            leaderboard_frame(board).to_csv(partial)
    return board


def _scored(sources: RunMembers, experiment: Experiment, split: str, log: Log) -> list[str]:
    """List the candidates with scores that would come out the same today."""
    run = sources.run
    known = [*sources.names(), *fused(run, experiment)]
    there = [
        name
        for name in run.candidates()
        if (run.scores(name) / f"{split}.npz").is_file() and read_candidate(run, name)[0] in known
    ]
    names = [name for name in there if is_scored(run, name, split)]
    stale = [name for name in there if name not in names]
    if stale and names:
        log(f"left out, scored before something changed: {', '.join(stale)}; run `ens score`")
    return names


def _candidate(sources: RunMembers, name: str, split: str) -> Candidate:
    run = sources.run
    source, chain = read_candidate(run, name)
    examined = read_scores(run.scores(name), split)[1]
    oof = _oof(run, name) if split != OOF else examined
    return Candidate(name, examined, oof, is_member=source in sources.names() and not chain)


def _priced(candidate: Candidate, meter: Meter) -> Candidate:
    price = meter.price(candidate.name)
    return replace(candidate, members=price.members, milliseconds=price.milliseconds)


def _oof(run: Run, name: str) -> ScoredImages | None:
    return read_scores(run.scores(name), OOF)[1] if is_scored(run, name, OOF) else None
