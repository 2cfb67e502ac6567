"""The trials of one search: drawn by Optuna, looked at in growing shares, stopped when hopeless."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import Trial, TrialState

from ensemble.pipeline.search.samplers import sampler
from ensemble.pipeline.search.study import quiet
from ensemble.pipeline.tuning.journal import Tried, enter, read_journal, repair
from ensemble.pipeline.tuning.judge import Judge
from ensemble.pipeline.tuning.level import Level
from ensemble.pipeline.tuning.space import ChainSpace
from evaluation.ground.arrays import Counts
from evaluation.ground.errors import BadSpec
from postproc.chain import Chain, parse_chain

SHARES = (1 / 8, 1 / 4, 1 / 2, 1)
FEWEST_GROUPS = 16
"""An interval of fewer groups stops no trial."""


@dataclass(frozen=True)
class Search:
    """One search.

    Args:
        level: which pictures.
        judge: of the pictures that are searched, in the order of the level's blocks.
        space: of chains.
        file: its journal.
        seed: of the draws.
    """

    level: Level
    judge: Judge
    space: ChainSpace
    file: Path
    seed: int

    def trials(self, total: int) -> Iterator[Tried]:
        """Yield trials until there are so many; those of earlier calls first, at once."""
        repair(self.file)
        done = read_journal(self.file)[:total]
        yield from done
        with quiet():
            study = optuna.create_study(direction="maximize")
            for tried in done:
                study.add_trial(tried.frozen(self.space))
        for number in range(len(done), total):
            with quiet():
                study.sampler = self._sampler(number)
                trial = study.ask()
                tried = self._tried(trial, next(iter(ranked(done)), None))
                for seen, score in tried.looks.items():
                    trial.report(score, int(seen))
                frozen = tried.frozen(self.space)
                value = tried.score if frozen.state == TrialState.COMPLETE else None
                study.tell(trial, value, state=frozen.state)
            enter(self.file, tried)
            done.append(tried)
            yield tried

    def chain(self, text: str) -> Chain:
        """Return the chain of a trial."""
        around = self.space.around
        return parse_chain(text, classes=around.classes, ignore=around.ignore, floor=around.floor)

    def _sampler(self, number: int) -> BaseSampler:
        starts = self.space.starts()
        if number < len(starts):
            return PartialFixedSampler(starts[number], RandomSampler(seed=self.seed + number))
        return sampler("tpe", {}, self.seed)(number)

    def _tried(self, trial: Trial, leader: Tried | None) -> Tried:
        began, chain = time.perf_counter(), ""
        looks: dict[str, float] = {}
        state, score, reason = "failed", None, ""
        try:
            drawn = self.space.draw(trial)
            chain = str(drawn)
            state, score = self._looked(drawn, leader, looks)
        except BadSpec as error:
            reason = str(error)
        seconds = round(time.perf_counter() - began, 3)
        return Tried(trial.number, chain, state, score, looks, seconds, trial.params, reason)

    def _looked(
        self, chain: Chain, leader: Tried | None, looks: dict[str, float]
    ) -> tuple[str, float]:
        """Score a chain on growing shares of the blocks, until it is surely worse than the best."""
        blocks = self.level.searched
        sizes = sorted({math.ceil(share * len(blocks)) for share in SHARES})
        counts: Counts | None = None
        for begin, end in zip([0, *sizes], sizes, strict=False):
            part = self.level.counts(chain, blocks[begin:end])
            counts = part if counts is None else np.concatenate([counts, part])
            looks[str(end)] = self.judge.score(counts)
            if end < len(blocks) and leader and self._hopeless(counts, leader, end):
                return "pruned", looks[str(end)]
        return "complete", looks[str(len(blocks))]

    def _hopeless(self, counts: Counts, leader: Tried, end: int) -> bool:
        if len(set(self.judge.groups[: len(counts)])) < FEWEST_GROUPS:
            return False
        leading = self.level.counts(self.chain(leader.chain), self.level.searched[:end])
        return self.judge.hopeless(counts, leading)


def ranked(tried: list[Tried]) -> list[Tried]:
    """Return a trial for each chain, the highest score first; of equals the shortest chain."""
    complete = {one.chain: one for one in reversed(tried) if one.state == "complete"}
    return sorted(
        complete.values(),
        key=lambda one: (-(one.score or 0.0), one.chain.count("|"), one.number),
    )
