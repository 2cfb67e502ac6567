"""What a search found: the best recipe as an experiment, a table of trials, two plots."""

import csv
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from ensemble.pipeline.experiment import Experiment
from ensemble.pipeline.search.found import IMPORTANCE, Found
from ensemble.pipeline.search.paths import NAME, filled
from ensemble.pipeline.search.plots import draw_history, draw_importance
from ensemble.pipeline.search.space import Space
from ensemble.pipeline.search.trials import ENDED, REASON
from evaluation.ground.errors import EnsError
from evaluation.ground.files import whole_file

BEST, TABLE, HISTORY = "best.yaml", "trials.csv", "history.png"
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def write_results(
    folder: Path, experiment: Experiment, space: Space, study: optuna.Study, folds: list[int]
) -> Found:
    """Write `trials.csv`, `best.yaml`, `history.png` and, where it can be told, `importance.png`.

    Args:
        folder: of the study.
        experiment: data, folds and seed, and the members that are there.
        space: what was searched.
        study: the trials.
        folds: in which each was trained.

    Raises:
        EnsError: no trial came to its end.
    """
    trials = study.get_trials(deepcopy=False, states=ENDED)
    _write_table(folder / TABLE, trials, space)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise EnsError(_nothing(folder, trials))
    draw_history(folder / HISTORY, trials)
    importance, unknown = draw_importance(folder / IMPORTANCE, study)
    # The first of equals, as in Optuna's own `best_trial`.
    best = max(complete, key=lambda trial: (trial.value, -trial.number))
    options = space.decoded(best.params)
    recipe = filled(space.recipe, options)
    experiment.with_members({NAME: recipe}).write(folder / BEST)
    assert best.value is not None
    return Found(
        folder / BEST,
        {name: sum(trial.state == state for trial in trials) for state, name in STATES.items()},
        best.number,
        best.value,
        options,
        recipe,
        importance,
        unknown,
        folds,
    )


def _nothing(folder: Path, trials: list[FrozenTrial]) -> str:
    failed = [trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs]
    first = f" (the first: {failed[0]})" if failed else ""
    pruned = len(trials) - len(failed)
    return (
        f"no trial came to its end: {len(failed)} failed{first}, {pruned} were pruned; see"
        f" {folder / TABLE}, and search for longer or elsewhere"
    )


def _write_table(path: Path, trials: list[FrozenTrial], space: Space) -> None:
    head = ["trial", "state", "score", "epochs", "seconds", *space.options, REASON]
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for trial in trials:
            options = space.decoded(trial.params)
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
