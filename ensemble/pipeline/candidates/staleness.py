"""Whether results would come out the same today, with all that they were made of.

`STAGES` says of each kind of result where it lies, from which results it follows, and whether its
own record agrees with them. A record names its nearest inputs only: a fusion whose member's weights
have changed still agrees with the maps that the old weights made. So a result is current only if
all results before it are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ensemble.pipeline.candidates.fuse import FusionSpec, resolve_fusion
from ensemble.pipeline.candidates.postprocess import is_labelled, read_candidate, run_chain
from ensemble.pipeline.data.prepare import (
    matches_prepared_data,
    run_classes,
    split_identity,
)
from ensemble.pipeline.members.importing import is_imported
from ensemble.pipeline.members.jobs import is_predicted, is_trained
from ensemble.pipeline.members.networks import is_registered
from ensemble.pipeline.members.teaching import network_folds, unlabelled_split
from ensemble.pipeline.run.expected_record import ExpectedRecord
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.files import read_json, write_json
from evaluation.core.progress import Log
from evaluation.core.provenance import identity
from evaluation.core.run_folder import OOF, Run
from evaluation.protocols import PROTOCOLS
from members.recipe import Member
from members.trainers.distill import distillation_of

MAX_NAMED = 4
"""Stale results that a warning names."""

EXPORTS = "handed_over.json"


class Artifact(NamedTuple):
    """A result of a run.

    Args:
        stage: a key of `STAGES`, or of what is made of scores: see `workflow.status`.
        name: of the member, fusion or candidate.
        part: the fold or split.
    """

    stage: str
    name: str
    part: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.stage} {self.name} {self.part}".strip()


DATA = Artifact("data", "", "")


class Stage(NamedTuple):
    """How results of one kind follow from others; functions of a result's name and part.

    Args:
        path: where it lies.
        made_of: the results that it is made of.
        record_matches: its own record agrees with what is configured, and with its inputs.
    """

    path: Callable[[Run, str, str], Path]
    made_of: Callable[["Staleness", str, str], Sequence[Artifact]]
    record_matches: Callable[["Staleness", str, str], bool]


@dataclass(frozen=True)
class Staleness:
    """Tells which results of a run are current; each is examined once.

    Args:
        run_members: of the run.
        experiment: what is configured today.
        stages: by name.
        known: the stale results behind each result that was examined.
    """

    run_members: RunMembers
    experiment: Experiment
    stages: Mapping[str, Stage] = field(default_factory=lambda: STAGES)
    known: dict[Artifact, list[Artifact]] = field(default_factory=dict)

    @property
    def run(self) -> Run:
        """The experiment folder."""
        return self.run_members.run

    def is_current(self, result: Artifact) -> bool:
        """Tell whether a result exists and would come out the same today."""
        return not self.stale_inputs(result)

    def stale_inputs(self, result: Artifact) -> list[Artifact]:
        """List the first stale results on each way to a result, itself where all before agree."""
        if result not in self.known:
            stage, (_, name, part) = self.stages[result.stage], result
            made_of = stage.made_of(self, name, part)
            stale = [first for before in made_of for first in self.stale_inputs(before)]
            if not stale and not stage.record_matches(self, name, part):
                stale = [result]
            self.known[result] = list(dict.fromkeys(stale))
        return self.known[result]

    def warn(self, results: Iterable[Artifact], log: Log) -> None:
        """Log what is stale behind results, in one line, if anything is."""
        stale = [str(first) for result in results for first in self.stale_inputs(result)]
        names = list(dict.fromkeys(stale))
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            log(
                f"warning: stale, something that it was made of has changed:"
                f" {', '.join(names[:MAX_NAMED])}{more};"
                f" `ens run {self.run.experiment} --run {self.run.path}` makes it again, and"
                " `ens import` what was imported"
            )

    def maps(self, name: str, split: str) -> list[Artifact]:
        """Return the maps of a member, a family or a fusion as results."""
        if name in self.run_members.families:
            return [Artifact("maps", m.name, split) for m in self.run_members.families[name]]
        stage = "maps" if name in self.run_members.names() else "fusion"
        return [Artifact(stage, name, split)]

    def splits(self, name: str) -> list[str]:
        """List the splits of which a member, a family or a fusion can have maps."""
        if name in self.run_members.imported:
            return self.run_members.splits(name)
        spec = self.fusion(name) if name in self.experiment.fusions else None
        members = [] if spec is None else [self._splits_of(spec, m) for m in spec.members]
        if any(m.recipe.single for m in self.run_members.members if name in (m.name, m.family)):
            return [split for split in self.run.splits() if split != OOF]
        return [split for split in self.run.splits() if all(split in some for some in members)]

    def _splits_of(self, spec: FusionSpec, member: str) -> list[str]:
        if spec.partial and member in self.run_members.imported:
            return self.run_members.splits(member, partial=True)
        return self.splits(member)

    def fusion(self, name: str) -> FusionSpec | None:
        """Resolve a fusion; None where it is no longer configured, or has nothing to fuse."""
        try:
            return resolve_fusion(self.experiment, self.run_members, name)
        except (BadRun, BadSpec):
            return None

    def member(self, name: str) -> Member:
        """Return a network by name."""
        members = (*self.run_members.members, *self.run_members.networks)
        return next(member for member in members if member.name == name)

    def candidate(self, name: str) -> tuple[str, str]:
        """Return a candidate's source and chain: as configured, else as it was made."""
        return requested_candidates(self.experiment).get(name) or read_candidate(self.run, name)


def staleness_of(run: Run) -> Staleness:
    """Examine a run by its own experiment."""
    return Staleness(RunMembers.of(run), run_experiment(run))


def requested_candidates(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """Return the source and chain of each candidate that an experiment names."""
    return {
        f"{fusion}_{name}": (fusion, chain)
        for fusion in experiment.fusions
        for name, chain in experiment.chains.items()
    }


def _member_matches(staleness: Staleness, name: str, fold: str) -> bool:
    run = staleness.run
    member = staleness.member(name)
    (its_fold,) = (f for f in network_folds(run, member) if str(f.index) == fold)
    return is_trained(run, staleness.experiment, member, its_fold)


def _member_made_of(staleness: Staleness, name: str, _: str) -> list[Artifact]:
    """Return the data, and the maps that teach a student; nested teachers are in other runs."""
    options = distillation_of(staleness.member(name).recipe)
    if options is None or options.nested:
        return [DATA]
    unlabelled = unlabelled_split(staleness.run, staleness.experiment)
    splits = [OOF, *([unlabelled] if unlabelled else [])]
    return [DATA, *(maps for split in splits for maps in staleness.maps(options.teacher, split))]


def _network_matches(staleness: Staleness, name: str, _: str) -> bool:
    return is_registered(staleness.run, staleness.member(name))


def _maps_made_of(staleness: Staleness, name: str, _: str) -> list[Artifact]:
    if name in [member.name for member in staleness.run_members.networks]:
        return [DATA, Artifact("network", name, "")]
    imported = name in staleness.run_members.imported
    folds = () if imported else network_folds(staleness.run, staleness.member(name))
    return [DATA, *(Artifact("member", name, str(fold.index)) for fold in folds)]


def _maps_match(staleness: Staleness, name: str, split: str) -> bool:
    run = staleness.run
    if name in staleness.run_members.imported:
        exists = staleness.run_members.digest(name, split, partial=True) is not None
        return exists and is_imported(run, name, split)
    dtype = staleness.experiment.store_dtype
    return is_predicted(run, staleness.member(name), split, dtype)


def _fusion_made_of(staleness: Staleness, name: str, split: str) -> list[Artifact]:
    spec = staleness.fusion(name)
    if spec is None:
        return []
    splits = dict.fromkeys([split, *spec.fit_split(staleness.run_members)])
    return [maps for s in splits for member in spec.members for maps in staleness.maps(member, s)]


def _fusion_matches(staleness: Staleness, name: str, split: str) -> bool:
    spec = staleness.fusion(name)
    return spec is not None and spec.is_current(staleness.run_members, split)


def _labels_made_of(staleness: Staleness, name: str, split: str) -> list[Artifact]:
    source, chain = staleness.candidate(name)
    learns = run_chain(staleness.run, chain).learns
    splits = dict.fromkeys([split, OOF] if learns else [split])
    return [maps for s in splits for maps in staleness.maps(source, s)]


def _labels_match(staleness: Staleness, name: str, split: str) -> bool:
    source, chain = staleness.candidate(name)
    return is_labelled(staleness.run_members, source, chain, name, split)


STAGES: dict[str, Stage] = {
    "data": Stage(
        path=lambda run, _, __: run.path / "data",
        made_of=lambda _, __, ___: [],
        record_matches=lambda s, _, __: matches_prepared_data(s.run, s.experiment),
    ),
    "member": Stage(
        path=lambda run, name, fold: run.model(name, int(fold)),
        made_of=_member_made_of,
        record_matches=_member_matches,
    ),
    "network": Stage(
        path=lambda run, name, _: run.network(name),
        made_of=lambda _, __, ___: [],
        record_matches=_network_matches,
    ),
    "maps": Stage(
        path=lambda run, name, split: run.probabilities(name, split),
        made_of=_maps_made_of,
        record_matches=_maps_match,
    ),
    "fusion": Stage(
        path=lambda run, name, split: run.fused(name, split),
        made_of=_fusion_made_of,
        record_matches=_fusion_matches,
    ),
    "labels": Stage(
        path=lambda run, name, split: run.labels(name, split),
        made_of=_labels_made_of,
        record_matches=_labels_match,
    ),
    "scores": Stage(
        path=lambda run, name, split: run.scores(name) / f"{split}.json",
        made_of=lambda _, name, split: [Artifact("labels", name, split)],
        record_matches=lambda s, name, split: scores_record(s.run, name, split).is_current(),
    ),
}
"""Every stage up to the scores, in the order in which results are made."""


def scores_record(run: Run, name: str, split: str) -> ExpectedRecord:
    """Return what the record of a candidate's scores would say today."""
    config = {"protocols": sorted(PROTOCOLS), "classes": list(run_classes(run).names)}
    labels = str(identity(run.labels(name, split)))
    inputs = {"labels": labels, "data": split_identity(run, split)}
    return ExpectedRecord(run.scores(name), config, inputs, split)


def score_digests(run: Run, candidates: Sequence[str], split: str) -> dict[str, str]:
    """Return the digests of candidates' scores on a split, and on `oof`."""
    return {
        f"{name}/{part}": str(identity(run.scores(name), part))
        for name in candidates
        for part in dict.fromkeys((OOF, split))
    }


def record_export(
    run: Run, out: Path, kind: Literal["submission", "package"], candidate: str, split: str
) -> None:
    """Write down what was exported to where; one entry per path.

    Args:
        run: the experiment folder, held for writing.
        out: the file or folder.
        kind: of it.
        candidate: whose labels or networks it holds.
        split: whose label maps stand for it: they follow from all that it was made of.
    """
    labels = str(identity(run.labels(candidate, split)))
    entry = {"kind": kind, "candidate": candidate, "split": split, "labels": labels}
    write_json(run.path / EXPORTS, {**exports_of(run), str(out.resolve()): entry})


def exports_of(run: Run) -> dict[str, dict[str, Any]]:
    """Return what was exported, by path; what no longer exists is left out."""
    file = run.path / EXPORTS
    entries = read_json(file) if file.is_file() else {}
    return {path: entry for path, entry in entries.items() if Path(path).exists()}
