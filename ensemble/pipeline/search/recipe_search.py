"""Search a recipe's options with Optuna; resumes an interrupted search, and survives bad trials."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.search.held_out import prepare_search, searched_metric
from ensemble.pipeline.search.plots import draw_history, draw_importance
from ensemble.pipeline.search.space import NAME, Space, apply_options
from ensemble.pipeline.search.study import (
    FILE,
    SamplerName,
    check_same_config,
    check_study,
    create_study,
    make_sampler,
    open_study,
)
from ensemble.pipeline.search.trials import ENDED, REASON, TrialJob, Trials
from evaluation.core.errors import BadSpec, EnsError
from evaluation.core.files import atomic_file
from evaluation.core.progress import Log
from evaluation.core.run_folder import OOF, Run, run_lock
from evaluation.run_metric import metric_label
from members.devices import devices
from members.jobs import device_slots
from members.recipe import Recipe

FOLDER = "search"
BEST, TABLE, HISTORY, IMPORTANCE = "best.yaml", "trials.csv", "history.png", "importance.png"
STARTUP_TRIALS = 5
"""Trials that are trained to their end before any is pruned."""

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class SearchBudget:
    """How long and how broadly to search; may change when a search is resumed.

    Args:
        trials: number of trials, those of earlier calls included.
        sampler: proposes trials.
        folds_used: number of folds in which each trial is trained.
        timeout_seconds: after which no trial starts; None for no limit.
        device: see `members.devices.devices`.
        workers: processes per device.
    """

    trials: int = 30
    sampler: SamplerName = "tpe"
    folds_used: int = 1
    timeout_seconds: float | None = None
    device: str = "auto"
    workers: int | None = None


@dataclass(frozen=True)
class SearchResult:
    """The best recipe of a search.

    Args:
        experiment: file that `train-members --experiment` takes.
        trials: number of trials by state.
        number: of the best trial.
        score: its score over the held-out images, by the metric.
        options: its options.
        recipe: all of it.
        importance: share of each option in what single options explain of the scores, or None.
        unknown: why importance cannot be computed; else empty.
        folds: whose held-out images were scored.
        metric: the run's, in its form for summed pixels.
    """

    experiment: Path
    trials: dict[str, int]
    number: int
    score: float
    options: dict[str, Any]
    recipe: Recipe
    importance: dict[str, float] | None
    unknown: str
    folds: list[int]
    metric: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        best = {
            "trial": self.number,
            "score": self.score,
            "options": self.options,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        return {
            "experiment": str(self.experiment),
            "metric": self.metric,
            "trials": self.trials,
            "folds": self.folds,
            "best": best,
            "importance": self.importance,
        }


def search(
    run: Run,
    experiment: Experiment,
    space: Space,
    budget: SearchBudget,
    *,
    log: Log,
    pruner: BasePruner | None = None,
) -> SearchResult:
    """Search the recipe that scores highest on held-out images.

    The folder `search` of the run gets the study and the results. By default trials below the
    median are pruned, if their scores are comparable.

    Raises:
        EnsError: bad input before any training, or no complete trial.
    """
    device_names = devices(budget.device)
    if budget.folds_used > experiment.folds:
        raise BadSpec(f"--folds-used {budget.folds_used}; there are {experiment.folds} folds")
    sampler = make_sampler(budget.sampler, space.distributions(), experiment.seed)
    config = {
        "recipe": space.recipe.model_dump(mode="json"),
        "space": space.to_dict(),
        "search": {"seed": experiment.seed, "folds used": budget.folds_used},
    }
    file = run.path / FOLDER / FILE
    with run_lock(run.path):
        if file.exists():
            check_study(file)
            check_same_config(file, config)
        config["data"] = prepare_search(run, experiment, space.check(), log)
        metric = searched_metric(run, experiment)
        if file.exists():
            check_same_config(file, config)
        else:
            create_study(file, config)
        pruner = pruner or _default_pruner(space, log)
        folds = read_folds(run)[: budget.folds_used]
        with open_study(file) as opened:

            def job(number: int, suggested: dict[str, Any]) -> TrialJob:
                data, seed = run.data(OOF), experiment.seed
                return TrialJob(number, space, suggested, data, folds, seed, file, pruner, metric)

            trials = Trials(opened, space, sampler, job)
            total = min(budget.trials, sampler.points or budget.trials)
            slots = device_slots(device_names, budget.workers, total - trials.num_ended())
            trials.run(total, slots, budget.timeout_seconds, log)
            numbers = [fold.index for fold in folds]
            return _write_results(file.parent, experiment, space, metric, opened.study, numbers)


def format_search(result: SearchResult) -> str:
    """Format the best trial and its options."""
    counts = ", ".join(f"{number} {state}" for state, number in result.trials.items())
    folds = " and ".join(str(fold) for fold in result.folds)
    width = max(len(path) for path in result.options)
    shares = result.importance or {}
    best = f"trial {result.number}, {metric_label(result.metric)} {result.score:.4f}"
    lines = [
        f"{result.experiment.parent}: {sum(result.trials.values())} trials ({counts})",
        f"best: {best} on the held-out images of fold {folds}",
    ]
    for path, value in result.options.items():
        share = f"  importance {shares[path]:.2f}" if path in shares else ""
        text = f"{value:.4g}" if isinstance(value, float) else value
        lines.append(f"  {path:{width}}  {text}{share}")
    lines += [f"no {IMPORTANCE}: {result.unknown}"] if result.unknown else []
    lines.append(
        f"This score is optimistic: it is the highest of {result.trials['complete']} on the"
        " images they were compared on. `ens score` evaluates it on validation."
    )
    return "\n".join(lines)


def _default_pruner(space: Space, log: Log) -> BasePruner:
    """Stop trials below the median, if the scores of epochs are comparable."""
    by_loss = space.recipe.monitor == "loss" and any(p.startswith("loss") for p in space.options)
    if by_loss or "monitor" in space.options:
        log("no trial is pruned: different losses are not comparable; set monitor: miou")
        return NopPruner()
    warmup = 1 + space.recipe.epochs // 4
    return MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=warmup)


def _write_results(
    folder: Path,
    experiment: Experiment,
    space: Space,
    metric: str,
    study: optuna.Study,
    folds: list[int],
) -> SearchResult:
    """Write the table, the best experiment and the plots, and return the best trial.

    Raises:
        EnsError: no complete trial.
    """
    trials = study.get_trials(deepcopy=False, states=ENDED)
    _write_table(folder / TABLE, trials, space)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise EnsError(_no_complete_trial(folder, trials))
    draw_history(folder / HISTORY, trials, metric_label(metric))
    importance, unknown = draw_importance(folder / IMPORTANCE, study)
    # The first of equals, as in Optuna's own `best_trial`.
    best = max(complete, key=lambda trial: (trial.value, -trial.number))
    options = space.decode(best.params)
    recipe = apply_options(space.recipe, options)
    experiment.with_members({NAME: recipe}).write(folder / BEST)
    assert best.value is not None
    return SearchResult(
        folder / BEST,
        {name: sum(trial.state == state for trial in trials) for state, name in STATES.items()},
        best.number,
        best.value,
        options,
        recipe,
        importance,
        unknown,
        folds,
        metric,
    )


def _no_complete_trial(folder: Path, trials: list[FrozenTrial]) -> str:
    failed = [trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs]
    first = f" (the first: {failed[0]})" if failed else ""
    pruned = len(trials) - len(failed)
    return (
        f"no trial is complete: {len(failed)} failed{first}, {pruned} were pruned; see"
        f" {folder / TABLE}, and search for longer or in another space"
    )


def _write_table(path: Path, trials: list[FrozenTrial], space: Space) -> None:
    header = ["trial", "state", "score", "epochs", "seconds", *space.options, REASON]
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for trial in trials:
            options = space.decode(trial.params)
            seconds = trial.duration.total_seconds() if trial.duration else 0.0
            writer.writerow(
                [
                    trial.number,
                    STATES[trial.state],
                    # Optuna gives a pruned trial its last epoch's score, which is another quantity.
                    f"{trial.value:.6f}" if trial.state == TrialState.COMPLETE else "",
                    len(trial.intermediate_values),
                    f"{seconds:.1f}",
                    *(options.get(path, "") for path in space.options),
                    trial.user_attrs.get(REASON, ""),
                ]
            )
