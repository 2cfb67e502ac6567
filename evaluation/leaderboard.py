"""Candidates side by side: chosen on one set of pictures, examined on another.

"Highest" is a fact about a sample; "better" is said only where the paired interval against the
highest single member lies above 0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.bootstrap import (
    LEVEL,
    RESAMPLES,
    Interval,
    Level,
    Replicates,
    Resamples,
    expanded_percentile,
    group_sums,
    replicates,
)
from evaluation.ground.arrays import Counts
from evaluation.ground.classes import Classes
from evaluation.ground.errors import BadData
from evaluation.iou import Score
from evaluation.protocols import PROTOCOLS
from evaluation.scores import ScoredPictures, iou_by_name

OOF = "oof"
"""The split on which candidates are chosen."""


@dataclass(frozen=True)
class Candidate:
    """What is known of a candidate before it is compared.

    Args:
        name: of the candidate.
        examined: its counts on the split that is examined.
        oof: its counts on the split that candidates are chosen on; None where there is none.
        is_member: whether it is one member with nothing done to its maps but argmax.
    """

    name: str
    examined: ScoredPictures
    oof: ScoredPictures | None = None
    is_member: bool = False


@dataclass(frozen=True)
class Row:
    """One candidate on the leaderboard.

    Args:
        name: of the candidate.
        is_member: whether it is a single member.
        chosen: whether it is the highest on oof.
        reference: whether it is the single member that all are compared with.
        oof: score on oof; NaN where there is none.
        examined: score on the examined split.
        interval: of the examined score; None where one group is all there is.
        gain: examined score minus the reference's; NaN for the reference itself.
        gain_interval: paired, of the gain; None as above, and for the reference itself.
        better: whether the paired interval lies above 0.
        iou: per class on the examined split, by name; None where absent.
        others: examined score under the other protocols, by name.
    """

    name: str
    is_member: bool
    chosen: bool
    reference: bool
    oof: float
    examined: float
    interval: Interval | None
    gain: float
    gain_interval: Interval | None
    better: bool
    iou: Mapping[str, float | None]
    others: Mapping[str, float]


@dataclass(frozen=True)
class Leaderboard:
    """Rows, highest examined score first, and what was chosen.

    Args:
        split: the name of the examined split.
        protocol: what the scores, gains and intervals mean.
        rows: one a candidate.
        chosen: the candidate highest on oof; None where nobody has oof scores.
        reference: the highest single member on oof; on the examined split where no member has
            oof scores; None without members.
        reference_on: `oof` or the examined split: where the reference is the highest.
        optimism: the chosen candidate's oof score minus its examined score; NaN where nothing
            was chosen, or where the examined split is oof itself.
        level: of the intervals of scores, and of the chosen candidate's gain.
        gain_level: of the other candidates' gains, so that all of them together hold at `level`.
        groups: how many groups of pictures were resampled.
    """

    split: str
    protocol: str
    rows: tuple[Row, ...]
    chosen: str | None
    reference: str | None
    reference_on: str
    optimism: float
    level: float
    gain_level: float
    groups: int


def compare(
    candidates: Sequence[Candidate],
    classes: Classes,
    *,
    rng: np.random.Generator,
    split: str = "validation",
    protocol: str = "masked",
    level: Level = LEVEL,
    resamples: Resamples = RESAMPLES,
) -> Leaderboard:
    """Compare candidates that were scored on the same pictures.

    The chosen candidate's gain is one comparison, fixed before the split was examined, and has an
    interval at `level`. The other gains are looked at because they are there: theirs are at
    1 - (1 - level) / (their number), Bonferroni's correction. Without a choice on oof, or with a
    reference picked on the examined split, every gain is of this second sort.

    Args:
        candidates: at least one; names differ.
        classes: names, and the ignored class.
        rng: where the resamples come from; all candidates are scored on the same ones.
        split: the name of the examined split.
        protocol: name of the protocol that decides.
        level: of the intervals.
        resamples: how many.

    Returns:
        The leaderboard, highest examined score first.

    Raises:
        BadData: no candidate, or candidates that were scored on different pictures.
        BadSpec: an unknown protocol.
    """
    _check(candidates, split)
    ignore = classes.ignore
    scorer = PROTOCOLS.build(protocol)
    scores = [_score(c.examined.counts, protocol, ignore) for c in candidates]
    picks = _pick(candidates, [float(found.miou) for found in scores], protocol, ignore, split)
    sums = group_sums(
        np.stack([c.examined.counts for c in candidates]), candidates[0].examined.groups
    )
    drawn = replicates(sums, scorer, ignore, rng=rng, resamples=resamples)
    gain_level = 1 - (1 - level) / max(1, picks.looked_at)
    intervals = [expanded_percentile(s, groups=sums.shape[1], level=level) for s in drawn]
    gains = [
        _gain_interval(drawn, place, picks, sums.shape[1], level, gain_level)
        for place in range(len(candidates))
    ]
    rows = [
        Row(
            name=candidate.name,
            is_member=candidate.is_member,
            chosen=place == picks.chosen,
            reference=place == picks.reference,
            oof=picks.oof[place],
            examined=float(scores[place].miou),
            interval=intervals[place],
            gain=_gain(scores, place, picks.reference),
            gain_interval=gains[place],
            better=_above_zero(gains[place]),
            iou=iou_by_name(scores[place], classes),
            others=_others(candidate.examined.counts, protocol, ignore),
        )
        for place, candidate in enumerate(candidates)
    ]
    chosen = None if picks.chosen is None else rows[picks.chosen]
    return Leaderboard(
        split=split,
        protocol=protocol,
        rows=tuple(sorted(rows, key=lambda row: -_or_lowest(row.examined))),
        chosen=None if chosen is None else chosen.name,
        reference=None if picks.reference is None else candidates[picks.reference].name,
        reference_on=picks.reference_on,
        optimism=math.nan if chosen is None or split == OOF else chosen.oof - chosen.examined,
        level=level,
        gain_level=gain_level,
        groups=sums.shape[1],
    )


@dataclass(frozen=True)
class _Picks:
    """Places of the candidates that matter, in the order in which they were given."""

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


def _check(candidates: Sequence[Candidate], split: str) -> None:
    if not candidates:
        raise BadData("no candidate to compare; score one first")
    first = candidates[0]
    for candidate in candidates[1:]:
        pairs = [(split, candidate.examined, first.examined)]
        if candidate.oof and first.oof:
            pairs.append((OOF, candidate.oof, first.oof))
        for name, mine, theirs in pairs:
            if mine.ids != theirs.ids or not np.array_equal(mine.groups, theirs.groups):
                raise BadData(
                    f"candidates {first.name!r} and {candidate.name!r} were scored on different"
                    f" pictures of {name}; expected the same, score both again"
                )


def _pick(
    candidates: Sequence[Candidate],
    examined: Sequence[float],
    protocol: str,
    ignore: int | None,
    split: str,
) -> _Picks:
    oof = tuple(
        math.nan if c.oof is None else float(_score(c.oof.counts, protocol, ignore).miou)
        for c in candidates
    )
    members = [place for place, candidate in enumerate(candidates) if candidate.is_member]
    reference, reference_on = _highest(oof, members), OOF
    if reference is None:
        reference, reference_on = _highest(examined, members), split
    return _Picks(oof, _highest(oof, range(len(oof))), reference, reference_on, split)


def _highest(scores: Sequence[float], among: Iterable[int]) -> int | None:
    known = [place for place in among if not math.isnan(scores[place])]
    return max(known, key=lambda place: scores[place], default=None)


def _score(counts: Counts, protocol: str, ignore: int | None) -> Score:
    found: Score = PROTOCOLS.build(protocol)(counts.sum(axis=0), ignore)
    return found


def _others(counts: Counts, protocol: str, ignore: int | None) -> dict[str, float]:
    return {
        other: float(_score(counts, other, ignore).miou) for other in PROTOCOLS if other != protocol
    }


def _gain(scores: Sequence[Score], place: int, reference: int | None) -> float:
    if reference is None or place == reference:
        return math.nan
    return float(scores[place].miou - scores[reference].miou)


def _gain_interval(
    drawn: Replicates, place: int, picks: _Picks, groups: int, level: float, gain_level: float
) -> Interval | None:
    if picks.reference is None or place == picks.reference:
        return None
    return expanded_percentile(
        drawn[place] - drawn[picks.reference],
        groups=groups,
        level=level if place == picks.fixed else gain_level,
    )


def _above_zero(interval: Interval | None) -> bool:
    return interval is not None and interval.low > 0


def _or_lowest(score: float) -> float:
    return -math.inf if math.isnan(score) else score
