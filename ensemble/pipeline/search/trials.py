"""The trials of a recipe search: started one by one as devices get free, trained, recorded."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import TrialPruned
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from ensemble.pipeline.search.held_out import held_out_counts, score_counts
from ensemble.pipeline.search.space import NAME, Space, apply_options
from ensemble.pipeline.search.study import OpenStudy, TrialSampler, open_study, quiet
from evaluation.core.errors import EnsError
from evaluation.core.progress import Log, progress
from evaluation.iou import Tables
from evaluation.run_metric import MASKED
from members.data.dataset import DataSet
from members.job_progress import EpochReport
from members.jobs import run_parallel
from members.recipe import Member
from members.train import Fold
from members.trainers.loop import EpochCallback

REASON = "reason"
"""Attribute of a failed trial: why it failed."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True, eq=False)
class TrialJob:
    """Score a trial's recipe; picklable.

    The score of each epoch of the first fold goes to the study, and the pruner may stop the trial
    by it; then the recipe is trained in the other folds, always with the same seed.
    """

    number: int
    space: Space
    suggested: dict[str, Any]
    data: Path
    folds: tuple[Fold, ...]
    seed: int
    study: Path
    pruner: BasePruner
    metric: str = MASKED

    @property
    def options(self) -> dict[str, Any]:
        """The value of each option."""
        return self.space.decode(self.suggested)

    def __call__(self, device: str) -> float | None:
        """Return the score over the held-out images of all folds; None if pruned.

        Raises:
            EnsError: the recipe cannot be trained, or no held-out pixel is scored.
        """
        member = Member(NAME, apply_options(self.space.recipe, self.options))
        data = DataSet.load(self.data)
        first, *others = self.folds
        with open_study(self.study, self.pruner) as opened:
            trial = opened.trial(self.number)

            def watch(report: EpochReport) -> None:
                with quiet():
                    trial.report(report.score, report.epoch)
                    if trial.should_prune():
                        raise TrialPruned

            try:
                counts = self._count(member, data, first, device, watch)
            except TrialPruned:
                return None
        for fold in others:
            counts = counts + self._count(member, data, fold, device)
        score = score_counts(counts, self.metric, data.classes)
        if math.isnan(score):
            raise EnsError("no held-out pixel can be scored; take other folds or more data")
        return score

    def _count(
        self,
        member: Member,
        data: DataSet,
        fold: Fold,
        device: str,
        watch: EpochCallback = lambda _: None,
    ) -> Tables:
        return held_out_counts(
            member,
            data,
            fold,
            seed=self.seed,
            device=device,
            metric=self.metric,
            watch=watch,
        )


@dataclass(frozen=True, eq=False)
class Trials:
    """The trials of an open study; `job` makes a trial's job from its number and suggestions."""

    opened: OpenStudy
    space: Space
    sampler: TrialSampler
    job: Callable[[int, dict[str, Any]], TrialJob]

    def num_ended(self) -> int:
        """Count the trials that need no more work."""
        return len(self._numbers(ENDED))

    def run(
        self,
        total: int,
        slots: Sequence[str],
        timeout_seconds: float | None,
        log: Log,
    ) -> None:
        """Train until the study has so many trials, and record the result of each.

        Trials of earlier calls count; none starts after the timeout.
        """
        end = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        results = run_parallel(self._jobs(total, end), slots)
        remaining = max(0, total - self.num_ended())
        for job, outcome in progress(results, "trials", total=remaining):
            self._record(job.number, outcome)
            log(_describe(job, outcome))

    def _jobs(self, total: int, end: float) -> Iterator[TrialJob]:
        study = self.opened.study
        # Trials of an interrupted call are repeated under their numbers.
        for number in self._numbers((TrialState.RUNNING,)):
            yield self._start(number)
        while (number := len(study.get_trials(deepcopy=False))) < total:
            if time.monotonic() > end:
                return
            with quiet():
                number = study.ask().number
            yield self._start(number)

    def _start(self, number: int) -> TrialJob:
        sampler = self.sampler.for_trial(number)
        return self.job(number, self.opened.draw(number, sampler, self.space.distributions()))

    def _record(self, number: int, outcome: float | EnsError | None) -> None:
        study = self.opened.study
        with quiet():
            if isinstance(outcome, EnsError):
                self.opened.trial(number).set_user_attr(REASON, str(outcome))
                study.tell(number, state=TrialState.FAIL)
            elif outcome is None:
                study.tell(number, state=TrialState.PRUNED)
            else:
                study.tell(number, outcome)

    def _numbers(self, states: tuple[TrialState, ...]) -> list[int]:
        trials = self.opened.study.get_trials(deepcopy=False, states=states)
        return [trial.number for trial in trials]


def _describe(job: TrialJob, outcome: float | EnsError | None) -> str:
    options = ", ".join(f"{path}={value}" for path, value in job.options.items())
    if isinstance(outcome, EnsError):
        return f"trial {job.number}: failed ({options}): {outcome}"
    score = "pruned" if outcome is None else f"{outcome:.4f}"
    return f"trial {job.number}: {score} ({options})"
