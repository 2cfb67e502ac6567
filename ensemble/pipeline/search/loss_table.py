"""What came of mixtures of losses: a table for people, a document, a file, the best as a recipe."""

import csv
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ensemble.pipeline.search.loss_search import Mixture, is_stopped
from ensemble.pipeline.search.paths import NAME
from evaluation.cells import decimal, in_columns
from evaluation.ground.files import whole_file
from evaluation.scores import number
from members.recipe import Recipe

TABLE = "results.csv"


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
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
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
            f"The first line is the highest of {complete} on the pictures they were compared on,"
            " so its mean is optimistic;"
        ),
        "folds share training pictures, so sd understates. `ens score` examines it on validation.",
    ]
