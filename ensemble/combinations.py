"""What the members guessed together: each combination once, with how often it was met."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from ensemble.fusion import Blocks
from evaluation.ground.arrays import Maps
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadData

LARGEST_CODE = 2**63

Guesses = Integer[np.ndarray, "combination member"]
Times = Integer[np.ndarray, "combination"]


@dataclass(frozen=True)
class Combinations:
    """The distinct combinations of the members' guesses, in lexical order.

    There are thousands of them where there are millions of pixels, so what goes by guesses alone
    can go over them again and again.

    Args:
        guesses: the most probable class of each member; of equal ones, the lowest.
        times: how many scored pixels have them.
    """

    guesses: Guesses
    times: Times


def combinations(blocks: Blocks, *, classes: int, ignore: int | None) -> Combinations:
    """Count the combinations of guesses over the scored pixels of all blocks.

    Of the truth only that matters: which pixels are scored.

    Raises:
        BadData: no scored pixel.
    """
    met: list[Combinations] = []
    for maps, truth, _ in blocks:
        kept = truth != UNLABELLED if ignore is None else (truth != UNLABELLED) & (truth != ignore)
        found = _guesses(maps)[kept]
        # Merged at once, so that memory grows with the combinations and not with the blocks.
        met = [_merged([*met, Combinations(found, np.ones(len(found), np.int64))], classes)]
    if not met or not len(met[0].times):
        raise BadData("the truth to fit on has no scored pixel; give pictures that have some")
    return met[0]


def _guesses(maps: Maps) -> Integer[np.ndarray, "picture row col member"]:
    return np.stack([one.argmax(axis=1).astype(np.uint8) for one in maps], axis=-1)


def _merged(parts: list[Combinations], classes: int) -> Combinations:
    guesses = np.concatenate([part.guesses for part in parts])
    times = np.concatenate([part.times for part in parts])
    code, codes = np.zeros(len(guesses), np.int64), 1
    for column in guesses.T:
        if codes * classes > LARGEST_CODE:
            distinct, code = np.unique(code, return_inverse=True)
            codes = len(distinct)
        code, codes = code * classes + column, codes * classes
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    # Sums in float64 are exact up to 2^53 pixels.
    counts = np.bincount(place, weights=times, minlength=len(first)).astype(np.int64)
    return Combinations(guesses[first], counts)
