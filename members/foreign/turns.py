"""Ways to lay rows and columns: the eight symmetries of a square."""

from dataclasses import dataclass
from itertools import product

from evaluation.ground.arrays import Array


@dataclass(frozen=True)
class Turn:
    """What brings foreign pictures into ours.

    Args:
        swapped: rows and columns change places, first.
        upside_down: rows are reversed.
        mirrored: columns are reversed.
    """

    swapped: bool = False
    upside_down: bool = False
    mirrored: bool = False

    def __call__(self, values: Array) -> Array:
        """Turn the last two axes."""
        if self.swapped:
            values = values.swapaxes(-1, -2)
        if self.upside_down:
            values = values[..., ::-1, :]
        return values[..., ::-1] if self.mirrored else values

    def __str__(self) -> str:
        """Say what it does, as a finding."""
        said = {
            "rows and columns swapped": self.swapped,
            "rows upside down": self.upside_down,
            "columns mirrored": self.mirrored,
        }
        return " and ".join(words for words, done in said.items() if done)


def turns(given: tuple[int, int], expected: tuple[int, int]) -> list[Turn]:
    """List the turns that make pictures of one size into those of another; the simplest first.

    Args:
        given: rows and columns of the foreign pictures.
        expected: rows and columns of ours.

    Returns:
        None where no turn does.
    """
    fits = {False: given == expected, True: given == expected[::-1]}
    return [
        Turn(swapped, upside_down, mirrored)
        for swapped, upside_down, mirrored in product((False, True), repeat=3)
        if fits[swapped]
    ]
