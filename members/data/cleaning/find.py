"""Look for what to drop from a data set: one reason a picture, the surest first."""

from collections.abc import Iterator

import numpy as np

from evaluation.ground.arrays import Array, Kept
from members.data.cleaning.copies import near_duplicates, thumbnails_and_hashes
from members.data.cleaning.novelty import Scores, features, novelty, strangest
from members.data.cleaning.reasons import Drop, Findings, Reason, Rules, refuse_lost_class, without
from members.data.contents import class_pixels
from members.data.dataset import DataSet
from members.data.outliers import shared_masks


def find(data: DataSet, *, listed: Kept, exempt: Kept, rules: Rules) -> Findings:
    """Find what to drop from a set.

    Near-duplicates are looked for among what the list and shared masks leave, so that one of each
    stays: the one with the most labelled pixels. Novelty is learned from what is then left.

    Args:
        data: the set, labelled or not.
        listed: True for pictures to drop whatever they hold.
        exempt: True for pictures that no other reason may drop.
        rules: what counts as a reason.

    Raises:
        BadData: a class would lose its last picture, or the set all its pictures.
    """
    drops = [Drop(int(p), Reason.LISTED, "on the drop list") for p in np.flatnonzero(listed)]
    drops += _sharing(data, ~listed & ~exempt)
    refuse_lost_class(data, drops)
    left = without(np.ones(len(data), bool), drops)
    thumbnails, hashes = thumbnails_and_hashes(data.pictures)
    drops += _copies(data, thumbnails, hashes, left, exempt, rules)
    left = without(left, drops)
    described = features(thumbnails, left)
    scores = novelty(described, left)
    drops += _novel(scores, left & ~exempt, round(rules.novelty * left.sum()))
    refuse_lost_class(data, drops)
    return Findings(data, tuple(sorted(drops, key=lambda drop: drop.place)), scores, described)


def _sharing(data: DataSet, among: Kept) -> Iterator[Drop]:
    for places in [] if data.masks is None else shared_masks(data.masks):
        for place in places[among[places]]:
            yield Drop(int(place), Reason.SHARED_MASK, f"mask shared by {len(places)} pictures")


def _copies(
    data: DataSet, thumbnails: Array, hashes: Array, left: Kept, exempt: Kept, rules: Rules
) -> Iterator[Drop]:
    places = np.flatnonzero(left)
    # What may not be dropped is the one that its copies are compared with.
    worth = (_labelled_pixels(data) + exempt * (1 + data.pictures[0].size))[places]
    for copy in near_duplicates(
        thumbnails[places], hashes[places], worth, distance=rules.distance, alike=rules.alike
    ):
        place, like = int(places[copy.place]), int(places[copy.of])
        why = f"copy of {data.ids[like]}, distance {copy.distance}, {copy.correlation:.3f} alike"
        if not exempt[place]:
            yield Drop(place, Reason.COPY, why, like)


def _novel(scores: Scores, among: Kept, count: int) -> Iterator[Drop]:
    for rank, place in enumerate(strangest(scores, among, count), 1):
        yield Drop(place, Reason.NOVELTY, f"number {rank} in strangeness, {scores[place]:.3f}")


def _labelled_pixels(data: DataSet) -> Array:
    if data.masks is None:
        return np.zeros(len(data), np.int64)
    pixels = class_pixels(data.masks, len(data.classes))
    return np.asarray(pixels[:, list(data.classes.scored)].sum(axis=1))
