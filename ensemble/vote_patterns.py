"""Distinct combinations of the members' predictions, each with the number of its pixels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from ensemble.fusion import Blocks, check_any_scored
from evaluation.confusion import scored_pixels
from evaluation.core.arrays import argmax

MAX_CODE = 2**63


@dataclass(frozen=True)
class VotePatterns:
    """The distinct combinations of the members' predictions, in lexical order.

    There are thousands of them where there are millions of pixels, so what depends on predictions
    alone can iterate over them many times.

    Args:
        labels: the most probable class by each member; ties go to the lowest.
        counts: number of scored pixels per combination.
    """

    labels: Integer[np.ndarray, "member combination"]
    counts: Integer[np.ndarray, " combination"]


def vote_patterns(blocks: Blocks, *, classes: int, ignore: int | None) -> VotePatterns:
    """Count the combinations of predictions over the scored pixels of all blocks.

    The target only decides which pixels are scored.

    Raises:
        BadData: no scored pixel.
    """
    merged: list[VotePatterns] = []
    for maps, target, _ in blocks:
        scored = scored_pixels(target, ignore)
        labels = np.stack([argmax(one)[scored] for one in maps])
        pixels = VotePatterns(labels, np.ones(labels.shape[1], np.int64))
        # Merged at once, so that memory grows with the combinations and not with the blocks.
        merged = [_merge([*merged, pixels], classes)]
    check_any_scored(merged and len(merged[0].counts))
    return merged[0]


def _merge(parts: list[VotePatterns], classes: int) -> VotePatterns:
    labels = np.concatenate([part.labels for part in parts], axis=1)
    counts = np.concatenate([part.counts for part in parts])
    code, codes = np.zeros(len(counts), np.int64), 1
    for row in labels:
        if codes * classes > MAX_CODE:
            distinct, code = np.unique(code, return_inverse=True)
            codes = len(distinct)
        code, codes = code * classes + row, codes * classes
    _, first, index = np.unique(code, return_index=True, return_inverse=True)
    # Sums in float64 are exact up to 2^53 pixels.
    sums = np.bincount(index, weights=counts, minlength=len(first)).astype(np.int64)
    return VotePatterns(labels[:, first], sums)
