"""The trials of a study, one after the other or side by side: begun, trained and entered."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import Trial, TrialState

from ensemble.pipeline.search.samplers import Distributions, Sampler
from ensemble.pipeline.search.side_by_side import side_by_side
from ensemble.pipeline.search.study import Opened, draw, quiet
from ensemble.pipeline.search.trial import TrialJob
from evaluation.ground.errors import EnsError
from evaluation.ground.progress import progress

REASON = "reason"
"""The attribute of a failed trial that says why."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True, eq=False)
class Trials:
    """The trials of an open study.

    Args:
        opened: the study.
        distributions: of each option.
        looks: gives each trial its sampler.
        job: makes the work of a trial from its number and what was drawn for it.
    """

    opened: Opened
    distributions: Distributions
    looks: Sampler
    job: Callable[[int, dict[str, Any]], TrialJob]

    def ended(self) -> int:
        """Count the trials that need no more work."""
        return len(self._numbers(ENDED))

    def conduct(
        self,
        total: int,
        slots: Sequence[str],
        timeout_seconds: float | None,
        tell: Callable[[str], None],
    ) -> None:
        """Train until there are so many trials, and enter what came of each.

        Args:
            total: how many, those of earlier calls included.
            slots: the device of each process.
            timeout_seconds: after which none is begun.
            tell: gets a line a trial.
        """
        end = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        done = side_by_side(self._jobs(total, end), slots)
        for job, outcome in progress(done, "trials", total=max(0, total - self.ended())):
            self._enter(job.number, outcome)
            tell(_line(job, outcome))

    def _jobs(self, total: int, end: float) -> Iterator[TrialJob]:
        study = self.opened.study
        # An interrupted call left these: they are done again under their numbers.
        for number in self._numbers((TrialState.RUNNING,)):
            yield self._begun(self.opened.trial(number))
        while (number := len(study.get_trials(deepcopy=False))) < total:
            if time.monotonic() > end:
                return
            study.sampler = self.looks(number)
            with quiet():
                trial = study.ask()
            yield self._begun(trial)

    def _begun(self, trial: Trial) -> TrialJob:
        return self.job(trial.number, draw(trial, self.distributions))

    def _enter(self, number: int, outcome: float | EnsError | None) -> None:
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
        found = self.opened.study.get_trials(deepcopy=False, states=states)
        return [trial.number for trial in found]


def _line(job: TrialJob, outcome: float | EnsError | None) -> str:
    options = ", ".join(f"{path}={value}" for path, value in job.options.items())
    if isinstance(outcome, EnsError):
        return f"trial {job.number}: failed ({options}): {outcome}"
    said = "pruned" if outcome is None else f"{outcome:.4f}"
    return f"trial {job.number}: {said} ({options})"
