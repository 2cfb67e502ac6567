"""How often do intervals cover the true score, and how often do tests of candidates err?

    nice .venv/bin/python benchmarks/coverage.py intervals [DATA_SETS]
    nice .venv/bin/python benchmarks/coverage.py candidates [DATA_SETS] [GROUPS] [CANDIDATES]
    nice .venv/bin/python benchmarks/coverage.py power [DATA_SETS]
    nice .venv/bin/python benchmarks/coverage.py recipes [DATA_SETS]

Prints the tables of docs/decisions/0005-intervals.md and 0018-which-may-be-best.md: shares, in
percent, of simulated data sets (tests/evaluation/simulated.py), 1,000 or 2,000 by default.
"""

import sys
from collections import defaultdict
from typing import get_args

import numpy as np

from evaluation.intervals import Method, interval, paired_interval
from evaluation.joint_tests import JointTests
from evaluation.protocols import PROTOCOLS
from evaluation.recipes import RecipeScores, compare_recipes
from tests.evaluation import simulated
from tests.evaluation.simulated import IGNORE, simulate

GROUPS = (8, 20, 92, 400)
RESAMPLES = 1_000
POPULATION, CHUNK = 200_000, 5_000
MASKED = PROTOCOLS.build("masked")
LEVEL = 0.95

SKILLS = np.array([[0, 0, 0, 0, 0], [0, 0.1, 0.1, 0.2, 0.3]])
"""The second candidate is better by .022."""
EVEN = np.array([[0, 0, 0, 0, 0], [0, -0.3, -0.3, 0.1, 1.266]])
"""They differ in every class, and almost not in the mean."""

EXAMS, CANDIDATES = (24, 92, 400), (5, 30, 100)
FAMILY, CORRELATION = 5, 0.9
"""Candidates per family, such as chains of one fusion, and the correlation of their own errors."""
FLIPS_PER_PAIR = 50


def true_scores(skills):
    """Return the scores over so many groups that chance does not matter."""
    rng, total = np.random.default_rng(1), 0
    for _ in range(POPULATION // CHUNK):
        total = total + simulate(CHUNK, skills, rng).counts.sum(axis=1)
    return MASKED(total, IGNORE).miou


def coverage(groups, data_sets, scores):
    """Return the share of intervals that cover the true score, by kind and method."""
    rng, covered = np.random.default_rng(groups), defaultdict(list)
    a, b = scores
    for _ in range(data_sets):
        sample = simulate(groups, SKILLS, rng)
        for method in get_args(Method):
            options = {"rng": rng, "method": method, "resamples": RESAMPLES}
            single = interval(sample.counts[0], sample.groups, MASKED, IGNORE, **options)
            paired = paired_interval(*sample.counts, sample.groups, MASKED, IGNORE, **options)
            covered["score", method].append(single.low <= a <= single.high)
            covered["difference", method].append(paired.low <= a - b <= paired.high)
    return {f"{kind}: {method}": np.mean(hits) for (kind, method), hits in covered.items()}


def families_of(candidates):
    """Return the family of each candidate; a few candidates are of one each, as single members."""
    return np.arange(candidates) // (1 if candidates <= FAMILY else FAMILY)


def simulate_unions(groups, skills, rng, families=None):
    """Return intersections and unions of the scored classes, (candidate, group, 2, class).

    As `simulate`, but the difficulty of images is drawn once per group, and candidates of a family
    share most of their own errors.
    """
    candidates, classes = len(skills), len(simulated.PRESENT)
    images = 1 + rng.lognormal(np.log(simulated.MIDDLE_IMAGES), 1, groups).astype(np.int64)
    index = np.repeat(np.arange(groups), images.clip(max=simulated.MOST_IMAGES))
    extent = rng.gamma(simulated.PATCHY, simulated.EXTENT, (groups, classes))
    extent *= rng.random((groups, classes)) < simulated.PRESENT
    area = rng.gamma(2 * extent[index] + [0.1, 0, 0, 0, 0])
    area /= area.sum(axis=1, keepdims=True)
    area = np.add.reduceat(area, np.flatnonzero(np.diff(index, prepend=-1)), axis=0)
    hard = simulated.RECALL + rng.normal(
        0, np.hypot(simulated.HARD_GROUP, simulated.HARD_IMAGE), (groups, classes)
    )
    spread = rng.gamma(1.0, 1.0, (groups, classes, classes)) * simulated.TAKEN_FOR
    spread /= spread.sum(axis=-1, keepdims=True)
    families = families_of(candidates) if families is None else families
    shared = rng.normal(0, simulated.OWN, (families[-1] + 1, groups, classes))[families]
    own = rng.normal(0, simulated.OWN, (candidates, groups, classes))
    odds = hard + skills[:, np.newaxis]
    odds += np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own
    hits = area / (1 + np.exp(-odds))
    missed = area - hits
    missed[..., IGNORE] = 0
    taken = np.einsum("kgt,gtp->kgp", missed, spread)
    return np.stack([hits, area + taken], axis=2)[..., 1:]


def mean_iou(unions):
    """Return the mean IoU of sums of intersections and unions, (..., 2, class)."""
    hits, union = unions[..., 0, :], unions[..., 1, :]
    return np.nanmean(np.where(union > 0, hits / np.where(union > 0, union, 1), np.nan), axis=-1)


def joint_tests(unions, rng):
    """Return the tests of simulated candidates."""
    total = unions.sum(axis=1, keepdims=True)
    left_out = mean_iou(total - unions)
    return JointTests.from_influences(mean_iou(total[:, 0]), left_out, rng=rng, resamples=RESAMPLES)


def skills_of(scenario, candidates, *, worse=1.0):
    """Return the skills of candidates, and which of them are the best."""
    if scenario == "equal":
        return np.zeros((candidates, 5)), np.arange(candidates)
    if scenario == "unequal classes":  # they differ from family to family
        return EVEN[families_of(candidates) % 2], np.arange(candidates)
    lower = np.zeros(candidates)
    if scenario == "half best":  # the others are lower, some much and some hardly
        half = candidates // 2
        lower[half:] = np.random.default_rng(0).exponential(worse, candidates - half)
    else:  # one best
        lower[1:] = worse
    return -lower[:, np.newaxis] * np.ones(5), np.flatnonzero(lower == 0)


def errors_of(scenario, groups, candidates, data_sets):
    """Return how often tests of candidates err, by kind of test.

    `all pairs`: the interval of at least one pair of the best excludes 0. `any`: the confidence set
    excludes at least one of the best. `one`: it excludes a given one of them. `max-T`: at least one
    other of the best is found to differ from that one by step-down max-T.
    """
    rng, errors = np.random.default_rng([groups, candidates]), defaultdict(list)
    skills, best = skills_of(scenario, candidates)
    for _ in range(data_sets):
        tests = joint_tests(simulate_unions(groups, skills, rng), rng)
        lost = tests.set_p[best] <= 1 - LEVEL
        level, most = tests.pairs_level(LEVEL), tests.most_freedom
        deviates = np.stack([tests.deviates(k, most)[best] for k in best])
        errors["all pairs"].append(np.abs(deviates).max() > _deviate(level))
        errors["any"].append(lost.any())
        errors["one"].append(lost[0])
        against = tests.against(best[0], range(1, candidates), level=LEVEL)
        errors["max-T"].append((against.p[best[1:]] <= 1 - LEVEL).any())
    return {name: np.mean(values) for name, values in errors.items()}


def _deviate(level):
    from scipy.special import ndtri

    return ndtri((1 + level) / 2)


def sign_flips_and_holm(unions, first, rng):
    """Return p-values of gaps to the first: sign flips, corrected by Holm for all pairs.

    It is what the leaderboard used before.
    """
    candidates, groups = unions.shape[:2]
    pairs = candidates * (candidates - 1) // 2
    others = [index for index in range(candidates) if index != first]
    half = (unions[first] - unions[others]) / 2
    middle = (unions[first] + unions[others]).sum(axis=1) / 2
    observed = np.abs(mean_iou(middle + half.sum(axis=1)) - mean_iou(middle - half.sum(axis=1)))
    flat, larger = half.transpose(1, 0, 2, 3).reshape(groups, -1), np.zeros(len(others))
    flips = max(10_000, FLIPS_PER_PAIR * pairs)
    for start in range(0, flips, 1_000):
        signs = 1.0 - 2.0 * rng.integers(2, size=(min(1_000, flips - start), groups))
        moved = (signs @ flat).reshape(-1, *middle.shape)
        gaps = np.abs(mean_iou(middle + moved) - mean_iou(middle - moved))
        larger += (gaps >= observed - 1e-12).sum(axis=0)
    p, order = (larger + 1) / (flips + 1), np.argsort(larger)
    corrected = np.ones(candidates)
    stepped = np.minimum(1, p[order] * (pairs - np.arange(len(order))))
    corrected[np.asarray(others)[order]] = np.maximum.accumulate(stepped)
    return corrected


def power_of(scenario, worse, groups, candidates, data_sets):
    """Return the share of lower candidates that are found to be lower, by kind of test."""
    rng, found = np.random.default_rng([groups, candidates, 7]), defaultdict(list)
    skills, best = skills_of(scenario, candidates, worse=worse)
    lower = np.setdiff1d(np.arange(candidates), best)
    for _ in range(data_sets):
        unions = simulate_unions(groups, skills, rng)
        tests = joint_tests(unions, rng)
        first = int(np.argmax(tests.scores))
        flips = sign_flips_and_holm(unions, first, rng)
        found["Holm"].append((flips[lower] <= 1 - LEVEL).mean())
        found["set"].append((tests.set_p[lower] <= 1 - LEVEL).mean())
        fixed = tests.against(best[0], range(1, candidates), level=LEVEL)
        found["max-T"].append((fixed.p[lower] <= 1 - LEVEL).mean())
    return {name: np.mean(values) for name, values in found.items()}


def recipe_coverage(trainings, groups, spread, data_sets):
    """Return how often the interval of two equal recipes holds 0, and its median half width.

    Trainings of a recipe are a family, with correlated errors.

    Args:
        trainings: number of each recipe's trainings.
        groups: number of groups per data set.
        spread: standard deviation of a training's log-odds, for each class.
        data_sets: number of simulations.
    """
    rng, held, widths = np.random.default_rng([groups, trainings]), [], []
    for _ in range(data_sets):
        skills = rng.normal(0, spread, (2 * trainings, len(simulated.PRESENT)))
        unions = simulate_unions(groups, skills, rng, np.repeat([0, 1], trainings))
        total = unions.sum(axis=1, keepdims=True)
        scores, left_out = mean_iou(total[:, 0]), mean_iou(total - unions)
        parts = [slice(None, trainings), slice(trainings, None)]
        result = compare_recipes(*(RecipeScores("", scores[p], left_out[p]) for p in parts))
        held.append(result.interval.low <= 0 <= result.interval.high)
        widths.append((result.interval.high - result.interval.low) / 2)
    return np.mean(held), np.median(widths)


def print_recipes(data_sets):
    """Print the coverage of intervals over trainings and groups."""
    for spread in (0.05, 0.2):
        for groups in (24, 92):
            for trainings in (2, 3, 5):
                held, width = recipe_coverage(trainings, groups, spread, data_sets)
                cell = f"{spread:g} log-odds {groups:4} groups {trainings:2} trainings"
                print(f"{cell}  holds {100 * held:.1f}  half width {width:.3f}", flush=True)


def print_intervals(data_sets):
    """Print the coverage of intervals, by number of groups."""
    rows, scores = defaultdict(list), true_scores(SKILLS)
    for groups in GROUPS:
        for name, share in coverage(groups, data_sets, scores).items():
            rows[name].append(share)
    print(f"{'groups':32}" + "".join(f"{groups:8}" for groups in GROUPS))
    for name, shares in rows.items():
        print(f"{name:32}" + "".join(f"{100 * share:8.1f}" for share in shares))


def print_candidates(data_sets, exams=EXAMS, numbers=CANDIDATES):
    """Print how often tests of candidates err."""
    for groups in exams:
        for candidates in numbers:
            for scenario in ("equal", "unequal classes", "half best"):
                _print(
                    scenario, groups, candidates, errors_of(scenario, groups, candidates, data_sets)
                )


def print_power(data_sets):
    """Print how often lower candidates are found, in settings where Holm finds some."""
    for groups, candidates, scenario, worse in (
        (24, 30, "half best", 0.5),
        (24, 30, "one best", 0.5),
        (92, 30, "half best", 0.2),
        (92, 30, "one best", 0.2),
        (400, 30, "half best", 0.1),
        (400, 30, "one best", 0.1),
        (92, 60, "half best", 0.2),
    ):
        shares = power_of(scenario, worse, groups, candidates, data_sets)
        _print(f"{scenario} {worse:g}", groups, candidates, shares)


def _print(scenario, groups, candidates, shares):
    cells = "".join(f"  {name} {100 * share:.1f}" for name, share in shares.items())
    print(f"{groups:4} groups {candidates:4} candidates  {scenario:16}{cells}", flush=True)


def main():
    """Print one of the tables."""
    what, *numbers = sys.argv[1:]
    given = [int(number) for number in numbers]
    if what == "intervals":
        print_intervals(*given or [1_000])
    elif what == "recipes":
        print_recipes(*given or [2_000])
    elif what == "power":
        print_power(*given or [200])
    else:
        data_sets, *cell = given or [2_000]
        print_candidates(data_sets, *[(number,) for number in cell])


if __name__ == "__main__":
    main()
