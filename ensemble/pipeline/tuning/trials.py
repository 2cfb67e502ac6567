"""The trials of one search: drawn by Optuna, looked at in growing shares, stopped when hopeless.

The trials of a search on disk, a line each: a search that was killed goes on as if it had not.

Optuna's own storage keeps trials that were begun and not ended, which then differ from those of a
search that nobody interrupted; so only what has ended is kept, and the study is made of it anew.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from ensemble.pipeline.search.study import quiet, sampler
from ensemble.pipeline.tuning.outer_split import Level
from ensemble.pipeline.tuning.selection import Judge
from ensemble.pipeline.tuning.space import ChainSpace
from evaluation.core.errors import BadSpec
from evaluation.core.types import Counts
from postproc.chain import Chain, parse_chain


@dataclass(frozen=True)
class Tried:
    """A trial that has ended.

    Args:
        number: which.
        chain: what was tried.
        state: `complete`, `pruned` or `failed`.
        score: masked mean IoU over the images looked at; None where it failed.
        looks: the score after each share of the blocks, by how many these are.
        seconds: that it took.
        params: what was drawn.
        reason: why it failed.
    """

    number: int
    chain: str
    state: str
    score: float | None
    looks: dict[str, float]
    seconds: float
    params: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    def frozen(self, space: ChainSpace) -> FrozenTrial:
        """Return it as Optuna has it."""
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        return create_trial(
            state=states.get(self.state, TrialState.FAIL),
            value=self.score,
            params=self.params,
            distributions={path: space.distribution(path) for path in self.params},
            intermediate_values={int(seen): score for seen, score in self.looks.items()},
        )


def read_journal(file: Path) -> list[Tried]:
    """Read the trials that have ended; a line that was cut off is none."""
    if not file.is_file():
        return []
    *whole, _ = file.read_text(encoding="utf-8").split("\n")
    return [Tried(**json.loads(line)) for line in whole]


def repair(file: Path) -> None:
    """Cut off a last line that was not written to its end."""
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        file.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")


def enter(file: Path, tried: Tried) -> None:
    """Add a trial."""
    with file.open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(asdict(tried)) + "\n")
        journal.flush()
        os.fsync(journal.fileno())


SHARES = (1 / 8, 1 / 4, 1 / 2, 1)
FEWEST_GROUPS = 16
"""An interval of fewer groups stops no trial."""


@dataclass(frozen=True)
class Search:
    """One search.

    Args:
        level: which images.
        judge: of the images that are searched, in the order of the level's blocks.
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
