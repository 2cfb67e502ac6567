"""Regions of each class, their edges, and how far the edges of two are apart."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Float

from evaluation.ground.arrays import Array
from evaluation.ground.classes import UNLABELLED
from evaluation.iou import PerClass, mean_over_present, shares
from evaluation.metrics.measure import Measured, Metric, Seen, mean_of_pictures

Masks = Bool[np.ndarray, "picture class row col"]
Distances = Float[np.ndarray, "_"]
OfEdges = Callable[[Distances, Distances], float]


def regions(seen: Seen) -> tuple[Masks, Masks]:
    """Return where truth and guess have each scored class, on the pixels that are scored.

    Others are in no region of either, so what is guessed there has no effect; where a region runs
    into them it ends for both.
    """
    labels = np.arange(seen.classes)[:, np.newaxis, np.newaxis]
    truth, guess = (a[:, np.newaxis] == labels for a in (seen.truth, seen.guess))
    dropped = seen.truth == UNLABELLED
    if seen.ignore is not None:
        dropped |= seen.truth == seen.ignore
        truth[:, seen.ignore] = guess[:, seen.ignore] = False
    guess &= ~dropped[:, np.newaxis]
    return truth, guess


def by_edges(measured: OfEdges, *, one_lacks: Callable[[Seen], float]) -> Metric:
    """Make a metric of the distances between the edges of each class, picture by picture.

    A class has its mean over the pictures where truth or guess have it; the mean is over classes.

    Args:
        measured: gives the value by the distances (px) from the truth's edge pixels to the guess'
            and from the guess' to the truth's.
        one_lacks: the value where only one of the two has the class.
    """

    def terms(seen: Seen) -> Array:
        truth, guess = regions(seen)
        there, guessed = truth.any(axis=(2, 3)), guess.any(axis=(2, 3))
        values: PerClass = np.where(there ^ guessed, one_lacks(seen), np.nan)
        for place, distances in edge_distances(truth, guess, np.asarray(there & guessed)):
            values[place] = measured(*distances)
        return mean_of_pictures(values)

    def value(sums: Array) -> Measured:
        found = shares(sums[..., 0, :], sums[..., 1, :])
        return Measured(mean_over_present(found), found)

    return Metric("labels", terms, value)


def edge_distances(
    truth: Masks, guess: Masks, places: Bool[np.ndarray, "picture class"]
) -> Iterator[tuple[tuple[int, int], tuple[Distances, Distances]]]:
    """Yield for each picture and class the edges' distances, truth to guess and guess to truth.

    An edge pixel is one with a side on another region or on the border of the picture.
    """
    from scipy import ndimage  # slow to import

    cross = ndimage.generate_binary_structure(2, 1)[np.newaxis, np.newaxis]
    edges = [mask & ~ndimage.binary_erosion(mask, cross) for mask in (truth, guess)]
    for picture, label in np.argwhere(places).tolist():
        mine, theirs = (edge[picture, label] for edge in edges)
        to_theirs, to_mine = (ndimage.distance_transform_edt(~edge) for edge in (theirs, mine))
        yield (picture, label), (to_theirs[mine], to_mine[theirs])
