"""Which candidates are not worse than a given one by more than a margin, and which are equivalent.

A candidate is shown to be *not worse* if the lower bound of its difference lies above minus the
margin, and *equivalent* if the upper bound lies below the margin, too: two one-sided tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.core.errors import BadData, unknown
from evaluation.joint_tests import JointTests

Statement = Literal["equivalent", "not worse", "worse", "not shown"]


@dataclass(frozen=True)
class MarginRow:
    """A candidate compared with the given one.

    Args:
        name: of the candidate.
        difference: its score minus that of the given one.
        low: lower bound of the difference.
        high: upper bound.
        statement: `worse` is by more than the margin; `not shown` if the images decide nothing.
    """

    name: str
    difference: float
    low: float
    high: float
    statement: Statement

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "statement": self.statement,
        }


@dataclass(frozen=True)
class MarginComparison:
    """Candidates compared with a given one, with a margin.

    Args:
        to: name of the given candidate.
        margin: difference in score that does not matter.
        predeclared: whether `to` was fixed before the images were examined; if not, the bounds
            hold for all pairs of candidates.
        level: at which all lower bounds together hold, and all upper ones.
        bound_level: of each bound, so that they do.
        rows: of the other candidates that can be compared.

    References:
        Schuirmann, "A Comparison of the Two One-Sided Tests Procedure and the Power Approach",
        Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.
    """

    to: str
    margin: float
    predeclared: bool
    level: float
    bound_level: float
    rows: tuple[MarginRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "to": self.to,
            "margin": self.margin,
            "predeclared": self.predeclared,
            "level": self.level,
            "bound_level": self.bound_level,
            "candidates": [row.to_dict() for row in self.rows],
        }


def check_margin(margin: float, to: str | None, names: Sequence[str], groups: int) -> None:
    """Check that candidates can be compared with a margin.

    Raises:
        BadData: the margin is not above 0, no such candidate, or a single candidate or group.
    """
    if not 0 < margin < 1:
        raise BadData(f"the margin is {margin:g}; expected a difference in score, above 0 to 1")
    if to is not None and to not in names:
        raise BadData(unknown("candidate", to, names))
    if len(names) < 2:
        raise BadData(f"{names[0]!r} is the only candidate; a margin needs two, score another")
    if groups < 2:
        raise BadData(
            "all images are of one group, so differences have no error; a margin needs two groups"
        )


def compare_with_margin(
    tests: JointTests,
    names: Sequence[str],
    to: int,
    margin: float,
    *,
    predeclared: bool,
    level: float,
) -> MarginComparison:
    """Compare candidates with a given one.

    Args:
        tests: of the candidates.
        names: of the candidates.
        to: index of the given one.
        margin: difference in score that does not matter.
        predeclared: whether the given one was fixed before the images were examined.
        level: at which all lower bounds together hold, and all upper ones.
    """
    others = [index for index in range(len(names)) if index != to]
    if predeclared:
        against = tests.against(to, others, level=level)
        bound_level, most_freedom = against.bound_level, against.most_freedom
    else:
        bound_level, most_freedom = (1 + tests.pairs_level(level)) / 2, tests.most_freedom
    rows = []
    for index in others:
        # An interval leaves out as much on each side as a bound on one.
        ends = tests.interval(index, to, 2 * bound_level - 1, most_freedom=most_freedom)
        if ends is not None:
            gap = float(tests.scores[index] - tests.scores[to])
            statement = _statement(ends.low, ends.high, margin)
            rows.append(MarginRow(names[index], gap, ends.low, ends.high, statement))
    rows.sort(key=lambda row: -row.difference)
    return MarginComparison(names[to], margin, predeclared, level, bound_level, tuple(rows))


def _statement(low: float, high: float, margin: float) -> Statement:
    if low > -margin:
        return "equivalent" if high < margin else "not worse"
    return "worse" if high < -margin else "not shown"
