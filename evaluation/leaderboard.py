"""Candidates side by side: chosen on one set of images, examined on another.

"Highest" is a fact about a sample; "better" is said only where the paired interval against the
highest single member lies above 0.

Which candidate is chosen, and which single member the gains are counted from.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.types import Counts
from evaluation.intervals import LEVEL, Interval, Level
from evaluation.protocols import PROTOCOLS, score_images
from evaluation.scores import CandidateScores, ScoredImages, iou_by_name
from evaluation.significance import GapToBest, gaps_to_first, on_pareto_front

OOF = "oof"
"""The split on which candidates are chosen."""


@dataclass(frozen=True)
class Selection:
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
) -> Selection:
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
    return Selection(tuple(oof), chosen, reference, reference_on, split)


def _highest(scores: Sequence[float], among: Iterable[int]) -> int | None:
    known = [place for place in among if not math.isnan(scores[place])]
    return max(known, key=lambda place: scores[place], default=None)


@dataclass(frozen=True)
class Candidate:
    """What is known of a candidate before it is compared.

    Args:
        name: of the candidate.
        examined: its counts on the split that is examined.
        oof: its counts on the split that candidates are chosen on; None where there is none.
        is_member: whether it is one member with nothing done to its maps but argmax.
        members: the members whose maps it needs.
        milliseconds: what an image costs from the members' networks on; NaN where unknown.
    """

    name: str
    examined: ScoredImages
    oof: ScoredImages | None = None
    is_member: bool = False
    members: tuple[str, ...] = ()
    milliseconds: float = math.nan


@dataclass(frozen=True)
class LeaderboardRow:
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
        iou: per class on the examined split, by name; None where absent.
        iou_intervals: of each of them, by name; None as above.
        others: examined score under the other protocols, by name.
        gap: to the first; None for the first itself.
        members: the members whose maps it needs.
        milliseconds: what an image costs; NaN where unknown.
        front: whether nobody scores as high at less cost.
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
    iou: Mapping[str, float | None]
    iou_intervals: Mapping[str, Interval | None]
    others: Mapping[str, float]
    gap: GapToBest | None
    members: tuple[str, ...]
    milliseconds: float
    front: bool

    @property
    def better(self) -> bool:
        """Whether the paired interval of the gain lies above 0."""
        return self.gain_interval is not None and self.gain_interval.low > 0

    @property
    def verdict(self) -> Literal["first", "lower", "open", ""]:
        """Whether it can be told from the first: `lower` if so, else `open`; empty if unscored."""
        if math.isnan(self.examined):
            return ""
        if self.gap is None:
            return "first"
        return "lower" if self.gap.told_apart else "open"


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
        level: of the intervals of scores, gaps, and the chosen candidate's gain.
        gain_level: of the other candidates' gains, so that all of them together hold at `level`.
        groups: how many groups of images there are.
    """

    split: str
    protocol: str
    rows: tuple[LeaderboardRow, ...]
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
) -> Leaderboard:
    """Compare candidates that were scored on the same images.

    The chosen candidate's gain is one comparison, fixed before the split was examined, and has an
    interval at `level`. The other gains are looked at because they are there: theirs are at
    1 - (1 - level) / (their number), Bonferroni's correction. Without a choice on oof, or with a
    reference picked on the examined split, every gain is of this second sort.

    Args:
        candidates: at least one; names differ.
        classes: names, and the ignored class.
        rng: what the tests of gaps draw from.
        split: the name of the examined split.
        protocol: name of the protocol that decides.
        level: of the intervals.

    Returns:
        The leaderboard, highest examined score first.

    Raises:
        BadData: no candidate, or candidates that were scored on different images.
        BadSpec: an unknown protocol.
    """
    _check(candidates, split)
    ignore = classes.ignore
    examined = [candidate.examined for candidate in candidates]
    measured = CandidateScores.of(examined, PROTOCOLS.build(protocol), ignore)
    oof = [math.nan if c.oof is None else _miou(c.oof.counts, protocol, ignore) for c in candidates]
    members = [place for place, candidate in enumerate(candidates) if candidate.is_member]
    choice = choose(oof, measured.mious.tolist(), members, split)
    gaps = gaps_to_first(measured, rng=rng, level=level)
    rows = _rows(candidates, classes, measured, choice, gaps, protocol, level)
    return _board(rows, choice, measured.groups, protocol, level)


def _rows(
    candidates: Sequence[Candidate],
    classes: Classes,
    measured: CandidateScores,
    choice: Selection,
    gaps: Sequence[GapToBest | None],
    protocol: str,
    level: float,
) -> list[LeaderboardRow]:
    mious = measured.mious.tolist()
    front = on_pareto_front(mious, [candidate.milliseconds for candidate in candidates])
    return [
        LeaderboardRow(
            name=candidate.name,
            is_member=candidate.is_member,
            chosen=place == choice.chosen,
            reference=place == choice.reference,
            oof=choice.oof[place],
            examined=mious[place],
            interval=measured.interval(place, level),
            gain=_gain(mious, place, choice.reference),
            gain_interval=_gain_interval(measured, place, choice, level),
            iou=iou_by_name(measured.whole[place], classes),
            iou_intervals=measured.class_intervals(place, classes, level),
            others=_others(candidate.examined.counts, protocol, classes.ignore),
            gap=gaps[place],
            members=candidate.members,
            milliseconds=candidate.milliseconds,
            front=front[place],
        )
        for place, candidate in enumerate(candidates)
    ]


def _board(
    rows: Sequence[LeaderboardRow], choice: Selection, groups: int, protocol: str, level: float
) -> Leaderboard:
    chosen = None if choice.chosen is None else rows[choice.chosen]
    examined_elsewhere = chosen is not None and choice.split != OOF
    return Leaderboard(
        split=choice.split,
        protocol=protocol,
        rows=tuple(sorted(rows, key=lambda row: -_or_lowest(row.examined))),
        chosen=None if chosen is None else chosen.name,
        reference=None if choice.reference is None else rows[choice.reference].name,
        reference_on=choice.reference_on,
        optimism=chosen.oof - chosen.examined if chosen and examined_elsewhere else math.nan,
        level=level,
        gain_level=_gain_level(choice, level),
        groups=groups,
    )


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
                    f" images of {name}; expected the same, score both again"
                )


def _miou(counts: Counts, protocol: str, ignore: int | None) -> float:
    return float(score_images(PROTOCOLS.build(protocol), counts, ignore).miou)


def _others(counts: Counts, protocol: str, ignore: int | None) -> dict[str, float]:
    return {other: _miou(counts, other, ignore) for other in PROTOCOLS if other != protocol}


def _gain(mious: Sequence[float], place: int, reference: int | None) -> float:
    if reference is None or place == reference:
        return math.nan
    return mious[place] - mious[reference]


def _gain_level(choice: Selection, level: float) -> float:
    return 1 - (1 - level) / max(1, choice.looked_at)


def _gain_interval(
    measured: CandidateScores, place: int, choice: Selection, level: float
) -> Interval | None:
    if choice.reference is None or place == choice.reference:
        return None
    its_level = level if place == choice.fixed else _gain_level(choice, level)
    return measured.difference(place, choice.reference, its_level)


def _or_lowest(score: float) -> float:
    return -math.inf if math.isnan(score) else score
