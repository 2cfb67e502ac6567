"""The difference between two recipes, with an interval over trainings and groups of images.

A recipe's score is the mean over all trainings that it could have had, each a whole
cross-validation from another seed. Trainings are nested in recipes; every training is scored on the
same groups of images. So the error has two parts: other trainings, and other images.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from evaluation.core.errors import BadData
from evaluation.intervals import (
    LEVEL,
    Interval,
    Level,
    effective_freedom,
    interval_to_dict,
    student_quantile,
)

Scores = Float[np.ndarray, " training"]
LeftOut = Float[np.ndarray, "training group"]


@dataclass(frozen=True)
class RecipeScores:
    """Scores of the trainings of one recipe on the same images.

    Args:
        name: of the recipe.
        scores: of each training.
        left_out: of each training without each group of images.
    """

    name: str
    scores: Scores
    left_out: LeftOut


@dataclass(frozen=True)
class RecipeDifference:
    """The difference in mean score between two recipes.

    Args:
        first: name of the recipe whose score is higher by `value`.
        second: name of the other.
        trainings: number of each recipe's trainings.
        groups: number of groups of images.
        value: mean score of the trainings of the first, minus that of the second.
        interval: over other trainings and other images.
        by_trainings: standard error that more trainings would remove.
        by_images: standard error that more groups of images would remove.
        freedom: degrees of freedom of the whole error.
    """

    first: str
    second: str
    trainings: tuple[int, int]
    groups: int
    value: float
    interval: Interval
    by_trainings: float
    by_images: float
    freedom: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "recipes": [self.first, self.second],
            "trainings": list(self.trainings),
            "groups": self.groups,
            "difference": self.value,
            "interval": interval_to_dict(self.interval),
            "error_by_trainings": self.by_trainings,
            "error_by_images": self.by_images,
            "freedom": self.freedom,
        }


def compare_recipes(
    first: RecipeScores, second: RecipeScores, *, level: Level = LEVEL
) -> RecipeDifference:
    """Compare two recipes by the scores of their trainings.

    The variance of the difference is that over trainings, plus that over groups by the jackknife,
    less that of their interaction, which is part of both. Its degrees of freedom match the
    variance of that sum. Trainings of equal seeds are not paired.

    Args:
        first: scores of one recipe.
        second: of the other, on the same groups.
        level: of the interval.

    Raises:
        BadData: a recipe with one training, a single group, or trainings without a score.

    References:
        Gallas, "One-Shot Estimate of MRMC Variance: AUC", Academic Radiology 13, 2006: readers and
        cases, here trainings and groups. Owen, "The Pigeonhole Bootstrap", Annals of Applied
        Statistics 1, 2007: resampling both counts the interaction twice. Satterthwaite, Biometrics
        Bulletin 2, 1946.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> a, b = (RecipeScores(n, rng.normal(m, 0.01, 3), rng.normal(m, 0.001, (3, 20)))
        ...         for n, m in (("a", 0.6), ("b", 0.5)))
        >>> round(compare_recipes(a, b).value, 1)
        0.1
    """
    for recipe in (first, second):
        _check(recipe)
    groups = first.left_out.shape[1]
    of_trainings = [float(r.scores.var(ddof=1)) / len(r.scores) for r in (first, second)]
    means = first.left_out.mean(axis=0) - second.left_out.mean(axis=0)
    squares = (means - means.mean()) ** 2
    of_groups = (groups - 1) / groups * float(squares.sum())
    interaction = sum(_interaction(recipe) for recipe in (first, second))
    trainings = sum(of_trainings)
    variance = max(trainings + of_groups - interaction, trainings, of_groups)
    free_groups = float(effective_freedom(squares[np.newaxis])[0])
    parts = [
        *((v, len(r.scores) - 1) for v, r in zip(of_trainings, (first, second), strict=True)),
        (of_groups, free_groups),
    ]
    spread = sum(part**2 / freedom for part, freedom in parts)
    freedom = max(1.0, variance**2 / spread) if spread > 0 else free_groups
    value = float(first.scores.mean() - second.scores.mean())
    half = float(np.sqrt(variance)) * student_quantile(freedom, level)
    return RecipeDifference(
        first=first.name,
        second=second.name,
        trainings=(len(first.scores), len(second.scores)),
        groups=groups,
        value=value,
        interval=Interval(value - half, value + half, level),
        by_trainings=float(np.sqrt(max(0.0, variance - max(0.0, of_groups - interaction)))),
        by_images=float(np.sqrt(max(0.0, variance - max(0.0, trainings - interaction)))),
        freedom=freedom,
    )


def check_recipe(name: str, trainings: int) -> None:
    """Check that a recipe's spread over trainings is known.

    Raises:
        BadData: it has a single one.
    """
    if trainings < 2:
        raise BadData(
            f"recipe {name!r} has one training; expected two or more, train with --repeats 2"
        )


def _interaction(recipe: RecipeScores) -> float:
    """Return the variance of a recipe's mean score by the interaction of trainings and groups."""
    trainings, groups = recipe.left_out.shape
    centred = recipe.left_out - recipe.left_out.mean(axis=1, keepdims=True)
    own = centred - centred.mean(axis=0)
    squares = float((own**2).sum())
    return float((groups - 1) / groups * squares / (trainings - 1) / trainings)


def _check(recipe: RecipeScores) -> None:
    trainings, groups = recipe.left_out.shape
    check_recipe(recipe.name, trainings)
    if groups < 2:
        raise BadData("all images are of one group, so a difference has no error over images")
    if np.isnan(recipe.scores).any() or np.isnan(recipe.left_out).any():
        raise BadData(f"recipe {recipe.name!r}: the metric is undefined on these images")
    if len(np.unique(recipe.left_out, axis=0)) < trainings:
        raise BadData(
            f"recipe {recipe.name!r}: two trainings have the same scores; expected other seeds"
        )
