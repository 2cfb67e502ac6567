"""The leaderboard: candidates chosen on one set of images and evaluated on another.

The highest score is a fact about a sample; a candidate is called "better" only if the paired
interval of its gain over the best single member lies above 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.run_folder import OOF
from evaluation.core.types import Counts
from evaluation.gains import DifferencesToChosen, Gains, Selection, argmax, select
from evaluation.intervals import LEVEL, Interval, Level, interval_to_dict
from evaluation.joint_tests import JointTests
from evaluation.margins import MarginComparison, check_margin, compare_with_margin
from evaluation.protocols import PROTOCOLS, build_protocol, score_images
from evaluation.run_metric import default_metric
from evaluation.scores import CandidateScores, ScoredImages, iou_by_name, nan_to_none
from evaluation.significance import (
    DetectableGap,
    GapToFirst,
    detectable_gap,
    gaps_to_first,
    on_pareto_front,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Candidate:
    """A candidate before it is compared.

    Args:
        examined: counts on the split to evaluate on.
        oof: its counts on oof; None if there are none.
        is_member: whether it is a single member without post-processing.
        members: the members whose maps it needs.
        milliseconds: cost per image, from the members' networks to the labels; NaN if unknown.
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
        chosen: whether it is the highest on oof.
        reference: whether it is the single member that all are compared with.
        oof: score on oof; NaN if there is none.
        examined: score on the examined split.
        interval: of the examined score; None if there is only one group.
        gain: examined score minus the reference's; NaN for the reference itself.
        gain_interval: paired, of the gain; None as above, and for the reference itself.
        better: whether the gain is shown to be above 0.
        iou: per class on the examined split, by name; None if absent.
        iou_intervals: of each of them, by name; None as above.
        others: examined score under the other protocols, by name.
        gap: to the highest; None for the highest itself.
        to_chosen: examined score minus the chosen one's; NaN for itself, and if none is chosen.
        to_chosen_interval: paired, of this difference; None as above, and with only one group.
        members: the members whose maps it needs.
        milliseconds: cost per image; NaN if unknown.
        on_pareto_front: whether no other candidate scores as high at less cost.
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
    iou_intervals: Mapping[str, Interval | None]
    others: Mapping[str, float]
    gap: GapToFirst | None
    to_chosen: float
    to_chosen_interval: Interval | None
    members: tuple[str, ...]
    milliseconds: float
    on_pareto_front: bool

    @property
    def verdict(self) -> Literal["first", "lower", "may be best", ""]:
        """How it compares with the highest; empty if it was not scored."""
        if math.isnan(self.examined):
            return ""
        if self.gap is None:
            return "first"
        return "may be best" if self.gap.may_be_best else "lower"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; None for missing ones."""
        return {
            "name": self.name,
            "is_member": self.is_member,
            "chosen": self.chosen,
            "reference": self.reference,
            "oof": nan_to_none(self.oof),
            "examined": nan_to_none(self.examined),
            "interval": interval_to_dict(self.interval),
            "gain": nan_to_none(self.gain),
            "gain_interval": interval_to_dict(self.gain_interval),
            "better": self.better,
            "iou": dict(self.iou),
            "iou_intervals": {n: interval_to_dict(i) for n, i in self.iou_intervals.items()},
            "others": {name: nan_to_none(value) for name, value in self.others.items()},
            "gap": None if self.gap is None else self.gap.to_dict(),
            "to_chosen": nan_to_none(self.to_chosen),
            "to_chosen_interval": interval_to_dict(self.to_chosen_interval),
            "members": list(self.members),
            "milliseconds": nan_to_none(self.milliseconds),
            "front": self.on_pareto_front,
        }


@dataclass(frozen=True)
class Leaderboard:
    """Candidates, highest examined score first, and the chosen one.

    Args:
        split: the examined split.
        chosen: the candidate highest on oof; None if no candidate has oof scores.
        reference: the highest single member on oof, or on the examined split if no member has
            oof scores; None without members.
        reference_on: `oof` or the examined split: where the reference is the highest.
        optimism: the chosen candidate's oof score minus its examined score; NaN if there is
            none, or if the examined split is oof itself.
        level: of the intervals of scores and of the chosen candidate's gain.
        gain_level: of the other candidates' gains, so that all of them together hold at `level`.
        gap_level: of the gaps to the first, so that those of all pairs together hold at `level`.
        to_chosen_level: of the differences to the chosen candidate, so that all of them together
            hold at `level`.
        detectable: the smallest gaps to the first that the images could show; None if none could.
        margin: the candidates compared with one of them with a margin, if that was asked for.
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
    gap_level: float
    to_chosen_level: float
    detectable: DetectableGap | None
    groups: int
    margin: MarginComparison | None = None

    @property
    def confidence_set(self) -> tuple[str, ...]:
        """The candidates that may be the best, the highest first: all that are, at `level`."""
        return tuple(row.name for row in self.rows if row.verdict in ("first", "may be best"))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; None for missing ones."""
        return {
            "split": self.split,
            "protocol": self.protocol,
            "chosen": self.chosen,
            "reference": self.reference,
            "reference_on": self.reference_on,
            "optimism": nan_to_none(self.optimism),
            "groups": self.groups,
            "confidence_set": {"level": self.level, "candidates": list(self.confidence_set)},
            "detectable": None if self.detectable is None else self.detectable.to_dict(),
            "candidates": [row.to_dict() for row in self.rows],
            **({} if self.margin is None else {"margin": self.margin.to_dict()}),
        }

    def to_frame(self) -> "pd.DataFrame":
        """Return a data frame with a row per candidate and plain numbers in its columns."""
        import pandas as pd

        return pd.DataFrame.from_records([self._record(row) for row in self.rows], index="name")

    def _record(self, row: LeaderboardRow) -> dict[str, Any]:
        is_first = row.verdict == "first"
        to_itself = 0.0 if is_first else math.nan
        gap = row.gap or GapToFirst(to_itself, None, math.nan, may_be_best=is_first)
        return {
            "name": row.name,
            "is_member": row.is_member,
            "chosen": row.chosen,
            "reference": row.reference,
            OOF: row.oof,
            self.split: row.examined,
            **_ends("", row.interval),
            "gain": row.gain,
            **_ends("gain_", row.gain_interval),
            "better": row.better,
            "gap": gap.value,
            **_ends("gap_", gap.interval),
            "p": gap.p,
            "may_be_best": gap.may_be_best,
            "milliseconds": row.milliseconds,
            "members": " ".join(row.members),
            "front": row.on_pareto_front,
            **{f"iou {n}": math.nan if value is None else value for n, value in row.iou.items()},
            **row.others,
        }


def _ends(prefix: str, interval: Interval | None) -> dict[str, float]:
    low, high = (math.nan, math.nan) if interval is None else (interval.low, interval.high)
    return {f"{prefix}low": low, f"{prefix}high": high}


def compare(
    candidates: Sequence[Candidate],
    classes: Classes,
    *,
    rng: np.random.Generator,
    split: str = "validation",
    protocol: str | None = None,
    level: Level = LEVEL,
    margin: float | None = None,
    to: str | None = None,
) -> Leaderboard:
    """Compare candidates that were scored on the same images.

    Of equal scores on oof, a member's comes before others, then the first name is chosen: decisions
    of a fusion may be those of its best member.

    The chosen candidate's gain is one comparison, fixed before the split was examined; its
    interval is at `level`. The others' gains over the reference are corrected together, by max-T.
    Without a choice on oof, every gain is corrected so; with a reference that was picked on the
    examined split, by the intervals of all pairs.

    Args:
        candidates: at least one; names differ.
        classes: names, and the ignored class.
        rng: resamples the errors of the scores.
        split: name of the examined split.
        protocol: of the scores that are compared; by default `default_metric` of the classes.
        level: of the intervals.
        margin: difference in score that does not matter; None for no statements about it.
        to: the candidate that others are compared with by the margin; by default the chosen one,
            or the first where none was chosen on other images. The chosen one and the reference
            count as fixed before; for any other, the bounds hold for all pairs.

    Raises:
        BadData: no candidate, candidates that were scored on different images, a margin that is
            not above 0, or no such candidate.
        BadSpec: an unknown protocol or class.
    """
    _check_same_images(candidates, split)
    scored = _Scored.of(candidates, classes, protocol or default_metric(classes), split)
    if margin is not None:
        check_margin(margin, to, scored.names, scored.scores.groups)
    tests = JointTests.of(scored.scores, rng=rng)
    gains = Gains.of(scored.selection, tests, level)
    to_chosen = DifferencesToChosen.of(scored.selection, tests, level)
    rows, selection = scored.rows(tests, gains, to_chosen, level), scored.selection
    chosen = None if selection.chosen is None else rows[selection.chosen]
    return Leaderboard(
        split=split,
        protocol=scored.protocol,
        rows=tuple(sorted(rows, key=lambda r: math.inf if math.isnan(r.examined) else -r.examined)),
        chosen=None if chosen is None else chosen.name,
        reference=None if selection.reference is None else rows[selection.reference].name,
        reference_on=selection.reference_on,
        optimism=chosen.oof - chosen.examined if chosen and split != OOF else math.nan,
        level=level,
        gain_level=gains.each_level,
        gap_level=tests.pairs_level(level),
        to_chosen_level=to_chosen.each_level,
        detectable=scored.detectable(tests, level),
        groups=scored.scores.groups,
        margin=None if margin is None else scored.compare_with_margin(tests, margin, to, level),
    )


@dataclass(frozen=True, eq=False)
class _Scored:
    """Candidates with their scores.

    Args:
        candidates: members first, then by name.
        classes: names, and the ignored class.
        protocol: of the scores that are compared.
        scores: on the examined split.
        oof: scores on oof; NaN where there are none.
        selection: the chosen candidate and the reference.
    """

    candidates: Sequence[Candidate]
    classes: Classes
    protocol: str
    scores: CandidateScores
    oof: Sequence[float]
    selection: Selection

    @classmethod
    def of(
        cls, candidates: Sequence[Candidate], classes: Classes, protocol: str, split: str
    ) -> "_Scored":
        candidates = sorted(candidates, key=lambda c: (not c.is_member, c.name))
        scorer = build_protocol(protocol, classes)
        scores = CandidateScores.of([c.examined for c in candidates], scorer, classes.ignore)
        oof = [
            math.nan if c.oof is None else _miou(c.oof.counts, protocol, classes)
            for c in candidates
        ]
        members = [index for index, candidate in enumerate(candidates) if candidate.is_member]
        selection = select(oof, scores.mious.tolist(), members, split)
        return cls(candidates, classes, protocol, scores, oof, selection)

    @property
    def names(self) -> list[str]:
        return [candidate.name for candidate in self.candidates]

    @property
    def mious(self) -> list[float]:
        return [float(miou) for miou in self.scores.mious]

    @property
    def first(self) -> int | None:
        """The highest on the examined split; None if nothing was scored."""
        return argmax(self.mious, range(len(self.candidates)))

    def detectable(self, tests: JointTests, level: float) -> DetectableGap | None:
        """Return the smallest gaps to the first that are detected among all pairs."""
        if self.first is None:
            return None
        others = [index for index in range(len(self.candidates)) if index != self.first]
        each_level = tests.pairs_level(level)
        return detectable_gap(
            tests, self.first, others, each_level, most_freedom=tests.most_freedom
        )

    def rows(
        self, tests: JointTests, gains: Gains, to_chosen: DifferencesToChosen, level: float
    ) -> list[LeaderboardRow]:
        """Return a row per candidate, in their order."""
        mious, selection = self.mious, self.selection
        gaps = gaps_to_first(tests, mious, level)
        front = on_pareto_front(mious, [candidate.milliseconds for candidate in self.candidates])
        return [
            LeaderboardRow(
                name=candidate.name,
                is_member=candidate.is_member,
                chosen=index == selection.chosen,
                reference=index == selection.reference,
                oof=self.oof[index],
                examined=mious[index],
                interval=self.scores.interval(index, level),
                gain=selection.gain(mious, index),
                gain_interval=gains.interval(index),
                better=gains.is_better(index),
                iou=iou_by_name(self.scores.whole[index], self.classes),
                iou_intervals=self.scores.class_intervals(index, self.classes, level),
                others=self._other_protocols(candidate),
                gap=gaps[index],
                to_chosen=to_chosen.value(mious, index),
                to_chosen_interval=to_chosen.interval(index),
                members=candidate.members,
                milliseconds=candidate.milliseconds,
                on_pareto_front=front[index],
            )
            for index, candidate in enumerate(self.candidates)
        ]

    def _other_protocols(self, candidate: Candidate) -> dict[str, float]:
        return {
            other: _miou(candidate.examined.counts, other, self.classes)
            for other in PROTOCOLS
            if other != PROTOCOLS.canonical(self.protocol)
        }

    def compare_with_margin(
        self, tests: JointTests, margin: float, to: str | None, level: float
    ) -> MarginComparison | None:
        """Compare with `to`, else with the chosen candidate, else with the first."""
        fixed = self.selection.predeclared
        default = fixed[0] if fixed else self.first
        index = default if to is None else self.names.index(to)
        if index is None:
            return None
        return compare_with_margin(
            tests, self.names, index, margin, predeclared=index in fixed, level=level
        )


def _check_same_images(candidates: Sequence[Candidate], split: str) -> None:
    if not candidates:
        raise BadData("no candidate to compare; score one first")
    first = candidates[0]
    for candidate in candidates[1:]:
        pairs = [(split, candidate.examined, first.examined)]
        if candidate.oof and first.oof:
            pairs.append((OOF, candidate.oof, first.oof))
        for name, a, b in pairs:
            if a.ids != b.ids or not np.array_equal(a.groups, b.groups):
                raise BadData(
                    f"candidates {first.name!r} and {candidate.name!r} were scored on different"
                    f" images of {name}; expected the same, score both again"
                )


def _miou(counts: Counts, protocol: str, classes: Classes) -> float:
    return float(score_images(build_protocol(protocol, classes), counts, classes.ignore).miou)
