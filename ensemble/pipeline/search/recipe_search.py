"""Search a recipe's options with Optuna: goes on where it stopped, and survives bad trials."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.pruners import BasePruner, MedianPruner, NopPruner

from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.search.held_out import data_identity, lay_out
from ensemble.pipeline.search.results import Found, write_results
from ensemble.pipeline.search.space import Space
from ensemble.pipeline.search.study import (
    ASKED,
    SamplerName,
    check,
    create,
    opened,
    sampler,
)
from ensemble.pipeline.search.trials import TrialJob, Trials
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.run_folder import Run, run_lock
from members.devices import devices
from members.jobs import device_slots

FOLDER, FILE = "search", "study.sqlite"
FREE_TRIALS = 5
"""Trials that are trained to their end before any is pruned."""


@dataclass(frozen=True)
class Effort:
    """How long and how broadly to search; may be changed when a search goes on.

    Args:
        trials: how many, those of earlier calls included.
        sampler: where trials look.
        folds_used: in how many folds each is trained.
        timeout_seconds: after which no trial is begun; None for no end.
        device: see `members.devices.devices`.
        workers: processes on each device.
    """

    trials: int = 30
    sampler: SamplerName = "tpe"
    folds_used: int = 1
    timeout_seconds: float | None = None
    device: str = "auto"
    workers: int | None = None


def search(
    run: Run,
    experiment: Experiment,
    space: Space,
    effort: Effort,
    *,
    log: Callable[[str], None],
    pruner: BasePruner | None = None,
) -> Found:
    """Search the recipe that scores highest on held-out images.

    Args:
        run: the experiment folder; its folder `search` gets the study and what came out.
        experiment: data, folds, seed.
        space: the recipe and its options.
        effort: how long to search.
        log: receives a line a trial.
        pruner: by default trials below the median are stopped, where their scores compare.

    Returns:
        What was found.

    Raises:
        EnsError: bad input before any training, or no trial that came to its end.
    """
    where = devices(effort.device)
    if effort.folds_used > experiment.folds:
        raise BadSpec(f"--folds-used {effort.folds_used}; there are {experiment.folds} folds")
    looks = sampler(effort.sampler, space.distributions(), experiment.seed)
    asked = {
        "recipe": space.recipe.model_dump(mode="json"),
        "space": space.document(),
        "search": {"seed": experiment.seed, "folds used": effort.folds_used},
    }
    file = run.path / FOLDER / FILE
    with run_lock(run.path):
        if file.exists():
            check(file)
            _compare(file, asked)
        lay_out(run, experiment, space.check(), log)
        asked["data"] = data_identity(run)
        if file.exists():
            _compare(file, asked)
        else:
            create(file, asked)
        pruner = pruner or _default_pruner(space, log)
        folds = read_folds(run)[: effort.folds_used]
        with opened(file) as study:

            def job(number: int, drawn: dict[str, Any]) -> TrialJob:
                data, seed = run.data("oof"), experiment.seed
                return TrialJob(number, space, drawn, data, folds, seed, file, pruner)

            trials = Trials(study, space.distributions(), looks, job)
            total = min(effort.trials, looks.points or effort.trials)
            slots = device_slots(where, effort.workers, total - trials.ended())
            trials.conduct(total, slots, effort.timeout_seconds, log)
            numbers = [fold.index for fold in folds]
            return write_results(file.parent, experiment, space, study.study, numbers)


def _compare(file: Path, asked: dict[str, Any]) -> None:
    """Refuse to go on with another search than the one that was begun."""
    with opened(file) as found:
        begun = found.study.user_attrs.get(ASKED, {})
    for part, now in asked.items():
        there = begun.get(part, {})
        for key in [*now, *there]:
            if part in begun and there.get(key) != now.get(key):
                met, today = (json.dumps(d[key]) if key in d else "nothing" for d in (there, now))
                raise BadRun(
                    f"{file} searches with another {part}: {key} is {met} there, {today} here;"
                    " take another --run, or move it away"
                )


def _default_pruner(space: Space, log: Callable[[str], None]) -> BasePruner:
    """Stop trials below the median, where the scores of epochs are of one kind."""
    by_loss = space.recipe.monitor == "loss" and any(p.startswith("loss") for p in space.options)
    if by_loss or "monitor" in space.options:
        log("no trial is pruned: losses of different kinds do not compare; take monitor: miou")
        return NopPruner()
    warmup = 1 + space.recipe.epochs // 4
    return MedianPruner(n_startup_trials=FREE_TRIALS, n_warmup_steps=warmup)
