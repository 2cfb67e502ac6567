"""Score the candidates of a run, and compare them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ensemble.pipeline.candidates.fuse import resolve_fusion, update_fusion
from ensemble.pipeline.candidates.postprocess import read_candidate, read_labels, update_candidate
from ensemble.pipeline.candidates.staleness import Artifact, Staleness
from ensemble.pipeline.candidates.training_overlap import (
    check_unseen,
    describe_overlap,
    without_trained_on,
)
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import OOF, RunMembers, run_experiment
from ensemble.pipeline.scoring.score_inputs import (
    LEADERBOARD,
    is_scored,
    scored_from,
    scores_of,
)
from evaluation.confusion import parallel_confusion
from evaluation.core.errors import BadRun
from evaluation.core.files import atomic_file
from evaluation.core.provenance import digests, identity, invalidate, record
from evaluation.core.run_folder import Run, run_lock
from evaluation.leaderboard import Candidate, Leaderboard, compare
from evaluation.leaderboard_text import leaderboard_frame
from evaluation.protocols import PROTOCOLS
from evaluation.scores import (
    ScoredImages,
    read_scores,
    score,
    write_scores,
)
from members.data.dataset import DataSet

Log = Callable[[str], None]


def score_run(
    run: Run,
    candidates: Sequence[str] = (),
    *,
    split: str,
    protocol: str,
    log: Log,
) -> Leaderboard:
    """Score candidates on `oof` and on the examined split, and compare them.

    Without names, every member and fusion is a candidate by plain argmax, beside what
    `postprocess` made. What is missing or stale is made again first. One whose members were trained
    on images of the split is left out, on images of `oof`, cannot be chosen. The comparison is
    written to `scores/leaderboard.csv` too.

    Args:
        run: the experiment folder.
        candidates: names; by default all.
        split: the split that is examined.
        protocol: name of the protocol that decides.
        log: receives a line for whatever was done.

    Raises:
        BadRun: no such candidate or split, or a split without target.
        Leak: the members of a candidate that was named, or of all, were trained on the images.
    """
    PROTOCOLS.build(protocol)
    with run_lock(run.path):
        sources = RunMembers.of(run)
        _check_split(run, split)
        for name in candidates:
            _made_from(sources, name)
        experiment = run_experiment(run)
        for fusion in fused(run, experiment):
            update_fusion(sources, resolve_fusion(experiment, sources, fusion), log)
        for name in candidates:
            check_unseen(sources, _made_from(sources, name)[0], split, candidate=name)
        names = _refreshed(sources, candidates or _all(sources, experiment, log), log)
        scored = [c for name in names if (c := _scored(sources, name, split, log)) is not None]
        if not scored:
            raise BadRun(
                f"no candidate of {run.path} has maps of {split!r}; train or predict first"
            )
        scored = without_trained_on(sources, scored, split, log)
        results = [Artifact("scores", candidate.name, split) for candidate in scored]
        Staleness(RunMembers.of(run), experiment).warn(results, log)
        rng = np.random.default_rng(experiment.seed)
        board = compare(scored, run_classes(run), rng=rng, split=split, protocol=protocol)
        with atomic_file(run.path / "scores" / f"{LEADERBOARD}.csv") as partial:
            leaderboard_frame(board).to_csv(partial)
        ranked: dict[str, Any] = {
            "split": split,
            "protocol": protocol,
            "candidates": [c.name for c in scored],
        }
        inputs = scores_of(run, ranked["candidates"], split)
        record(run.path / "scores", asked=ranked, inputs=inputs, part=LEADERBOARD)
        return board


def counts_of(run: Run, names: Sequence[str], *, split: str, log: Log) -> list[ScoredImages]:
    """Return candidates' counts on a split; what is missing or stale is made again first.

    Args:
        run: the experiment folder.
        names: of candidates; a member's or fusion's own name means its argmax.
        split: the images they are scored on.
        log: receives a line for whatever was done.

    Raises:
        BadRun: no such candidate or split, a split without target, or no maps of it.
    """
    with run_lock(run.path):
        sources = RunMembers.of(run)
        _check_split(run, split)
        found = []
        for name in names:
            counts = _counts(sources, _candidate(sources, name, log), split, log)
            if counts is None:
                raise BadRun(f"{name!r} has no maps of {split}; `ens predict` makes them")
            if words := describe_overlap(sources, _made_from(sources, name)[0], split):
                log(f"{name}: warning: {words}")
            found.append(counts)
        return found


def _check_split(run: Run, split: str) -> None:
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    if DataSet.load(run.data(split)).masks is None:
        raise BadRun(f"split {split!r} has no target to score by; `ens submit` writes its labels")


def fused(run: Run, experiment: Experiment) -> list[str]:
    """List the fusions that the experiment names and the run holds."""
    return [name for name in experiment.fusions if name in run.fusions()]


def _all(sources: RunMembers, experiment: Experiment, log: Log) -> list[str]:
    """List every member and fusion by itself, and every candidate that was made of one."""
    known = [*sources.names(), *fused(sources.run, experiment)]
    names = [source for source in known if sources.splits(source)]
    for name in sources.run.candidates():
        if read_candidate(sources.run, name)[0] in known:
            names.append(name)
        else:
            log(f"{name}: left out, the experiment no longer names what it was made of")
    return names


def _refreshed(sources: RunMembers, wanted: Sequence[str], log: Log) -> list[str]:
    """Bring label maps up to date and return the candidates' names, each once."""
    return list(dict.fromkeys(_candidate(sources, name, log) for name in wanted))


def _candidate(sources: RunMembers, name: str, log: Log) -> str:
    """Make a candidate again by what it is made of; a bare member or fusion means its argmax."""
    source, chain, known = _made_from(sources, name)
    return update_candidate(sources, source, chain, name=known, log=log)


def _made_from(sources: RunMembers, name: str) -> tuple[str, str, str | None]:
    """Return a candidate's source, its chain and its name, None where the two make the name."""
    if name in [*sources.names(), *sources.run.fusions()] and name not in sources.run.candidates():
        return name, "", None
    return *read_candidate(sources.run, name), name


def _scored(sources: RunMembers, name: str, split: str, log: Log) -> Candidate | None:
    source, chain = read_candidate(sources.run, name)
    examined = _counts(sources, name, split, log)
    if examined is None:
        log(f"{name}: left out, {source!r} has no maps of {split}")
        return None
    oof = _counts(sources, name, OOF, log) if split != OOF else examined
    is_member = source in sources.names() and not chain
    return Candidate(name, examined, oof, is_member)


def _counts(sources: RunMembers, name: str, split: str, log: Log) -> ScoredImages | None:
    """Return a candidate's counts, from its score files where they are current."""
    run = sources.run
    if identity(run.labels(name, split)) is None:
        return None
    if not is_scored(run, name, split):
        folder = run.scores(name)
        invalidate(folder, split)
        _score_split(run, name, split)
        asked, inputs = scored_from(run, name, split)
        written = digests(folder, (f"{split}.npz", f"{split}.json"))
        record(folder, asked=asked, inputs=inputs, outputs=written, part=split)
        log(f"{name}: {split} scored")
    document, counts = read_scores(run.scores(name), split)
    if "warning" in document:
        log(f"{name}: warning: {split}: {document['warning']}")
    return counts


def _score_split(run: Run, name: str, split: str) -> None:
    classes, data = run_classes(run), DataSet.load(run.data(split))
    labels = read_labels(run, name, split)
    counts = parallel_confusion(data.target(), labels, classes=len(classes))
    groups = data.group_names()
    document = score(counts, sorted(PROTOCOLS), classes)
    write_scores(run.scores(name), split, counts, document, data.ids, groups)
