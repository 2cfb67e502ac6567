"""What can be said of foreign maps: from their size alone, and from how they agree with others."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.ground.classes import Classes
from evaluation.ground.errors import BadMaps
from members.foreign.agreement import Explanation, Order
from members.foreign.formats import Foreign
from members.foreign.turns import Turn
from members.foreign.values import Range


@dataclass(frozen=True)
class Given:
    """What is seen of foreign maps before they are compared.

    Args:
        foreign: the maps.
        ways: turns that give pictures of our size, the simplest first.
        channels: how many classes they have.
        classes: ours.
        found: range of the values.
    """

    foreign: Foreign
    ways: Sequence[Turn]
    channels: int
    classes: Classes
    found: Range

    @property
    def forced(self) -> bool:
        """Tell whether they cannot be taken as they are."""
        return self.channels != len(self.classes) or self.ways[0].swapped

    @property
    def sizes(self) -> str:
        """Classes and pixels, in words."""
        rows, cols = self.foreign.size[-2:]
        return f"{self.channels} classes of {rows} x {cols} pixels"


def without_comparison(given: Given) -> tuple[Order, str]:
    """Return the order of classes, and what is odd, from sizes and labels alone."""
    count, turn = len(given.classes), given.ways[0]
    swapped = f"{turn}: {given.sizes}" if turn.swapped else ""
    if given.channels == count:
        return tuple(range(count)), swapped
    if given.foreign.labels and given.found.low >= 1:
        shifted = f"classes shifted by one: labels go from 1 to {count}"
        return tuple(range(1, count + 1)), " and ".join(
            [shifted, swapped] if swapped else [shifted]
        )
    raise BadMaps(
        f"{given.foreign.name} holds {given.channels} classes; expected {count}, and nothing to"
        " compare with tells which is which: give as many, in the order of the run"
    )


def explained(given: Given, told: Explanation, known: str) -> str:
    """Describe an explanation with its evidence; refuse one that explains nothing."""
    if not told.credible:
        raise BadMaps(
            f"{given.foreign.name} holds {given.sizes}; expected {len(given.classes)} classes, and"
            f" however they are laid they agree with {known} in {told.agreement:.2f} of each"
            " class's pixels at most: give them as the run has them"
        )
    turn = str(given.ways[told.turn])
    said = " and ".join(part for part in (turn, _order(told.order, given)) if part)
    plainly = "" if given.forced else f", {told.plain:.2f} as they are"
    return f"{said}: so they agree with {known} in {told.agreement:.2f} of each class{plainly}"


def _order(order: Order, given: Given) -> str:
    channels, names, count = given.channels, given.classes.names, len(given.classes)
    if channels > count:
        (extra,) = set(range(channels)) - set(order)
        return f"classes shifted by one ({channels} for {count}, of which {extra} is too many)"
    if channels < count:
        return f"classes shifted by one ({channels} for {count}: no {names[order.index(None)]!r})"
    if order == tuple(range(count)):
        return ""
    rolled = any(order == tuple((c + by) % count for c in range(count)) for by in (1, -1))
    what = "classes shifted by one" if rolled else "a permuted class order"
    return f"{what} ({', '.join(names)} are channels {', '.join(map(str, order))})"
