"""Results of scoring: frozen, with `to_dict`, `to_frame` and a table in notebooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ensemble.api.notebook import confusion_plot, forest_plot
from evaluation.core.classes import Classes
from evaluation.core.types import Array, Counts, Groups
from evaluation.protocols import build_protocol, score_images
from evaluation.run_metric import default_metric, metric_label, reported_protocols

if TYPE_CHECKING:
    import pandas as pd

    from evaluation.audit import GainDecomposition
    from evaluation.intervals import Interval
    from evaluation.iou import Score
    from evaluation.leaderboard import Leaderboard, LeaderboardRow
    from evaluation.mcnemar import McNemar

PARTS = (
    "pixels: what IoUs gained over the same classes; denominator: what averaging over other classes"
    " gained; they add up to the gain"
)


@dataclass(frozen=True, eq=False)
class ScoreResult:
    """The score of one set of label maps.

    Args:
        counts: pixels per image by (target class, predicted class); everything else follows.
        groups: the group of each image, for the interval.
        classes: names, and the ignored class.
        protocol: the definition of the score.
    """

    counts: Counts = field(repr=False)
    groups: Groups = field(repr=False)
    classes: Classes
    protocol: str = "masked"

    @cached_property
    def _score(self) -> "Score":
        protocol = build_protocol(self.protocol, self.classes)
        return score_images(protocol, self.counts, self.classes.ignore)

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.counts)

    @property
    def miou(self) -> float:
        """The protocol's number, most often the mean IoU; NaN where nothing can be scored."""
        return float(self._score.miou)

    @property
    def iou(self) -> tuple[float, ...]:
        """IoU of each class, by index, or Dice under `dice`; NaN where a class is not scored."""
        return tuple(float(value) for value in self._score.iou)

    @property
    def confusion(self) -> Array:
        """Pixels of all images by (target class, predicted class)."""
        table: Array = self.counts.sum(axis=0)
        return table

    @property
    def warning(self) -> str | None:
        """A reason to distrust the score; None where there is none."""
        from evaluation.scores import score

        warning: str | None = score(self.counts, [self.protocol], self.classes).get("warning")
        return warning

    @cached_property
    def interval(self) -> "Interval | None":
        """95 % confidence interval of `miou` over groups; None for a single group."""
        from evaluation.intervals import LEVEL
        from evaluation.scores import CandidateScores, ScoredImages

        ids = tuple(str(index) for index in range(self.images))
        scored = ScoredImages(self.counts, ids, self.groups)
        protocol = build_protocol(self.protocol, self.classes)
        return CandidateScores.of([scored], protocol, self.classes.ignore).interval(0, LEVEL)

    def under(self, protocol: str) -> "ScoreResult":
        """Return the score of the same label maps under another protocol.

        Raises:
            BadSpec: an unknown protocol.
        """
        build_protocol(protocol, self.classes)
        return ScoreResult(self.counts, self.groups, self.classes, protocol)

    def to_dict(self) -> dict[str, Any]:
        """Return the score as a JSON document; None for NaN."""
        from evaluation.intervals import interval_to_dict
        from evaluation.scores import iou_by_name, nan_to_none

        document: dict[str, Any] = {
            "protocol": self.protocol,
            "miou": nan_to_none(self.miou),
            "interval": interval_to_dict(self.interval),
            "iou": iou_by_name(self._score, self.classes),
            "images": self.images,
            "confusion": self.confusion.tolist(),
        }
        return document | ({"warning": self.warning} if self.warning else {})

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per class: IoU, and pixels in target and prediction."""
        import pandas as pd

        columns = {
            "iou": self.iou,
            "target_pixels": self.confusion.sum(axis=1),
            "pred_pixels": self.confusion.sum(axis=0),
        }
        return pd.DataFrame(columns, index=pd.Index(self.classes.names, name="class"))

    def _repr_html_(self) -> str:
        ends = self.interval
        between = "" if ends is None else f" ({ends.low:.3f} to {ends.high:.3f})"
        name = metric_label(self.protocol)
        head = f"<p>{name} {self.miou:.3f}{between}</p>"
        return head + _html(self.to_frame()) + confusion_plot(self.confusion, self.classes)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Candidates ranked on the same images, the highest score first.

    Args:
        leaderboard: rows with scores, gaps to the first, their intervals, and which may be best.
    """

    leaderboard: "Leaderboard"

    @property
    def rows(self) -> "tuple[LeaderboardRow, ...]":
        """One row per candidate, the highest score first."""
        return self.leaderboard.rows

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates' names, the highest score first."""
        return tuple(row.name for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the leaderboard as a JSON document; None for NaN."""
        return self.leaderboard.to_dict()

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per candidate, with plain numbers in the columns."""
        return self.leaderboard.to_frame()

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        columns = [self.leaderboard.split, "low", "high", "gap", "gap_low", "gap_high", "p"]
        return forest_plot(self.leaderboard) + _html(frame[columns])


@dataclass(frozen=True)
class AuditResult:
    """What the gain from one candidate to another is made of, under every protocol.

    Args:
        before: name of the first candidate.
        after: name of the second.
        images: the number of images.
        gains: by protocol.
        mcnemar: test of whether the two have the same share of correct pixels.
        warning: a reason to distrust the scores; None where there is none.
    """

    before: str
    after: str
    images: int
    gains: "Mapping[str, GainDecomposition]"
    mcnemar: "McNemar"
    warning: str | None = None

    @classmethod
    def from_counts(
        cls,
        names: tuple[str, str],
        counts: Sequence[Counts],
        classes: Classes,
        mcnemar: "McNemar",
    ) -> "AuditResult":
        """Compare two candidates by their counts on the same images, and a test of their labels."""
        from evaluation.audit import audit
        from evaluation.scores import score

        first, second = counts
        gains = {
            name: audit(build_protocol(name, classes), first, second, classes.ignore)
            for name in reported_protocols(default_metric(classes))
        }
        warnings = [score(table, [], classes).get("warning") for table in counts]
        warning = next(filter(None, reversed(warnings)), None)
        return cls(*names, len(first), gains, mcnemar, warning)

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as a JSON document; None for NaN."""
        document = {
            "before": self.before,
            "after": self.after,
            "images": self.images,
            "protocols": {name: _gain_to_dict(gain) for name, gain in self.gains.items()},
            "mcnemar": self.mcnemar.to_dict(),
        }
        return document | ({"warning": self.warning} if self.warning else {})

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per protocol: score before and after, gain, and its two parts."""
        import pandas as pd

        rows = [
            {
                "protocol": name,
                "before": gain.before,
                "after": gain.after,
                "gain": gain.after - gain.before,
                "pixels": gain.pixels,
                "denominator": gain.denominator,
                "classes_before": gain.averaged[0],
                "classes_after": gain.averaged[1],
            }
            for name, gain in self.gains.items()
        ]
        return pd.DataFrame.from_records(rows, index="protocol")

    def _repr_html_(self) -> str:
        return f"<p>{self.before} to {self.after}. {PARTS}.</p>{_html(self.to_frame())}"


def format_audit(document: Mapping[str, Any]) -> str:
    """Write an audit's document as text, one line per protocol."""
    from evaluation.formatting import MISSING, format_decimal

    def num_classes(value: float | None) -> str:
        return MISSING if value is None else f"{value:.4g}"

    heads = ("before", "after", "gain", "pixels", "denominator", "classes averaged")
    lines = [
        f"from {document['before']} to {document['after']}, {document['images']} images",
        f"{'protocol':12}" + "".join(f"{head:>12}" for head in heads[:5]) + f"  {heads[5]}",
    ]
    for name, gain in document["protocols"].items():
        values = [format_decimal(gain[key], places=4) for key in heads[:2]]
        values += [format_decimal(gain[key], "+", places=4) for key in heads[2:5]]
        counts = [num_classes(gain["averaged"][key]) for key in ("before", "after")]
        averaged = "none" if MISSING in counts else " -> ".join(counts)
        lines.append(f"{name:12}" + "".join(f"{value:>12}" for value in values) + f"  {averaged}")
    lines += [PARTS, _format_mcnemar(document["mcnemar"])]
    if "warning" in document:
        lines.append(f"warning: {document['warning']}")
    return "\n".join(lines)


def _format_mcnemar(test: Mapping[str, Any]) -> str:
    over_groups = "unknown" if test["p_groups"] is None else f"{test['p_groups']:.3g}"
    return (
        f"McNemar: {test['only_before']:,} pixels right before alone, {test['only_after']:,} after"
        f" alone, of {test['pixels']:,}; p = {over_groups} over {test['groups']} groups,"
        f" {test['p_pixels']:.3g} if pixels were independent"
    )


def _gain_to_dict(gain: "GainDecomposition") -> dict[str, Any]:
    from evaluation.scores import nan_to_none

    before, after = gain.averaged
    return {
        "before": nan_to_none(gain.before),
        "after": nan_to_none(gain.after),
        "pixels": nan_to_none(gain.pixels),
        "denominator": nan_to_none(gain.denominator),
        "gain": nan_to_none(gain.after - gain.before),
        "averaged": {"before": nan_to_none(before), "after": nan_to_none(after)},
    }


def _html(frame: "pd.DataFrame") -> str:
    html: str = frame.to_html(float_format="{:.3f}".format, na_rep="")
    return html
