"""Rank scored candidates: which may be the best, gaps to the first, and inference costs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble.pipeline.analysis.inference_cost import CostMeter
from ensemble.pipeline.candidates.postprocess import read_candidate
from ensemble.pipeline.candidates.staleness import Artifact, Staleness, scores_record
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from ensemble.pipeline.scoring.score import deciding_protocol, fusion_names, without_trained_on
from evaluation.core.errors import BadRun
from evaluation.core.files import atomic_file
from evaluation.core.progress import Log
from evaluation.core.run_folder import OOF, Run
from evaluation.leaderboard import Candidate, Leaderboard, compare
from evaluation.margins import check_margin
from evaluation.scores import read_scores


def compare_run(
    run: Run,
    *,
    split: str,
    protocol: str | None = None,
    csv: Path | None = None,
    margin: float | None = None,
    to: str | None = None,
    log: Log,
) -> Leaderboard:
    """Compare the candidates that `ens score` has scored; nothing is made or scored here.

    Costs that are not known yet are measured and kept in the run.

    Args:
        run: the experiment folder.
        split: the split to evaluate on.
        protocol: spec of the protocol that decides; by default the run's metric.
        csv: where to write the leaderboard as a table, too.
        margin: difference in score that does not matter; see `evaluation.leaderboard.compare`.
        to: the candidate that others are compared with by the margin.
        log: receives a line per measurement, and per candidate that is left out.

    Raises:
        BadRun: no such split, or nothing scored on it.
        BadSpec: no such protocol.
        BadData: the split lacks what the protocol measures, or has no two groups for a margin; a
            margin not above 0, or no such candidate.
        LeakageError: the members of all that is scored were trained on the images.
    """
    run_members, experiment = RunMembers.of(run), run_experiment(run)
    run_members.check_split(split)
    protocol = deciding_protocol(run, protocol, split, log)
    scored = _open_candidates(run_members, experiment, split, log)
    if margin is not None:  # before costs are measured
        names = [candidate.name for candidate in scored]
        check_margin(margin, to, names, len(np.unique(scored[0].examined.groups)))
    board = compare(
        _with_costs(scored, CostMeter(run_members, experiment, split, log)),
        run_classes(run),
        rng=np.random.default_rng(experiment.seed),
        split=split,
        protocol=protocol,
        margin=margin,
        to=to,
    )
    if csv is not None:
        with atomic_file(csv) as partial:
            board.to_frame().to_csv(partial)
    return board


def _open_candidates(
    run_members: RunMembers, experiment: Experiment, split: str, log: Log
) -> list[Candidate]:
    """Open all current scores of candidates that were not trained on the split's images."""
    path = run_members.run.path
    sources = _scored_candidates(run_members, experiment, split, log)
    if not sources:
        raise BadRun(
            f"no candidate of {path} has current scores on {split!r}; run"
            f" `ens score --run {path} --split {split}`"
        )
    scored = [_read_candidate_scores(run_members, name, split) for name in sources]
    scored = without_trained_on(run_members, scored, sources, split, log)
    results = [Artifact("scores", candidate.name, split) for candidate in scored]
    Staleness(run_members, experiment).warn(results, log)
    return scored


def _with_costs(scored: Sequence[Candidate], meter: CostMeter) -> list[Candidate]:
    costs = [meter.measure(candidate.name) for candidate in scored]
    return [
        replace(candidate, members=cost.members, milliseconds=cost.milliseconds)
        for candidate, cost in zip(scored, costs, strict=True)
    ]


def _scored_candidates(
    run_members: RunMembers, experiment: Experiment, split: str, log: Log
) -> dict[str, str]:
    """Return the source of each candidate whose scores would come out the same today."""
    run = run_members.run
    known = [*run_members.names(), *fusion_names(run, experiment)]
    sources = {
        name: source
        for name in run.candidates()
        if (run.scores(name) / f"{split}.npz").is_file()
        and (source := read_candidate(run, name)[0]) in known
    }
    stale = [name for name in sources if not scores_record(run, name, split).is_current()]
    if stale and len(stale) < len(sources):
        log(f"left out, scored before something changed: {', '.join(stale)}; run `ens score`")
    return {name: source for name, source in sources.items() if name not in stale}


def _read_candidate_scores(run_members: RunMembers, name: str, split: str) -> Candidate:
    run = run_members.run
    source, chain = read_candidate(run, name)
    counts = read_scores(run.scores(name), split)[1]
    oof = counts if split == OOF else None
    if split != OOF and scores_record(run, name, OOF).is_current():
        oof = read_scores(run.scores(name), OOF)[1]
    return Candidate(name, counts, oof, is_member=source in run_members.names() and not chain)
