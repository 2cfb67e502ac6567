"""Which candidate is chosen, and which single member the gains are counted from."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OOF = "oof"
"""The split on which candidates are chosen."""


@dataclass(frozen=True)
class Choice:
    """Places of the candidates that matter, in the order in which they were given.

    Args:
        oof: the candidates' scores that were chosen by; NaN where there is none.
        chosen: the highest on oof; None where nobody has oof scores.
        reference: the highest single member on oof; on the examined split where no member has oof
            scores; None without members.
        reference_on: where the reference is the highest: `oof` or the examined split.
        split: the examined split.
    """

    oof: tuple[float, ...]
    chosen: int | None
    reference: int | None
    reference_on: str
    split: str

    @property
    def fixed(self) -> int | None:
        """The candidate whose comparison was fixed before the examined split was looked at."""
        return self.chosen if self.reference_on == OOF != self.split else None

    @property
    def looked_at(self) -> int:
        """How many other comparisons there are."""
        return len(set(range(len(self.oof))) - {self.fixed, self.reference})


def choose(
    oof: Sequence[float], examined: Sequence[float], members: Iterable[int], split: str
) -> Choice:
    """Choose by the scores on oof.

    Args:
        oof: scores; NaN where there is none.
        examined: scores.
        members: places of the single members.
        split: the examined split.
    """
    single = list(members)
    reference, reference_on = _highest(oof, single), OOF
    if reference is None:
        reference, reference_on = _highest(examined, single), split
    chosen = _highest(oof, range(len(oof)))
    return Choice(tuple(oof), chosen, reference, reference_on, split)


def _highest(scores: Sequence[float], among: Iterable[int]) -> int | None:
    known = [place for place in among if not math.isnan(scores[place])]
    return max(known, key=lambda place: scores[place], default=None)
