"""How often do intervals cover the true score, and how often do tests err, by number of groups?

    nice .venv/bin/python benchmarks/coverage.py [DATA_SETS]

Prints the table of docs/decisions/0005-intervals.md: shares, in percent, of simulated data sets
(tests/evaluation/simulated.py), 1,000 by default; takes some minutes on one core.
"""

import sys
from collections import defaultdict
from typing import get_args

import numpy as np

from evaluation.intervals import (
    Method,
    group_sums,
    interval,
    paired_interval,
)
from evaluation.protocols import PROTOCOLS
from evaluation.significance import holm, sign_flip_test
from tests.evaluation.simulated import IGNORE, simulate

GROUPS = (8, 20, 92, 400)
RESAMPLES = FLIPS = 1_000
POPULATION, CHUNK = 200_000, 5_000
MASKED = PROTOCOLS.build("masked")
LEVEL = 0.95

SKILLS = np.array([[0, 0, 0, 0, 0], [0, 0.1, 0.1, 0.2, 0.3]])
"""The second candidate is better by .022."""
EVEN = np.array([[0, 0, 0, 0, 0], [0, -0.3, -0.3, 0.1, 1.266]])
"""They differ in every class, and almost not in the mean."""
MANY = 10


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


def error_rate(groups, skills, data_sets, *, tests=(1,)):
    """Return how often any candidate differs significantly from the first, with no true difference.

    Args:
        groups: number of groups per data set.
        skills: of the candidates.
        data_sets: number of simulations.
        tests: numbers of tests that Holm's correction is made for.
    """
    rng, errors = np.random.default_rng(groups + 1), []
    for _ in range(data_sets):
        sample = simulate(groups, skills, rng)
        sums = group_sums(sample.counts, sample.groups)
        order = np.argsort(-MASKED(sums.sum(axis=1), IGNORE).miou)
        first, *others = sums[order]
        p = sign_flip_test(first, others, MASKED, IGNORE, rng=rng, flips=FLIPS)
        errors.append([(holm(p, tests=number) <= 1 - LEVEL).any() for number in tests])
    return np.mean(errors, axis=0)


def main():
    data_sets = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    rows, scores = defaultdict(list), true_scores(SKILLS)
    alike, pairs = np.zeros((MANY, 5)), MANY * (MANY - 1) // 2
    for groups in GROUPS:
        for name, share in coverage(groups, data_sets, scores).items():
            rows[name].append(share)
        rows["test: alike"] += list(error_rate(groups, alike[:2], data_sets))
        rows["test: unlike, same mean"] += list(error_rate(groups, EVEN, data_sets))
        by_first, by_pairs = error_rate(groups, alike, data_sets, tests=(MANY - 1, pairs))
        rows[f"{MANY} alike, Holm over {MANY - 1}"].append(by_first)
        rows[f"{MANY} alike, Holm over {pairs}"].append(by_pairs)
    print(f"{'groups':32}" + "".join(f"{groups:8}" for groups in GROUPS))
    for name, shares in rows.items():
        print(f"{name:32}" + "".join(f"{100 * share:8.1f}" for share in shares))


if __name__ == "__main__":
    main()
