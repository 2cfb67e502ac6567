"""What each class gains or loses from one candidate to another, with intervals."""

from dataclasses import dataclass

import numpy as np

from evaluation.intervals import LEVEL, Interval, Level
from evaluation.iou import Protocol
from evaluation.joint_tests import JointTests
from evaluation.scores import CandidateScores, ScoredImages


@dataclass(frozen=True)
class ClassGain:
    """The change of one class's score.

    Args:
        before: score of the class for the first candidate; NaN if it is absent.
        after: for the second.
        gain: after minus before.
        interval: paired, of the gain; those of all classes hold together at the level asked for.
            None with one group, or if the class occurs in one group only.
    """

    before: float
    after: float
    gain: float
    interval: Interval | None

    @property
    def significant(self) -> bool:
        """Whether the interval of the gain or loss excludes 0."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)


def class_gains(
    before: ScoredImages,
    after: ScoredImages,
    protocol: Protocol,
    ignore: int | None,
    *,
    rng: np.random.Generator,
    level: Level = LEVEL,
) -> list[ClassGain]:
    """Compare two candidates class by class, on the same images.

    With 150 classes, a few of 150 intervals at 95 % exclude 0 by chance. So the intervals of all
    classes are widened to hold together, as those of many candidates are (max-T): each class is
    compared with a gain of 0 that has no error.

    Args:
        before: counts of the first candidate.
        after: of the second.
        protocol: the definition of the classes' scores.
        ignore: the ignored class, or None.
        rng: resamples the errors.
        level: at which all intervals together hold.

    Returns:
        One per class.

    Examples:
        >>> from evaluation.protocols import masked
        >>> counts = np.array([[[8, 2], [2, 8]], [[7, 3], [1, 9]], [[9, 1], [2, 8]]])
        >>> images = ScoredImages(counts, ("a", "b", "c"), np.arange(3))
        >>> same = class_gains(images, images, masked(), None, rng=np.random.default_rng(0))
        >>> [gain.gain for gain in same]
        [0.0, 0.0]
    """
    scores = CandidateScores.of([before, after], protocol, ignore)
    first, second = (whole.iou for whole in scores.whole)
    left_out = scores.left_out[1].iou - scores.left_out[0].iou
    nothing = np.zeros((scores.groups, 1))
    tests = JointTests.from_influences(
        np.append(0.0, second - first), np.hstack([nothing, left_out]).T, rng=rng
    )
    against = tests.against(0, range(1, len(first) + 1), level=level)
    return [
        ClassGain(
            float(first[k]),
            float(second[k]),
            float(second[k] - first[k]),
            tests.interval(k + 1, 0, against.each_level, most_freedom=against.most_freedom),
        )
        for k in range(len(first))
    ]
