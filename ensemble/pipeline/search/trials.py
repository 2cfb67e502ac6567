"""The trials of a study, one after the other or side by side: begun, trained and entered.

One trial: a recipe, trained in the folds of the search unless it is hopeless before.

Jobs drawn one by one as a process gets free, so that each may depend on those that ended.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from optuna import TrialPruned
from optuna.pruners import BasePruner
from optuna.trial import Trial, TrialState

from ensemble.pipeline.search.held_out import held_out_counts, masked_miou
from ensemble.pipeline.search.space import NAME, Space, filled
from ensemble.pipeline.search.study import Distributions, Opened, Sampler, draw, opened, quiet
from evaluation.core.cluster import Cluster, ClusterTask, current_cluster
from evaluation.core.errors import EnsError
from evaluation.core.progress import progress
from members.data.dataset import DataSet
from members.jobs import job_outcome, one_by_one, outcome_of, submit, submit_job, worker_pool
from members.recipe import Member
from members.train import Fold


@dataclass(frozen=True, eq=False)
class TrialJob:
    """Score a trial's recipe; picklable.

    Args:
        number: of the trial.
        space: with the recipe.
        drawn: what Optuna drew for each option.
        data: folder of the training images.
        folds: in which it is trained, one after the other.
        seed: of the training, the same in all trials.
        study: file that gets the score of each epoch of the first fold.
        pruner: stops the trial by them.
    """

    number: int
    space: Space
    drawn: dict[str, Any]
    data: Path
    folds: tuple[Fold, ...]
    seed: int
    study: Path
    pruner: BasePruner

    @property
    def options(self) -> dict[str, Any]:
        """The value of each option."""
        return self.space.decoded(self.drawn)

    def __call__(self, device: str) -> float | None:
        """Return the masked mIoU over all held-out images together; None where it is pruned.

        Raises:
            EnsError: the recipe cannot be trained, or nothing in the images can be scored.
        """
        member = Member(NAME, filled(self.space.recipe, self.options))
        data = DataSet.load(self.data)
        first, *others = self.folds
        with opened(self.study, self.pruner) as found:
            trial = found.trial(self.number)

            def watch(epoch: int, score: float) -> None:
                with quiet():
                    trial.report(score, epoch)
                    if trial.should_prune():
                        raise TrialPruned

            try:
                counts = held_out_counts(
                    member, data, first, seed=self.seed, device=device, watch=watch
                )
            except TrialPruned:
                return None
        for fold in others:
            counts = counts + held_out_counts(member, data, fold, seed=self.seed, device=device)
        score = masked_miou(counts, data.classes.ignore)
        if math.isnan(score):
            raise EnsError("no held-out pixel can be scored; take other folds or more data")
        return score


Job = TypeVar("Job", bound=Callable[[str], Any])


def side_by_side(jobs: Iterator[Job], slots: Sequence[str]) -> Iterator[tuple[Job, Any]]:
    """Draw a job whenever a process is free; yield each as it ends, with its result.

    On the CPU a process has one core, so a result does not depend on how many there are. Within
    `on_cluster` jobs go to its workers, as many at a time as it has GPUs, or cores where it has
    none.

    Args:
        jobs: drawn late: the caller has dealt with all that was yielded before.
        slots: the device of each process, see `members.jobs.device_slots`; with one, the work is
            done in this process.

    Yields:
        A job, and what it returned or the `EnsError` that ended it.
    """
    if (cluster := current_cluster()) is not None:
        yield from _on_cluster(jobs, cluster)
        return
    if len(slots) == 1:
        yield from one_by_one(jobs, slots[0])
        return
    while suspects := (yield from _pooled(jobs, slots)):
        # Alone, so that the one that kills its process is known, and the others are not lost.
        for suspect in suspects:
            yield suspect, _alone(suspect, slots[0])


def _on_cluster(jobs: Iterator[Job], cluster: Cluster) -> Iterator[tuple[Job, Any]]:
    tasks: dict[ClusterTask, Job] = {}
    width = max(1, cluster.gpus or cluster.width)
    try:
        while True:
            while len(tasks) < width and (job := next(jobs, None)) is not None:
                tasks[submit_job(cluster, job)] = job
            if not tasks:
                return
            for task in cluster.ended(list(tasks)):
                yield tasks.pop(task), job_outcome(task)
    finally:
        for task in tasks:
            task.cancel()


def _pooled(
    jobs: Iterator[Job], slots: Sequence[str]
) -> Generator[tuple[Job, Any], None, list[Job]]:
    """Run jobs in a pool; return none of them, or, where a process died, those under way."""
    under_way: list[Job] = []
    futures: dict[Future[Any], Job] = {}
    with worker_pool(slots) as pool:
        try:
            while True:
                while len(under_way) < len(slots) and (job := next(jobs, None)) is not None:
                    under_way.append(job)
                    futures[submit(pool, job)] = job
                if not under_way:
                    break
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    outcome = outcome_of(future.result)
                    job = futures.pop(future)
                    under_way.remove(job)
                    yield job, outcome
        except BrokenProcessPool:
            pass
    return under_way


def _alone(job: Callable[[str], Any], device: str) -> Any:
    with worker_pool([device]) as pool:
        try:
            return outcome_of(submit(pool, job).result)
        except BrokenProcessPool:
            return EnsError("its process died, perhaps for want of memory")


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
        log: Callable[[str], None],
    ) -> None:
        """Train until there are so many trials, and enter what came of each.

        Args:
            total: how many, those of earlier calls included.
            slots: the device of each process.
            timeout_seconds: after which none is begun.
            log: receives a line a trial.
        """
        end = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        done = side_by_side(self._jobs(total, end), slots)
        for job, outcome in progress(done, "trials", total=max(0, total - self.ended())):
            self._enter(job.number, outcome)
            log(_line(job, outcome))

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
