"""What the intervals did where they were tried, to be said where they are printed."""

COVERED = {8: (93.4, 93.6), 20: (93.5, 95.1), 92: (95.5, 96.0), 400: (95.7, 95.0)}
"""Groups -> percent of 1,000 simulated data sets whose 95 % interval held the score, and the
difference; from benchmarks/coverage.py."""

ERRED = {8: 4.0, 20: 4.4, 92: 5.0, 400: 4.1}
"""Groups -> percent of 1,000 simulated pairs without a difference that the test at 5 % told apart;
from the same script."""


def erred_with(groups: int) -> str:
    """Say how often the test erred with about as many groups."""
    tried = _tried(groups)
    return f"erred in {ERRED[tried]:g}% of simulations with {tried} groups"


def tried_with(groups: int) -> str | None:
    """Say how often such intervals held the truth with about as many groups; None with many.

    Args:
        groups: how many groups of pictures an interval is over.
    """
    if groups >= max(COVERED):
        return None
    tried = _tried(groups)
    score, difference = COVERED[tried]
    said = (
        f"{groups} groups: in simulations with {tried}, such 95% intervals held the true score in"
        f" {score:g}% and the true difference in {difference:g}% of the data sets"
    )
    return f"{said}; with fewer, trust them less." if groups < tried else f"{said}."


def _tried(groups: int) -> int:
    """Return the largest number of groups that was tried and is not above; the least, if none."""
    return max((number for number in COVERED if number <= groups), default=min(COVERED))
