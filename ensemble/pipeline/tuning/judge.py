"""Whether a gain is real: paired intervals over groups, of the mean and of each class."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.bootstrap import LEVEL, Interval, paired_interval
from evaluation.ground.arrays import Array, Counts
from evaluation.ground.classes import Classes
from evaluation.iou import Protocol, Score, Tables
from evaluation.protocols import PROTOCOLS

PROTOCOL = "masked"
SURE = 0.99
"""Level of a look at a trial under way: looks are many, and a good chain once stopped is lost."""


@dataclass(frozen=True)
class Judge:
    """Compares counts of the same pictures.

    Args:
        classes: names, and the ignored class.
        groups: of each picture.
    """

    classes: Classes
    groups: Array

    def score(self, counts: Counts) -> float:
        """Return the masked mean IoU."""
        return float(_protocol()(counts.sum(axis=0), self.classes.ignore).miou)

    def gain(self, with_it: Counts, without: Counts) -> "Gain":
        """Return what the first has over the second."""
        found = self._interval(with_it, without, _protocol())
        return Gain(self.score(with_it) - self.score(without), found)

    def hopeless(self, counts: Counts, best: Counts) -> bool:
        """Tell whether a chain is surely worse than the best, by the pictures seen so far."""
        found = self._interval(counts, best, _protocol(), SURE)
        return found is not None and found.high < 0

    def falls(self, with_it: Counts, without: Counts) -> list[str]:
        """Name the classes whose IoU surely falls."""
        surely = []
        for label in self.classes.scored:
            found = self._interval(with_it, without, _one_class(label))
            if found is not None and found.high < 0:
                surely.append(self.classes.names[label])
        return surely

    def _interval(
        self, a: Counts, b: Counts, protocol: Protocol, level: float = LEVEL
    ) -> Interval | None:
        groups = self.groups[: len(a)]
        return paired_interval(a, b, groups, protocol, self.classes.ignore, level=level)


@dataclass(frozen=True)
class Gain:
    """A difference of masked mean IoU.

    Args:
        difference: over all pictures.
        interval: None where there is one group only.
    """

    difference: float
    interval: Interval | None

    @property
    def real(self) -> bool:
        """Tell whether the interval lies above 0."""
        return self.interval is not None and self.interval.low > 0

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"gain": self.difference, "interval": self.interval and asdict(self.interval)}


def _protocol() -> Protocol:
    protocol: Protocol = PROTOCOLS.build(PROTOCOL)
    return protocol


def _one_class(label: int) -> Callable[[Tables, int | None], Score]:
    whole = _protocol()

    def score(counts: Tables, ignore: int | None) -> Score:
        found = whole(counts, ignore)
        return Score(found.iou, found.iou[..., label])

    return score
