"""What a candidate costs a picture: its networks, fusions and chain, measured once and kept."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ensemble.pipeline.bench.timing import machine
from ensemble.pipeline.experiment import Experiment
from ensemble.pipeline.folds import OOF
from ensemble.pipeline.fusing import planned
from ensemble.pipeline.member_costs import member_cost
from ensemble.pipeline.part_costs import chain_milliseconds, fusion_milliseconds, used_members
from ensemble.pipeline.postprocessing import read_candidate
from ensemble.pipeline.prepare import read_folds
from ensemble.pipeline.sources import Sources
from evaluation.ground.errors import EnsError
from evaluation.ground.files import read_json, write_json
from evaluation.ground.provenance import digest_of, identity
from members.data.dataset import DataSet

COSTS = "costs.json"


@dataclass(frozen=True)
class Price:
    """What a candidate needs.

    Args:
        members: whose networks have to run.
        milliseconds: a picture, on one core of this machine; NaN where a part is unknown.
    """

    members: tuple[str, ...]
    milliseconds: float


@dataclass(frozen=True)
class Meter:
    """Measures what is not known yet and keeps it in the run's `costs.json`.

    A number holds for the processor and for what it was measured of; else it is measured again.

    Args:
        sources: of the run.
        experiment: what was asked of it.
        split: whose pictures and maps are taken where there are none of `oof`.
        tell: gets a line for whatever is measured, or cannot be.
    """

    sources: Sources
    experiment: Experiment
    split: str
    tell: Callable[[str], None]

    def price(self, candidate: str) -> Price:
        """Return what a candidate costs.

        Raises:
            BadRun: no such candidate.
        """
        source, _ = read_candidate(self.sources.run, candidate)
        members, fusions = self._below(source)
        parts = [
            *(self._member(name) for name in members),
            *(self._fusion(name) for name in fusions),
            self._chain(candidate),
        ]
        return Price(tuple(members), sum(parts))

    def _below(self, source: str) -> tuple[list[str], list[str]]:
        """List the members and the fusions that a source is made of, each once."""
        if source in self.sources.names():
            return [source], []
        members, fusions = [], [source]
        for part in self._used(source):
            its_members, its_fusions = self._below(part)
            members += its_members
            fusions += its_fusions
        return list(dict.fromkeys(members)), list(dict.fromkeys(fusions))

    def _used(self, fusion: str) -> tuple[str, ...]:
        plan = planned(self.experiment, self.sources, fusion)
        try:
            return used_members(self.sources, plan)
        except EnsError:
            return plan.members

    # A number holds for every split, so that it is measured on the one that all of them share.
    def _where(self, source: str) -> str:
        return OOF if OOF in self.sources.splits(source) else self.split

    def _member(self, name: str) -> float:
        where = self._where(name)

        def measure() -> float | None:
            data = DataSet.load(self.sources.run.data(where))
            one = member_cost(self.sources, name, data).milliseconds
            return None if one is None else one * len(read_folds(self.sources.run))

        return self._kept(f"member {name}", self.sources.identity(name, where), measure)

    def _fusion(self, name: str) -> float:
        where = self._where(name)

        def measure() -> float:
            plan = planned(self.experiment, self.sources, name)
            return fusion_milliseconds(self.sources, plan, where)

        return self._kept(f"fusion {name}", self.sources.identity(name, where), measure)

    def _chain(self, candidate: str) -> float:
        where = self._where(read_candidate(self.sources.run, candidate)[0])

        def measure() -> float:
            return chain_milliseconds(self.sources, candidate, where)

        of = identity(self.sources.run.labels(candidate, where))
        return self._kept(f"chain of {candidate}", of, measure)

    def _kept(self, part: str, of: str | None, measure: Callable[[], float | None]) -> float:
        """Return what is known of a part, or measure it; NaN where it cannot be measured."""
        file = self.sources.run.path / COSTS
        kept = read_json(file) if file.is_file() else {}
        key = digest_of([of, machine()["processor"]])
        if kept.get(part, {}).get("of") != key:
            try:
                milliseconds = measure()
            except EnsError as error:
                self.tell(f"{part}: cost not measured, {error}")
                return math.nan
            kept[part] = {"milliseconds": milliseconds, "of": key}
            write_json(file, kept)
            known = "unknown, no weights" if milliseconds is None else f"{milliseconds:.2f} ms"
            self.tell(f"{part}: a picture costs {known}")
        found = kept[part]["milliseconds"]
        return math.nan if found is None else float(found)
