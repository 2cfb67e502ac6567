"""How foreign labels go together with known ones: by which turn, and in which order of classes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from scipy.optimize import linear_sum_assignment

from members.foreign.counting import Tables

Order = tuple[int | None, ...]
"""The foreign channel of each class; None where there is no such channel."""

Recalls = Float[np.ndarray, "channel class"]

MARGIN = 0.1
"""Another order must add this much to the agreement, on the average of the classes it moves: weak
members confuse classes."""

TURN_MARGIN = 0.02
"""A turn must add this much, on the average of all classes: no member is better upside down, but
pictures of one class nearly everywhere change little."""

ERRORS = 3
"""The gain must be this many of its standard errors."""

FEWEST_UNITS = 8
FEWEST_HOLDING = 4
"""Classes that fewer units hold are not compared."""


@dataclass(frozen=True)
class Explanation:
    """What best explains foreign labels.

    Args:
        turn: index of the turn.
        order: of the classes.
        plain: how often they agree as they are, the mean over the classes; NaN where sizes or
            numbers of classes forbid it.
        agreement: how often they agree so explained.
        chance: how often labels would agree that know nothing of the picture, at most.
        certain: the gain is clear on pictures that did not choose the explanation.
    """

    turn: int
    order: Order
    plain: float
    agreement: float
    chance: float
    certain: bool

    @property
    def credible(self) -> bool:
        """Tell whether the labels, so explained, know something of the pictures."""
        return self.agreement >= self.chance + MARGIN


def explain(counted: Tables) -> Explanation | None:
    """Find the turn and the order of classes that agree best, the plain ones where none is clear.

    Agreement is the mean over the classes of the share of their pixels that is labelled so. What
    turns or moves classes pays for each class it concerns. Whether the gain is real is told from
    pictures that did not choose: each half of the units is examined by the explanation that the
    other half chose.

    Args:
        counted: see `members.foreign.counting.tables`; the first turn is the simplest.

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
    return Explanation(turn, order, as_it_is, agreement, chance, bool(certain))


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
