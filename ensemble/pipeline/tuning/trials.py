"""The trials of a chain search, pruned early if significantly worse than the best, in a journal.

Optuna's own storage keeps trials that started and did not end, which makes a resumed search differ
from an uninterrupted one. So only ended trials are stored, a line each, and the study is rebuilt.
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

from ensemble.pipeline.search.study import make_sampler, quiet
from ensemble.pipeline.tuning.cross_fitted_counts import OuterSplit
from ensemble.pipeline.tuning.selection import GainTest
from ensemble.pipeline.tuning.space import ChainSpace
from evaluation.core.errors import BadSpec
from evaluation.core.seeds import seed_32_bits
from evaluation.core.types import Counts
from postproc.chain import Chain

RUNGS = (1 / 8, 1 / 4, 1 / 2, 1)
"""Shares of the blocks after which a trial may be pruned."""

MIN_GROUPS = 16
"""An interval over fewer groups prunes no trial."""


@dataclass(frozen=True)
class TrialRecord:
    """A trial that has ended: `complete`, `pruned` or `failed`.

    The score is the run's metric over the images counted, None if it failed; `looks` has the score
    at each rung, by number of blocks, and `params` what was sampled.
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
        """Return it as a trial of Optuna."""
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        return create_trial(
            state=states.get(self.state, TrialState.FAIL),
            value=self.score,
            params=self.params,
            distributions={path: space.distribution(path) for path in self.params},
            intermediate_values={int(blocks): score for blocks, score in self.looks.items()},
        )


@dataclass(frozen=True)
class ChainSearch:
    """A search on the train images of a split, with a test on these and the file of its journal."""

    split: OuterSplit
    test: GainTest
    space: ChainSpace
    file: Path
    seed: int

    def trials(self, total: int) -> Iterator[TrialRecord]:
        """Yield trials until there are so many; first those of earlier calls, at once."""
        repair_journal(self.file)
        done = read_journal(self.file)[:total]
        yield from done
        with quiet():
            study = optuna.create_study(direction="maximize")
            for trial_record in done:
                study.add_trial(trial_record.frozen(self.space))
        for number in range(len(done), total):
            with quiet():
                study.sampler = self._sampler(number)
                trial = study.ask()
                trial_record = self._run(trial, next(iter(rank_trials(done)), None))
                for blocks, score in trial_record.looks.items():
                    trial.report(score, int(blocks))
                frozen = trial_record.frozen(self.space)
                value = trial_record.score if frozen.state == TrialState.COMPLETE else None
                study.tell(trial, value, state=frozen.state)
            append_trial(self.file, trial_record)
            done.append(trial_record)
            yield trial_record

    def _sampler(self, number: int) -> BaseSampler:
        initial = self.space.initial_trials()
        if number < len(initial):
            return PartialFixedSampler(
                initial[number], RandomSampler(seed=seed_32_bits(self.seed + number))
            )
        return make_sampler("tpe", {}, self.seed).for_trial(number)

    def _run(self, trial: Trial, incumbent: TrialRecord | None) -> TrialRecord:
        start, text = time.perf_counter(), ""
        looks: dict[str, float] = {}
        state, score, reason = "failed", None, ""
        try:
            chain = self.space.suggest(trial)
            text = str(chain)
            state, score = self._score(chain, incumbent, looks)
        except BadSpec as error:
            reason = str(error)
        seconds = round(time.perf_counter() - start, 3)
        return TrialRecord(trial.number, text, state, score, looks, seconds, trial.params, reason)

    def _score(
        self, chain: Chain, incumbent: TrialRecord | None, looks: dict[str, float]
    ) -> tuple[str, float]:
        """Score a chain on growing shares of the blocks, unless it is pruned."""
        blocks = self.split.train_blocks
        rungs = sorted({math.ceil(share * len(blocks)) for share in RUNGS})
        counts: Counts | None = None
        for start, end in zip([0, *rungs], rungs, strict=False):
            new = self.split.counts(chain, blocks[start:end])
            counts = new if counts is None else np.concatenate([counts, new])
            looks[str(end)] = self.test.score(counts)
            if end < len(blocks) and incumbent and self._should_prune(counts, incumbent, end):
                return "pruned", looks[str(end)]
        return "complete", looks[str(len(blocks))]

    def _should_prune(self, counts: Counts, incumbent: TrialRecord, end: int) -> bool:
        if len(set(self.test.groups[: len(counts)])) < MIN_GROUPS:
            return False
        chain = self.space.parse(incumbent.chain)
        return self.test.should_prune(
            counts, self.split.counts(chain, self.split.train_blocks[:end])
        )


def rank_trials(trials: list[TrialRecord]) -> list[TrialRecord]:
    """Return a complete trial per chain, the highest score first; of equals the shortest chain."""
    complete = {trial.chain: trial for trial in reversed(trials) if trial.state == "complete"}
    return sorted(
        complete.values(),
        key=lambda trial: (-(trial.score or 0.0), trial.chain.count("|"), trial.number),
    )


def read_journal(file: Path) -> list[TrialRecord]:
    """Read the trials that have ended; a line that was cut off is ignored."""
    if not file.is_file():
        return []
    *lines, _ = file.read_text(encoding="utf-8").split("\n")
    return [TrialRecord(**json.loads(line)) for line in lines]


def repair_journal(file: Path) -> None:
    """Remove a last line that was cut off."""
    if file.is_file():
        os.truncate(file, file.read_bytes().rfind(b"\n") + 1)


def append_trial(file: Path, trial: TrialRecord) -> None:
    """Add a trial to the journal, on disk when this returns."""
    with file.open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(asdict(trial)) + "\n")
        journal.flush()
        os.fsync(journal.fileno())
