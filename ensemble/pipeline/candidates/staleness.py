"""Whether results would come out the same today, with all that they were made of.

A record tells of its nearest inputs alone: a fusion whose member's weights have changed still
agrees with the maps that were made by the old ones. Here each result is asked together with all
that stands before it, each only once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ensemble.pipeline.candidates.fuse import FusionSpec, is_fused, resolve_fusion
from ensemble.pipeline.candidates.postprocess import is_labelled, read_candidate
from ensemble.pipeline.data.prepare import matches_prepared_data, read_folds, run_classes
from ensemble.pipeline.members.importing import is_imported
from ensemble.pipeline.members.train import is_predicted, is_trained
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import OOF, RunMembers, run_experiment
from ensemble.pipeline.scoring.score_inputs import is_scored
from evaluation.core.errors import BadRun
from evaluation.core.provenance import identity
from evaluation.core.run_folder import Run
from members.recipe import Member, specialist_families
from postproc.chain import parse_chain

NAMED = 4
"""Changed results that a warning names."""


class Artifact(NamedTuple):
    """A result of a run.

    Args:
        stage: `data`, `member`, `maps`, `fusion`, `labels` or `scores`.
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


@dataclass(frozen=True)
class Staleness:
    """Asks results of a run; what was found once is not looked at again.

    Args:
        sources: of the run.
        experiment: what is asked of it today.
        known: what was found, the changed results behind each.
    """

    sources: RunMembers
    experiment: Experiment
    known: dict[Artifact, list[Artifact]] = field(default_factory=dict)

    def is_current(self, result: Artifact) -> bool:
        """Tell whether a result is there and would come out the same today."""
        return not self.changed(result)

    def changed(self, result: Artifact) -> list[Artifact]:
        """List the results that do not agree with what is before them, the first of each way."""
        if result not in self.known:
            before = [one for made_of in self._before(result) for one in self.changed(made_of)]
            own = [] if before or self._agrees(result) else [result]
            self.known[result] = list(dict.fromkeys([*before, *own]))
        return self.known[result]

    def warn(self, results: Iterable[Artifact], log: Callable[[str], None]) -> None:
        """Tell what has changed behind results, in one line, if anything has."""
        found = [str(changed) for result in results for changed in self.changed(result)]
        names = list(dict.fromkeys(found))
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            run = self.sources.run
            log(
                f"warning: stale, something that it was made of has changed:"
                f" {', '.join(names[:NAMED])}{more}; `ens run {run.experiment} --run {run.path}`"
                " makes it again, and `ens import` what was imported"
            )

    def maps(self, name: str, split: str) -> list[Artifact]:
        """Return the maps of a member, a family or a fusion as results."""
        family = specialist_families(self.sources.members).get(name)
        if family:
            return [Artifact("maps", member.name, split) for member in family]
        stage = "maps" if name in self.sources.names() else "fusion"
        return [Artifact(stage, name, split)]

    def splits(self, name: str) -> list[str]:
        """List the splits of which a member, a family or a fusion can have maps."""
        run = self.sources.run
        if name in self.sources.foreign:
            return self.sources.splits(name)
        plan = self._plan(name) if name in self.experiment.fusions else None
        members = [self.splits(member) for member in plan.members] if plan else []
        return [split for split in run.splits() if all(split in some for some in members)]

    def _agrees(self, result: Artifact) -> bool:
        stage, name, part = result
        run = self.sources.run
        if stage == "data":
            return matches_prepared_data(run, self.experiment)
        if stage == "member":
            fold = next(fold for fold in read_folds(run) if str(fold.index) == part)
            return is_trained(run, self.experiment, self._member(name), fold)
        if stage == "maps":
            if name in self.sources.foreign:
                there = self.sources.identity(name, part) is not None
                return there and is_imported(run, name, part)
            dtype = self.experiment.store_dtype
            return is_predicted(run, self._member(name), part, read_folds(run), dtype)
        if stage == "fusion":
            plan = self._plan(name)
            return plan is not None and is_fused(self.sources, plan, part)
        if stage == "labels":
            return is_labelled(self.sources, *self.asked(name), name, part)
        return identity(run.scores(name), part) is not None and is_scored(run, name, part)

    def _before(self, result: Artifact) -> Sequence[Artifact]:
        stage, name, part = result
        if stage == "data":
            return []
        if stage == "member":
            return [DATA]
        if stage == "maps":
            folds = [] if name in self.sources.foreign else read_folds(self.sources.run)
            return [DATA, *(Artifact("member", name, str(fold.index)) for fold in folds)]
        if stage == "fusion":
            return self._before_fusion(name, part)
        if stage == "labels":
            source, chain = self.asked(name)
            classes = run_classes(self.sources.run)
            steps = parse_chain(chain, classes=len(classes), ignore=classes.ignore)
            splits = [part, OOF] if steps.learns else [part]
            return [one for split in splits for one in self.maps(source, split)]
        return [Artifact("labels", name, part)]

    def _before_fusion(self, name: str, split: str) -> Sequence[Artifact]:
        plan = self._plan(name)
        members = () if plan is None else plan.members
        has = {OOF} if all(self.sources.identity(member, OOF) for member in members) else set()
        return [one for s in {split, *has} for member in members for one in self.maps(member, s)]

    def _plan(self, name: str) -> FusionSpec | None:
        try:
            return resolve_fusion(self.experiment, self.sources, name)
        except BadRun:  # no longer asked for, or nothing to make it of
            return None

    def _member(self, name: str) -> Member:
        return next(member for member in self.sources.members if member.name == name)

    def asked(self, candidate: str) -> tuple[str, str]:
        """Return a candidate's source and chain: what the experiment says, else what was made."""
        return requested_candidates(self.experiment).get(candidate) or read_candidate(
            self.sources.run, candidate
        )


def staleness_of(run: Run) -> Staleness:
    """Ask a run by its own experiment."""
    return Staleness(RunMembers.of(run), run_experiment(run))


def requested_candidates(experiment: Experiment) -> dict[str, tuple[str, str]]:
    """Return the source and chain of each candidate that an experiment names."""
    return {
        f"{fusion}_{name}": (fusion, chain)
        for fusion in experiment.fusions
        for name, chain in experiment.chains.items()
    }
