"""Compare two recipes of a run by the scores of their repeated trainings."""

import numpy as np

from ensemble.pipeline.candidates.postprocess import ARGMAX
from ensemble.pipeline.candidates.staleness import scores_record
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from ensemble.pipeline.scoring.score import deciding_protocol, without_trained_on
from evaluation.core.errors import BadRun, BadSpec, LeakageError
from evaluation.core.progress import Log
from evaluation.core.run_folder import Run
from evaluation.formatting import format_decimal, format_interval
from evaluation.leaderboard import Candidate
from evaluation.protocols import build_protocol
from evaluation.recipes import RecipeDifference, RecipeScores, check_recipe, compare_recipes
from evaluation.run_metric import metric_label
from evaluation.scores import CandidateScores, read_scores
from members.recipe import repeats_of

COVERAGE = {
    (24, 2): 97.5,
    (24, 3): 96.0,
    (24, 5): 96.5,
    (92, 2): 96.0,
    (92, 3): 96.0,
    (92, 5): 96.5,
}
"""(Groups, trainings) -> percent of 2,000 simulated data sets whose 95 % interval held the true
difference, the smaller one of two spreads of trainings; from benchmarks/coverage.py."""


def compare_recipes_of(
    run: Run, names: str, *, split: str, protocol: str | None = None, log: Log
) -> tuple[RecipeDifference, str]:
    """Compare two recipes, each by its trainings' own scores by argmax; nothing is made or scored.

    Args:
        run: the experiment folder.
        names: of two recipes, with a comma between.
        split: the split to evaluate on.
        protocol: spec of the protocol that decides; by default the run's metric.
        log: receives a line on the metric.

    Returns:
        The difference, and the protocol.

    Raises:
        BadSpec: not two recipes of the run.
        BadRun: no such split, or a training without current scores.
        BadData: a recipe with one training, or equal ones; one group; an undefined metric.
        LeakageError: a training has seen images of the split.
    """
    members, recipes = RunMembers.of(run), run_experiment(run).recipes()
    members.check_split(split)
    pair = [name.strip() for name in names.split(",")]
    if len(pair) != 2 or pair[0] == pair[1]:
        raise BadSpec(f"--recipes {names!r}; expected two names of recipes, such as unet,aspp")
    trainings = {name: repeats_of(recipes, name) for name in pair}
    for name, repeats in trainings.items():
        check_recipe(name, len(repeats))
    protocol = deciding_protocol(run, protocol, split, log)
    candidates = {
        f"{member}_{ARGMAX}": member for repeats in trainings.values() for member in repeats
    }
    missing = [name for name in candidates if not scores_record(run, name, split).is_current()]
    if missing:
        raise BadRun(
            f"no current scores of {', '.join(missing)} on {split!r}; run"
            f" `ens score --run {run.path} --split {split}`"
        )
    scored = [Candidate(name, read_scores(run.scores(name), split)[1]) for name in candidates]
    kept = without_trained_on(members, scored, candidates, split, log)
    if len(kept) < len(scored):
        raise LeakageError(f"trainings were left out, so {names} cannot be compared on {split}")
    classes = run_classes(run)
    scorer = build_protocol(protocol, classes)
    scores = CandidateScores.of([c.examined for c in scored], scorer, classes.ignore)
    first, second = (
        _recipe_scores(name, [list(candidates.values()).index(m) for m in repeats], scores)
        for name, repeats in trainings.items()
    )
    return compare_recipes(first, second), protocol


def _recipe_scores(name: str, indices: list[int], scores: CandidateScores) -> RecipeScores:
    left_out = np.stack([scores.left_out[index].miou for index in indices])
    return RecipeScores(name, scores.mious[indices], left_out)


def format_recipes(result: RecipeDifference, protocol: str) -> str:
    """Write a difference between recipes as text."""
    metric, value = metric_label(protocol), format_decimal(result.value, "+")
    ends = format_interval(result.interval, "+")
    trainings, images = format_decimal(result.by_trainings), format_decimal(result.by_images)
    return (
        f"{result.first} minus {result.second}, {metric}: {value}, 95% interval {ends}\n"
        f"Over {result.trainings[0]} and {result.trainings[1]} trainings and {result.groups} groups"
        " of images, for the mean score of one fresh cross-validated training.\n"
        f"Standard errors: {trainings} that more trainings would remove, {images} that more groups"
        f" of images would remove; {result.freedom:.1f} degrees of freedom.\n{_coverage(result)}"
    )


def _coverage(result: RecipeDifference) -> str:
    known = min(COVERAGE, key=lambda cell: _distance(cell, result))
    groups, trainings = known
    return (
        f"In simulations with {trainings} trainings of each and {groups} groups, such intervals"
        f" held the true difference in {COVERAGE[known]:g}% of the data sets."
    )


def _distance(cell: tuple[int, int], result: RecipeDifference) -> float:
    groups, trainings = cell
    return float(
        abs(np.log(groups / result.groups)) + abs(np.log(trainings / min(result.trainings)))
    )
