"""What a post-processing step is: one operation on a block of pictures, of a declared kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from evaluation.ground.arrays import Pictures

Kind = Literal["maps", "labels"]


@dataclass(frozen=True)
class Step:
    """One operation: maps to maps, maps to labels, or labels to labels.

    Args:
        takes: what it works on: maps (picture, class, row, col) that sum to 1, or label maps
            (picture, row, col), uint8.
        gives: what comes out, of the same pictures.
        apply: the operation on (maps or labels, pictures). It treats each picture of the block as
            if it were alone, leaves what it is given unchanged, and may run in several threads.
        needs_pictures: whether it looks at the pictures; otherwise they may be None.
    """

    takes: Kind
    gives: Kind
    apply: Callable[[Any, Pictures | None], Any]
    needs_pictures: bool = False

    def __post_init__(self) -> None:
        """Look that labels are not turned back into maps."""
        assert (self.takes, self.gives) != ("labels", "maps")
