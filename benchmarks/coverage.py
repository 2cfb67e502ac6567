"""How often do intervals hold the target, and how often do tests err, with how many groups?

    nice .venv/bin/python benchmarks/coverage.py [DATA_SETS]

Prints the table of docs/decisions/0005-intervals.md: shares, in percent, of simulated data sets
(tests/evaluation/simulated.py), 1,000 of them if nothing else is said; some minutes on one core.
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
"""They differ in every class, and hardly in the mean."""
MANY = 10


def true_scores(skills):
    """Score so many groups that chance is out."""
    rng, total = np.random.default_rng(1), 0
    for _ in range(POPULATION // CHUNK):
        total = total + simulate(CHUNK, skills, rng).counts.sum(axis=1)
    return MASKED(total, IGNORE).miou


def covered(groups, data_sets, target):
    """Return the share of intervals that hold the target, by kind and method."""
    rng, held = np.random.default_rng(groups), defaultdict(list)
    a, b = target
    for _ in range(data_sets):
        drawn = simulate(groups, SKILLS, rng)
        for method in get_args(Method):
            options = {"rng": rng, "method": method, "resamples": RESAMPLES}
            one = interval(drawn.counts[0], drawn.groups, MASKED, IGNORE, **options)
            two = paired_interval(*drawn.counts, drawn.groups, MASKED, IGNORE, **options)
            held["score", method].append(one.low <= a <= one.high)
            held["difference", method].append(two.low <= a - b <= two.high)
    return {f"{kind}: {method}": np.mean(found) for (kind, method), found in held.items()}


def erring(groups, skills, data_sets, *, tests=(1,)):
    """Return how often any candidate is told from the first though there is no difference.

    Args:
        groups: of each data set.
        skills: of the candidates.
        data_sets: how many.
        tests: numbers of tests that Holm's correction is made for.
    """
    rng, told = np.random.default_rng(groups + 1), []
    for _ in range(data_sets):
        drawn = simulate(groups, skills, rng)
        sums = group_sums(drawn.counts, drawn.groups)
        order = np.argsort(-MASKED(sums.sum(axis=1), IGNORE).miou)
        first, *others = sums[order]
        found = sign_flip_test(first, others, MASKED, IGNORE, rng=rng, flips=FLIPS)
        told.append([(holm(found, tests=number) <= 1 - LEVEL).any() for number in tests])
    return np.mean(told, axis=0)


def main():
    data_sets = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    rows, target = defaultdict(list), true_scores(SKILLS)
    alike, pairs = np.zeros((MANY, 5)), MANY * (MANY - 1) // 2
    for groups in GROUPS:
        for name, share in covered(groups, data_sets, target).items():
            rows[name].append(share)
        rows["test: alike"] += list(erring(groups, alike[:2], data_sets))
        rows["test: unlike, same mean"] += list(erring(groups, EVEN, data_sets))
        by_first, by_pairs = erring(groups, alike, data_sets, tests=(MANY - 1, pairs))
        rows[f"{MANY} alike, Holm over {MANY - 1}"].append(by_first)
        rows[f"{MANY} alike, Holm over {pairs}"].append(by_pairs)
    print(f"{'groups':32}" + "".join(f"{groups:8}" for groups in GROUPS))
    for name, shares in rows.items():
        print(f"{name:32}" + "".join(f"{100 * share:8.1f}" for share in shares))


if __name__ == "__main__":
    main()
