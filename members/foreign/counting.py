"""Pixels by foreign and known label, for each way to lay the pictures."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Integer

from evaluation.ground.arrays import Array
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.spaced import spaced
from members.foreign.turns import Turn

Tables = Integer[np.ndarray, "turn unit channel class"]

UNITS = 32
PICTURES = 512
PIXELS = 1 << 14
"""A picture's pixels that are looked at, about: every few rows and columns of large pictures."""


def tables(
    foreign: Callable[[Array], Array],
    known: Callable[[Array], Array],
    ways: Sequence[Turn],
    *,
    pictures: int,
    channels: int,
    classes: int,
) -> Tables:
    """Count pixels by foreign and known label, for each turn and each unit of pictures.

    A unit is a run of neighbouring pictures, which resemble each other; units are what counts
    as one observation.

    Args:
        foreign: gives the foreign labels of places (picture, row, col).
        known: gives our labels of the same places; 255 where they do not count.
        ways: turns to try on the foreign labels.
        pictures: how many there are.
        channels: of the foreign maps.
        classes: of ours.
    """
    chosen = np.array(spaced(pictures, PICTURES))
    units = np.array_split(chosen, min(UNITS, len(chosen)))
    counted = np.zeros((len(ways), len(units), channels, classes), np.int64)
    for unit, places in enumerate(units):
        truth, given = known(places), foreign(places)
        step = max(1, int(np.sqrt(truth[0].size / PIXELS)))
        truth = truth[:, ::step, ::step].ravel()
        kept = truth != UNLABELLED
        for way, turn in enumerate(ways):
            turned = turn(given)[:, ::step, ::step].ravel()
            cell = turned[kept].astype(np.int64) * classes + truth[kept]
            cells = np.bincount(cell, minlength=channels * classes)
            counted[way, unit] = cells.reshape(channels, classes)
    return counted
