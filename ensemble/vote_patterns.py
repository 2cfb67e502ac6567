"""What the members predicted together: each combination once, with how often it was met."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from ensemble.fusion import Blocks
from evaluation.core.arrays import argmax
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData

LARGEST_CODE = 2**63

Preds = Integer[np.ndarray, "member combination"]
Times = Integer[np.ndarray, "combination"]


@dataclass(frozen=True)
class VotePatterns:
    """The distinct combinations of the members' predictions, in lexical order.

    There are thousands of them where there are millions of pixels, so what goes by predictions alone
    can go over them again and again.

    Args:
        preds: the most probable class by each member; of equal ones, the lowest.
        times: how many scored pixels have them.
    """

    preds: Preds
    times: Times


def combinations(blocks: Blocks, *, classes: int, ignore: int | None) -> VotePatterns:
    """Count the combinations of predictions over the scored pixels of all blocks.

    Of the target only that matters: which pixels are scored.

    Raises:
        BadData: no scored pixel.
    """
    met: list[VotePatterns] = []
    for maps, target, _ in blocks:
        kept = (
            target != UNLABELLED if ignore is None else (target != UNLABELLED) & (target != ignore)
        )
        found = np.stack([argmax(one)[kept] for one in maps])
        # Merged at once, so that memory grows with the combinations and not with the blocks.
        met = [_merged([*met, VotePatterns(found, np.ones(found.shape[1], np.int64))], classes)]
    if not met or not len(met[0].times):
        raise BadData("the target to fit on has no scored pixel; give images that have some")
    return met[0]


def _merged(parts: list[VotePatterns], classes: int) -> VotePatterns:
    preds = np.concatenate([part.preds for part in parts], axis=1)
    times = np.concatenate([part.times for part in parts])
    code, codes = np.zeros(len(times), np.int64), 1
    for row in preds:
        if codes * classes > LARGEST_CODE:
            distinct, code = np.unique(code, return_inverse=True)
            codes = len(distinct)
        code, codes = code * classes + row, codes * classes
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    # Sums in float64 are exact up to 2^53 pixels.
    counts = np.bincount(place, weights=times, minlength=len(first)).astype(np.int64)
    return VotePatterns(preds[:, first], counts)
