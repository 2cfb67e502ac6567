"""What was found out about a run before it begins, and how it is told."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ensemble.pipeline.steps import Step
from evaluation.ground.errors import EnsError

MINUTE, HOUR = 60, 3600


@dataclass
class Forecast:
    """What was found out about a run.

    Args:
        run: its folder.
        steps: what it does, in order.
        fails: reasons for which it would stop; none for a run that goes through.
        odd: what to look at first.
        free_bytes: of the disk.
        memory_bytes: that its processes take together, about.
        memory_free_bytes: that this machine has.
    """

    run: str
    steps: list[Step] = field(default_factory=list)
    fails: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    free_bytes: int = 0
    memory_bytes: int = 0
    memory_free_bytes: int = 0

    def attempt(self, work: Callable[[], Any]) -> Any:
        """Do something; what a user has to mend becomes a reason, and the result None."""
        try:
            return work()
        except EnsError as error:
            if str(error) not in self.fails:
                self.fails.append(str(error))
            return None

    def document(self) -> dict[str, Any]:
        """Give it as a JSON document."""
        sums = {
            "seconds": sum(step.seconds for step in self.steps),
            "bytes_to_write": sum(step.bytes_to_write for step in self.steps),
        }
        return asdict(self) | sums


def refuse_failing(found: Forecast) -> None:
    """Refuse a run that would fail.

    Raises:
        EnsError: the number of reasons, and the first.
    """
    if found.fails:
        more = f"; and {len(found.fails) - 1} reasons more" if len(found.fails) > 1 else ""
        raise EnsError(f"{found.run} would fail: {found.fails[0]}{more}")


def as_text(found: Forecast) -> str:
    """Write a forecast for people: steps, sums, what is odd, what would stop the run."""
    width = max([len(step.name) for step in found.steps] + [4])
    lines = [
        f"{step.step:11} {step.name:{width}} {step.missing:3} of {step.parts} missing"
        f" {_duration(step.seconds):>9} {step.bytes_to_write / 1e6:10.1f} MB"
        for step in found.steps
    ]
    if found.steps:
        document = found.document()
        lines += [
            f"time: about {_duration(document['seconds'])}; training at most, it may stop early",
            _room("disk", document["bytes_to_write"], found.free_bytes),
            _room("memory", found.memory_bytes, found.memory_free_bytes),
        ]
    lines += [f"odd: {line}" for line in found.odd]
    lines += [f"fails: {line}" for line in found.fails]
    return "\n".join(lines)


def _room(what: str, taken: int, free: int) -> str:
    return f"{what}: about {taken / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"


def _duration(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.1f} min"
    return f"{seconds / HOUR:.1f} h"
