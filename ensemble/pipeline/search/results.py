"""What a search found: the best recipe as an experiment, a table of trials, two plots.

What a search found, as a document and as text.

What came of mixtures of losses: a table for people, a document, a file, the best as a recipe.
"""

import csv
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.search.loss_search import Mixture, is_stopped
from ensemble.pipeline.search.plots import draw_history, draw_importance
from ensemble.pipeline.search.space import NAME, Space, filled
from ensemble.pipeline.search.trials import ENDED, REASON
from evaluation.core.errors import EnsError
from evaluation.core.files import atomic_file
from evaluation.formatting import decimal, in_columns
from evaluation.scores import number
from members.recipe import Recipe

IMPORTANCE = "importance.png"


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        experiment: file that `train-members --experiment` takes.
        trials: how many there are of each state.
        number: of the best trial.
        score: its masked mIoU over the held-out images.
        options: its options.
        recipe: the whole of it.
        importance: share of each option in what single options explain of the scores; None where
            it cannot be told.
        unknown: why it cannot be told; empty where it can.
        folds: whose held-out images the scores are of.
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

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        best = {
            "trial": self.number,
            "score": self.score,
            "options": self.options,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        return {
            "experiment": str(self.experiment),
            "trials": self.trials,
            "folds": self.folds,
            "best": best,
            "importance": self.importance,
        }

    def text(self) -> str:
        """Write it for people."""
        counts = ", ".join(f"{number} {state}" for state, number in self.trials.items())
        folds = " and ".join(str(fold) for fold in self.folds)
        width = max(len(path) for path in self.options)
        shares = self.importance or {}
        best = f"trial {self.number}, masked mIoU {self.score:.4f}"
        lines = [
            f"{self.experiment.parent}: {sum(self.trials.values())} trials ({counts})",
            f"best: {best} on the held-out images of fold {folds}",
        ]
        for path, value in self.options.items():
            share = f"  importance {shares[path]:.2f}" if path in shares else ""
            shown = f"{value:.4g}" if isinstance(value, float) else value
            lines.append(f"  {path:{width}}  {shown}{share}")
        lines += [f"no {IMPORTANCE}: {self.unknown}"] if self.unknown else []
        lines.append(
            f"That score is optimistic: it is the highest of {self.trials['complete']} on the"
            " images they were compared on. `ens score` examines it on validation."
        )
        return "\n".join(lines)


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
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
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


LOSS_TABLE_TABLE = "results.csv"


@dataclass(frozen=True)
class Row:
    """A mixture's line.

    Args:
        loss: the mixture.
        scores: masked mIoU of each fold; None where it was not trained.
        mean: over the folds; None before all of them are there.
        sd: standard deviation of one fold, about the mean.
        state: `complete`, or why it was stopped or failed.
    """

    loss: str
    scores: list[float | None]
    mean: float | None
    sd: float | None
    state: str


def rows(found: Sequence[Mixture], folds: int, threshold: float) -> list[Row]:
    """Return a line for each mixture: complete ones first, by their mean."""
    lines = [_row(mixture, folds, threshold) for mixture in found]
    return sorted(lines, key=lambda row: -math.inf if row.mean is None else row.mean, reverse=True)


def table_text(lines: Sequence[Row]) -> str:
    """Write the table, and what its first line is worth."""
    folds = [f"fold {fold}" for fold in range(len(lines[0].scores))]
    cells = [["loss", *folds, "mean", "sd", "state"]]
    cells += [
        [row.loss, *map(decimal, [*row.scores, row.mean, row.sd]), row.state] for row in lines
    ]
    return "\n".join([*in_columns(cells, left=len(cells[0])), *_remarks(lines)])


def table_document(lines: Sequence[Row], recipe: Recipe) -> dict[str, Any]:
    """Give the table as a JSON document, with the recipe of the best."""
    best = best_recipe(lines, recipe)
    return {
        "mixtures": [asdict(row) for row in lines],
        "best": None if best is None else best.model_dump(mode="json"),
    }


def write_table(path: Path, lines: Sequence[Row]) -> None:
    """Write the table as CSV; empty where something is missing."""
    folds = [f"fold {fold}" for fold in range(len(lines[0].scores))]
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["loss", *folds, "mean", "sd", "state"])
        writer.writerows([row.loss, *row.scores, row.mean, row.sd, row.state] for row in lines)


def best_recipe(lines: Sequence[Row], recipe: Recipe) -> Recipe | None:
    """Return the recipe with the loss of the highest mean; None where none is complete."""
    if lines[0].mean is None:
        return None
    return recipe.model_copy(update={"loss": lines[0].loss})


def member_option(recipe: Recipe) -> str:
    """Write a recipe as `train-members --member` takes it."""
    return f"{NAME}={json.dumps(recipe.model_dump(mode='json', exclude_defaults=True))}"


def _row(mixture: Mixture, folds: int, threshold: float) -> Row:
    scores = [number(mixture.scores.get(fold, math.nan)) for fold in range(folds)]
    trained = [score for score in scores if score is not None]
    if mixture.failed:
        return Row(mixture.text, scores, None, None, f"failed: {mixture.failed}")
    if is_stopped(mixture, threshold):
        first = f"{decimal(scores[0])} < {decimal(threshold)}"
        return Row(mixture.text, scores, None, None, f"stopped after fold 0: {first}")
    if len(trained) < folds:
        return Row(mixture.text, scores, None, None, "a fold without a pixel to score")
    mean, sd = statistics.fmean(trained), statistics.stdev(trained)
    return Row(mixture.text, scores, mean, sd, "complete")


def _remarks(lines: Sequence[Row]) -> list[str]:
    complete = sum(row.mean is not None for row in lines)
    if not complete:
        return ["No mixture reached the threshold in its first fold; take a lower one."]
    return [
        (
            f"The first line is the highest of {complete} on the images they were compared on,"
            " so its mean is optimistic;"
        ),
        "folds share training images, so sd understates. `ens score` examines it on validation.",
    ]
