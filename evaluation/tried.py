"""What the intervals did where they were tried, to be said where they are printed."""

COVERED = {20: (93.5, 95.1), 92: (95.5, 96.0), 400: (95.7, 95.0)}
"""Groups -> percent of 1,000 simulated data sets whose 95 % interval held the score, and the
difference; from benchmarks/coverage.py."""


def tried_with(groups: int) -> str | None:
    """Say how often such intervals held the truth with about as many groups; None with many.

    Args:
        groups: how many groups of pictures an interval is over.
    """
    if groups >= max(COVERED):
        return None
    few = min(COVERED)
    tried = max((number for number in COVERED if number <= groups), default=few)
    score, difference = COVERED[tried]
    said = (
        f"{groups} groups: in simulations with {tried}, such 95% intervals held the true score in"
        f" {score:g}% and the true difference in {difference:g}% of the data sets"
    )
    return f"{said}; with fewer, trust them less." if groups < few else f"{said}."
