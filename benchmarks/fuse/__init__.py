"""Fusion compared with reading the same bytes and with other tools: `python -m benchmarks.fuse`."""

from dataclasses import dataclass
from typing import Any

from evaluation.core.specs import Table

COMPARISONS = Table(
    "part",
    {
        "files": "benchmarks.fuse.comparisons:files",
        "memory": "benchmarks.fuse.comparisons:memory",
        "labels": "benchmarks.fuse.comparisons:labels",
        "steps": "benchmarks.fuse.comparisons:strategies",
        "stacking": "benchmarks.fuse.stacking:stacking",
        "staple": "benchmarks.fuse.comparisons:staple",
        "peak": "benchmarks.fuse.comparisons:peak",
    },
)
"""Each takes a `Workload` and an empty temporary folder, and returns a `ComparisonResult`."""


@dataclass(frozen=True)
class Workload:
    """How much is measured, and how often.

    Args:
        members: number of fused members.
        images: maps per member, 5 x 64 x 128; `peak` also takes ten times as many.
        pixels: training pixels of stacking, with one feature per member and class.
        rounds: measurements per contender.
    """

    members: int
    images: int
    pixels: int
    rounds: int


@dataclass(frozen=True)
class ComparisonResult:
    """What was measured.

    Args:
        sides: figures of each contender, by its name.
        facts: what is the same for all of them, or follows from all.
    """

    sides: dict[str, dict[str, float]]
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {"sides": self.sides, **self.facts}
