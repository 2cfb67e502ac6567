"""How long a tuning will take, told once every step has been tried."""

from collections.abc import Callable
from dataclasses import dataclass

MINUTE = 60


@dataclass
class Clock:
    """Adds up the seconds of trials.

    Args:
        total: trials of all searches.
        starts: after so many it tells.
        tell: gets the line.
    """

    total: int
    starts: int
    tell: Callable[[str], None]
    ended: int = 0
    seconds: float = 0.0

    def tick(self, seconds: float) -> None:
        """Add a trial."""
        self.ended, self.seconds = self.ended + 1, self.seconds + seconds
        left = self.total - self.ended
        if self.ended == self.starts and left > 0:
            each = self.seconds / self.ended
            self.tell(
                f"forecast: {left} trials to go, about {each * left / MINUTE:.0f} minutes"
                f" ({each:.1f} s a trial so far; chains that begin alike take less)"
            )
