"""How foreign labels go together with known ones: by which turn, and in which order of classes.

Pixels by foreign and known label, for each way to lay the images.

What can be said of foreign maps: from their size alone, and from how they agree with others.

Ways to lay rows and columns: the eight symmetries of a square.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Integer
from scipy.optimize import linear_sum_assignment

from evaluation.core.arrays import evenly_spaced
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadMaps
from evaluation.core.types import Array
from members.external.formats import ExternalMaps
from members.external.values import ValueRange


@dataclass(frozen=True)
class Orientation:
    """What brings foreign images into ours.

    Args:
        swapped: rows and columns change places, first.
        upside_down: rows are reversed.
        mirrored: columns are reversed.
    """

    swapped: bool = False
    upside_down: bool = False
    mirrored: bool = False

    def __call__(self, values: Array) -> Array:
        """Orientation the last two axes."""
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


def orientations(given: tuple[int, int], expected: tuple[int, int]) -> list[Orientation]:
    """List the turns that make images of one size into those of another; the simplest first.

    Args:
        given: rows and columns of the foreign images.
        expected: rows and columns of ours.

    Returns:
        None where no turn does.
    """
    fits = {False: given == expected, True: given == expected[::-1]}
    return [
        Orientation(swapped, upside_down, mirrored)
        for swapped, upside_down, mirrored in product((False, True), repeat=3)
        if fits[swapped]
    ]


Tables = Integer[np.ndarray, "turn unit channel class"]

UNITS = 32
IMAGES = 512
PIXELS = 1 << 14
"""An image's pixels that are looked at, about: every few rows and columns of large images."""


def agreement_tables(
    foreign: Callable[[Array], Array],
    known: Callable[[Array], Array],
    ways: Sequence[Orientation],
    *,
    images: int,
    channels: int,
    classes: int,
) -> Tables:
    """Count pixels by foreign and known label, for each turn and each unit of images.

    A unit is a run of neighbouring images, which resemble each other; units are what counts
    as one observation.

    Args:
        foreign: gives the foreign labels of places (image, row, col).
        known: gives our labels of the same places; 255 where they do not count.
        ways: turns to try on the foreign labels.
        images: how many there are.
        channels: of the foreign maps.
        classes: of ours.
    """
    chosen = np.array(evenly_spaced(images, IMAGES))
    units = np.array_split(chosen, min(UNITS, len(chosen)))
    counted = np.zeros((len(ways), len(units), channels, classes), np.int64)
    for unit, places in enumerate(units):
        target, given = known(places), foreign(places)
        step = max(1, int(np.sqrt(target[0].size / PIXELS)))
        target = target[:, ::step, ::step].ravel()
        kept = target != UNLABELLED
        for way, turn in enumerate(ways):
            turned = turn(given)[:, ::step, ::step].ravel()
            cell = turned[kept].astype(np.int64) * classes + target[kept]
            cells = np.bincount(cell, minlength=channels * classes)
            counted[way, unit] = cells.reshape(channels, classes)
    return counted


Order = tuple[int | None, ...]
"""The foreign channel of each class; None where there is no such channel."""

Recalls = Float[np.ndarray, "channel class"]

MARGIN = 0.1
"""Another order must add this much to the agreement, on the average of the classes it moves: weak
members confuse classes."""

TURN_MARGIN = 0.02
"""A turn must add this much, on the average of all classes: no member is better upside down, but
images of one class nearly everywhere change little."""

ERRORS = 3
"""The gain must be this many of its standard errors."""

FEWEST_UNITS = 8
FEWEST_HOLDING = 4
"""Classes that fewer units hold are not compared."""


@dataclass(frozen=True)
class LayoutMatch:
    """What best explains foreign labels.

    Args:
        turn: index of the turn.
        order: of the classes.
        plain: how often they agree as they are, the mean over the classes; NaN where sizes or
            numbers of classes forbid it.
        agreement: how often they agree so explained.
        chance: how often labels would agree that know nothing of the image, at most.
        certain: the gain is clear on images that did not choose the explanation.
    """

    turn: int
    order: Order
    plain: float
    agreement: float
    chance: float
    certain: bool

    @property
    def credible(self) -> bool:
        """Tell whether the labels, so explained, know something of the images."""
        return self.agreement >= self.chance + MARGIN


def infer_layout(counted: Tables) -> LayoutMatch | None:
    """Find the turn and the order of classes that agree best, the plain ones where none is clear.

    Agreement is the mean over the classes of the share of their pixels that is labelled so. What
    turns or moves classes pays for each class it concerns. Whether the gain is real is told from
    images that did not choose: each half of the units is examined by the explanation that the
    other half chose.

    Args:
        counted: see `members.external.layout_inference.agreement_tables`; the first turn is the simplest.

    Returns:
        The explanation; None where nothing was counted, or too few units to tell.
    """
    _, units, channels, classes = counted.shape
    # A class that a unit or two hold says nothing: its few pixels would count as a class's all.
    often = (counted[0].sum(axis=1) > 0).sum(axis=0) >= FEWEST_HOLDING
    counted = counted * often
    total = counted.sum(axis=1)
    present = total[0].sum(axis=0) > 0
    if units < FEWEST_UNITS or not present.any():
        return None
    plain = tuple(range(classes))
    turn, order = _best(total)
    pixels = counted[0].sum(axis=1)[:, present]
    gained = np.zeros_like(pixels)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        rest = np.ones(units, dtype=bool)
        rest[half] = False
        chosen = _best(counted[:, rest].sum(axis=1))
        now, was = (_right(counted[way, half], by) for way, by in (chosen, (0, plain)))
        gained[half] = (now - was)[:, present]
    gains, error = _mean_gain(gained, pixels)
    moved = sum(order[c] != c for c in np.flatnonzero(present))
    least = MARGIN * moved + TURN_MARGIN * present.sum() * (turn > 0)
    certain = least > 0 and gains >= max(least, ERRORS * error)
    agreement, before = (
        float(np.mean(_right(total[way][None], by)[0, present] / pixels.sum(axis=0)))
        for way, by in ((turn, order), (0, plain))
    )
    as_it_is = before if channels == classes else float("nan")
    chance = 1 / int(present.sum())
    return LayoutMatch(turn, order, as_it_is, agreement, chance, bool(certain))


def _mean_gain(
    gained: Integer[np.ndarray, "unit class"], pixels: Integer[np.ndarray, "unit class"]
) -> tuple[float, float]:
    """Return the sum over the classes of the share of pixels gained, and its standard error.

    Shares are ratios: what counts is how far the gain of a unit lies from what its pixels of each
    class let expect, not how many of them it has.
    """
    sums = pixels.sum(axis=0)
    shares = gained.sum(axis=0) / sums
    residuals = ((gained - shares * pixels) / sums).sum(axis=1)
    units = len(pixels)
    return float(shares.sum()), float(np.sqrt(units / (units - 1) * (residuals**2).sum()))


def _best(total: Integer[np.ndarray, "turn channel class"]) -> tuple[int, Order]:
    """Return the turn and order that agree best after paying for what they change."""
    pixels = total[0].sum(axis=0)
    present = pixels > 0
    found: list[tuple[float, int, Order]] = []
    for way, table in enumerate(total):
        recalls = table / np.maximum(pixels, 1)
        for order in _orders(recalls):
            right = (_right(table[None], order)[0] / np.maximum(pixels, 1)).sum()
            same = recalls.shape[0] == recalls.shape[1]
            moved = sum(order[c] != c for c in np.flatnonzero(present)) if same else 0
            paid = MARGIN * moved + TURN_MARGIN * present.sum() * (way > 0)
            found.append((float(right - paid), way, order))
    # The first of equals: the simplest turn, the lowest channel.
    _, way, order = max(found, key=lambda one: one[0])
    return way, order


def _orders(recalls: Recalls) -> list[Order]:
    """List orders of classes: the best one, or with one class too many or too few, each in turn."""
    channels, classes = recalls.shape
    if channels == classes + 1:
        return [tuple(c for c in range(channels) if c != k) for k in range(channels)]
    if channels == classes - 1:
        return [(*range(k), None, *range(k, channels)) for k in range(classes)]
    of, to = linear_sum_assignment(recalls + MARGIN * np.eye(classes), maximize=True)
    return [tuple(int(channel) for channel in of[np.argsort(to)])]


def _right(
    counted: Integer[np.ndarray, "unit channel class"], order: Order
) -> Integer[np.ndarray, "unit class"]:
    """Return how many pixels of each class are right."""
    padded = np.concatenate([counted, np.zeros_like(counted[:, :1])], axis=1)
    channels = [padded.shape[1] - 1 if channel is None else channel for channel in order]
    return padded[:, channels, np.arange(len(order))]


@dataclass(frozen=True)
class LayoutCandidates:
    """What is seen of foreign maps before they are compared.

    Args:
        foreign: the maps.
        ways: turns that give images of our size, the simplest first.
        channels: how many classes they have.
        classes: ours.
        found: range of the values.
    """

    foreign: ExternalMaps
    ways: Sequence[Orientation]
    channels: int
    classes: Classes
    found: ValueRange

    @property
    def forced(self) -> bool:
        """Tell whether they cannot be taken as they are."""
        return self.channels != len(self.classes) or self.ways[0].swapped

    @property
    def sizes(self) -> str:
        """Classes and pixels, in words."""
        rows, cols = self.foreign.size[-2:]
        return f"{self.channels} classes of {rows} x {cols} pixels"


def without_comparison(given: LayoutCandidates) -> tuple[Order, str]:
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


def explained(given: LayoutCandidates, told: LayoutMatch, known: str) -> str:
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


def _order(order: Order, given: LayoutCandidates) -> str:
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
