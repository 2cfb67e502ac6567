"""Protocols that score each picture by itself, by sums that add up over pictures as counts do."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Num

from evaluation.ground.arrays import Counts
from evaluation.iou import (
    Absent,
    Protocol,
    Score,
    Tables,
    class_mean,
    shares,
)

Terms = Num[np.ndarray, "*sets row col"]
"""What adds up over pictures: counts, or sums of scores above the numbers of their pictures."""

Sums = Float[np.ndarray, "*sets sum_number class_mean"]


@dataclass(frozen=True)
class ByPicture:
    """A definition of the score that averages over pictures.

    Called like any protocol it takes every table for one picture; what counts of several pictures
    score is the business of `terms` and `total`. A weighted sum of terms is the score of pictures
    that were drawn so often, which is all that a bootstrap needs.

    Args:
        picture: scores pictures, a table each.
        first: what is averaged first: each picture's classes, or each class over its pictures.
        absent: what an absent class counts where classes are averaged: in a picture, or, where
            pictures are averaged first, in all of them.
    """

    picture: Protocol
    first: Literal["classes", "pictures"]
    absent: Absent = "skip"

    def __call__(self, counts: Tables, ignore: int | None) -> Score:
        """Score every table as one picture."""
        return self.total(self.terms(counts, ignore), ignore)

    def terms(self, counts: Tables, ignore: int | None) -> Sums:
        """Return each picture's IoU by class and, last, its mean; below, 1 for what it has."""
        found = self.picture(counts, ignore)
        values = np.concatenate([found.iou, found.miou[..., np.newaxis]], axis=-1)
        known = ~np.isnan(values)
        return np.stack([np.where(known, values, 0), known.astype(np.float64)], axis=-2)

    def total(self, terms: Sums, ignore: int | None) -> Score:
        """Score sets of pictures by their summed terms."""
        means = shares(terms[..., 0, :], terms[..., 1, :])
        if self.first == "classes":
            return Score(means[..., :-1], np.asarray(means[..., -1]), self.absent)
        scored = np.asarray(terms[..., 1, -1] > 0)
        return class_mean(means[..., :-1], self.absent, left_out=ignore, scored=scored)


def terms(protocol: Protocol, counts: Tables, ignore: int | None) -> Terms:
    """Return what adds up over pictures: the counts, or a `ByPicture` protocol's own terms."""
    return protocol.terms(counts, ignore) if isinstance(protocol, ByPicture) else counts


def total(protocol: Protocol, summed: Terms, ignore: int | None) -> Score:
    """Score sets of pictures by the sum of `terms` over each set."""
    if isinstance(protocol, ByPicture):
        return protocol.total(summed, ignore)
    return protocol(summed, ignore)


def score_pictures(protocol: Protocol, counts: Counts, ignore: int | None) -> Score:
    """Score a set of pictures.

    Args:
        protocol: any.
        counts: one table a picture.
        ignore: the ignored class, or None.
    """
    return total(protocol, terms(protocol, counts, ignore).sum(axis=0), ignore)
