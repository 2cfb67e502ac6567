"""Score the candidates of a run, and compare them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from ensemble.pipeline.candidates.fuse import resolve_fusion, update_fusion
from ensemble.pipeline.candidates.postprocess import read_candidate, read_labels, update_candidate
from ensemble.pipeline.candidates.staleness import (
    Artifact,
    Staleness,
    score_digests,
    scores_record,
)
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.expected_record import ExpectedRecord
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import (
    RunMembers,
    check_metric_defined,
    check_no_leakage,
    num_trained_on,
    run_experiment,
    run_metric,
)
from evaluation.confusion import parallel_confusion
from evaluation.core.errors import BadRun, LeakageError, format_count
from evaluation.core.files import atomic_file
from evaluation.core.progress import Log
from evaluation.core.provenance import digests, identity
from evaluation.core.run_folder import OOF, Run, run_lock
from evaluation.leaderboard import Candidate, Leaderboard, compare
from evaluation.protocols import PROTOCOLS
from evaluation.run_metric import metric_note, named_metric
from evaluation.scores import (
    ScoredImages,
    by_group,
    read_scores,
    score,
    write_scores,
)
from members.data.dataset import DataSet

LEADERBOARD = "leaderboard"


def score_run(
    run: Run,
    candidates: Sequence[str] = (),
    *,
    split: str,
    protocol: str | None = None,
    per_group: bool = False,
    log: Log,
) -> Leaderboard:
    """Score candidates on `oof` and on a split, and compare them.

    Without names, every member and fusion is a candidate by plain argmax, and so is what
    `postprocess` made. What is missing or stale is made again first. One whose members were trained
    on images of the split is left out; on images of `oof`, it cannot be chosen. The comparison is
    written to `scores/leaderboard.csv` too.

    Args:
        run: the experiment folder.
        candidates: names; by default all.
        split: the split to evaluate on.
        protocol: spec of the protocol that decides; by default the run's metric.
        per_group: score each group (case, drive) as one image, which protocols that average over
            images tell apart.
        log: receives a line per result.

    Raises:
        BadRun: no such candidate or split, or a split without target.
        BadData: the split lacks what the protocol measures.
        LeakageError: the members of a named candidate, or of all, were trained on the images.
    """
    with run_lock(run.path):
        run_members = RunMembers.of(run)
        _check_scorable(run_members, split)
        protocol = deciding_protocol(run, protocol, split, log)
        requested = {name: _made_from(run_members, name)[0] for name in candidates}
        experiment = run_experiment(run)
        for fusion in fusion_names(run, experiment):
            update_fusion(run_members, resolve_fusion(experiment, run_members, fusion), log)
        for name, source in requested.items():
            if split in run_members.splits(source):
                maps = run_members.open(source, split)
                hint = "or take another --split"
                check_no_leakage(f"the score of {name!r} on {split}", source, maps, hint=hint)
        names = candidates or _all_candidates(run_members, experiment, log)
        updated = dict.fromkeys(_update_candidate(run_members, name, log) for name in names)
        scored = [c for n in updated if (c := _score_candidate(run_members, n, split, log))]
        if not scored:
            raise BadRun(
                f"no candidate of {run.path} has maps of {split!r}; train or predict first"
            )
        sources = {name: read_candidate(run, name)[0] for name in updated}
        scored = without_trained_on(run_members, scored, sources, split, log)
        results = [Artifact("scores", candidate.name, split) for candidate in scored]
        Staleness(RunMembers.of(run), experiment).warn(results, log)
        if per_group:
            groups = len(np.unique(scored[0].examined.groups))
            log(f"each of {format_count(groups, 'group')} is scored as one image")
            scored = [
                replace(c, examined=by_group(c.examined), oof=c.oof and by_group(c.oof))
                for c in scored
            ]
        rng = np.random.default_rng(experiment.seed)
        board = compare(scored, run_classes(run), rng=rng, split=split, protocol=protocol)
        with atomic_file(run.path / "scores" / f"{LEADERBOARD}.csv") as partial:
            board.to_frame().to_csv(partial)
        config = {"split": split, "protocol": protocol, "candidates": [c.name for c in scored]}
        if per_group:
            config["per"] = "group"
        leaderboard_record(run, config).write()
        return board


def deciding_protocol(run: Run, protocol: str | None, split: str, log: Log) -> str:
    """Return the protocol that is asked for, or the run's metric, which is logged if not `masked`.

    Raises:
        BadSpec: an unknown protocol or class.
        BadData: the split lacks what it measures.
    """
    classes = run_classes(run)
    metric = run_metric(run) if protocol is None else named_metric(protocol, classes)
    check_metric_defined(run, metric, split)
    note = metric_note(metric, classes)
    if protocol is None and note is not None:
        log(note)
    return metric


def _describe_overlap(run_members: RunMembers, source: str, split: str) -> str:
    """Say how many images of a split the models behind a source's maps were trained on.

    Empty where there are none, or where the maps are missing or undeclared.
    """
    if run_members.digest(source, split) is None:
        return ""
    maps = run_members.open(source, split)
    count = num_trained_on(maps)
    if not count:
        return ""
    return f"its members were trained on {count} of the {len(maps)} images of {split}"


def without_trained_on(
    run_members: RunMembers,
    candidates: Sequence[Candidate],
    sources: Mapping[str, str],
    split: str,
    log: Log,
) -> list[Candidate]:
    """Return the candidates without scores on images that their members were trained on.

    Args:
        run_members: of the run.
        candidates: with their counts.
        sources: the member or fusion that each candidate is made of.
        split: the split to evaluate on.
        log: receives a line per candidate that is left out, or loses its counts on `oof`.

    Raises:
        LeakageError: all of them are left out.
    """

    @cache
    def overlap(source: str, part: str) -> str:
        return _describe_overlap(run_members, source, part)

    kept = []
    for candidate in candidates:
        source = sources[candidate.name]
        if message := overlap(source, split):
            log(f"{candidate.name}: left out, {message}")
        elif candidate.oof is not None and (message := overlap(source, OOF)):
            log(f"{candidate.name}: no oof score, {message}")
            kept.append(replace(candidate, oof=None))
        else:
            kept.append(candidate)
    if candidates and not kept:
        raise LeakageError(
            f"every candidate's members were trained on images of {split}; train or import"
            " members that were not, or take another --split"
        )
    return kept


def leaderboard_record(run: Run, config: dict[str, Any]) -> ExpectedRecord:
    """Return what the record of a leaderboard of a split, protocol and candidates would say."""
    inputs = score_digests(run, config["candidates"], config["split"])
    return ExpectedRecord(run.path / "scores", config, inputs, LEADERBOARD)


def counts_of(run: Run, names: Sequence[str], *, split: str, log: Log) -> list[ScoredImages]:
    """Return candidates' counts on a split; what is missing or stale is made again first.

    The name of a member or fusion means its argmax.

    Raises:
        BadRun: no such candidate or split, a split without target, or no maps of it.
    """
    with run_lock(run.path):
        run_members = RunMembers.of(run)
        _check_scorable(run_members, split)
        results = []
        for name in names:
            counts = _counts(run_members, _update_candidate(run_members, name, log), split, log)
            if counts is None:
                raise BadRun(f"{name!r} has no maps of {split}; run `ens predict`")
            if overlap := _describe_overlap(run_members, _made_from(run_members, name)[0], split):
                log(f"{name}: warning: {overlap}")
            results.append(counts)
        return results


def fusion_names(run: Run, experiment: Experiment) -> list[str]:
    """List the fusions that the experiment names and the run holds."""
    return [name for name in experiment.fusions if name in run.fusions()]


def _check_scorable(run_members: RunMembers, split: str) -> None:
    run_members.check_split(split)
    if DataSet.load(run_members.run.data(split)).masks is None:
        raise BadRun(f"split {split!r} has no target to score by; `ens submit` writes its labels")


def _all_candidates(run_members: RunMembers, experiment: Experiment, log: Log) -> list[str]:
    """List every member and fusion by itself, and every candidate that was made of one."""
    known = [*run_members.names(), *fusion_names(run_members.run, experiment)]
    names = [source for source in known if run_members.splits(source)]
    for name in run_members.run.candidates():
        if read_candidate(run_members.run, name)[0] in known:
            names.append(name)
        else:
            log(f"{name}: left out, the experiment no longer names what it was made of")
    return names


def _update_candidate(run_members: RunMembers, name: str, log: Log) -> str:
    """Bring a candidate's label maps up to date and return its name."""
    source, chain, known = _made_from(run_members, name)
    return update_candidate(run_members, source, chain, name=known, log=log)


def _made_from(run_members: RunMembers, name: str) -> tuple[str, str, str | None]:
    """Return a candidate's source, chain and name; a bare member or fusion means its argmax.

    The name is None where it follows from source and chain.
    """
    run = run_members.run
    if name in [*run_members.names(), *run.fusions()] and name not in run.candidates():
        return name, "", None
    return *read_candidate(run, name), name


def _score_candidate(run_members: RunMembers, name: str, split: str, log: Log) -> Candidate | None:
    source, chain = read_candidate(run_members.run, name)
    counts = _counts(run_members, name, split, log)
    if counts is None:
        log(f"{name}: left out, {source!r} has no maps of {split}")
        return None
    oof = _counts(run_members, name, OOF, log) if split != OOF else counts
    return Candidate(name, counts, oof, is_member=source in run_members.names() and not chain)


def _counts(run_members: RunMembers, name: str, split: str, log: Log) -> ScoredImages | None:
    """Return a candidate's counts, from its score files where they are current."""
    run = run_members.run
    if identity(run.labels(name, split)) is None:
        return None
    expected = scores_record(run, name, split)
    if not expected.is_current():
        expected.invalidate()
        classes, data = run_classes(run), DataSet.load(run.data(split))
        labels = read_labels(run, name, split)
        counts = parallel_confusion(data.target(), labels, classes=len(classes))
        document = score(counts, sorted(PROTOCOLS), classes)
        write_scores(expected.folder, split, counts, document, data.ids, data.group_names())
        expected.write(outputs=digests(expected.folder, (f"{split}.npz", f"{split}.json")))
        log(f"{name}: {split} scored")
    document, scored = read_scores(run.scores(name), split)
    if "warning" in document:
        log(f"{name}: warning: {split}: {document['warning']}")
    return scored
