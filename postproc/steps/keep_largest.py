"""One region a class: what else there is of it goes."""

import numpy as np

from evaluation.ground.arrays import Labels
from postproc.options import Only, chosen
from postproc.refill import Refill, removing
from postproc.regions import Connectivity, Mask, Regions
from postproc.step import Step


def keep_largest(
    classes: int,
    ignore: int | None,
    *,
    only: Only = None,
    connectivity: Connectivity = 1,
    refill: Refill = "neighbour",
) -> Step:
    """Keep the largest region of each class in each picture, and replace its others.

    For things of which there is one, such as an organ or the sky. Of two as large, the one whose
    first row comes first stays, of the same row the left one. What is removed is refilled as in
    `remove_small`, by `neighbour`, `majority` or `next_best`; `next_best` may put down further
    regions. The border ends a region.

    Args:
        classes: how many there are.
        ignore: the class that `next_best` never gives, or None.
        only: the classes to do this to; by default all.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
        refill: what takes their place.
    """
    affected = np.isin(np.arange(classes), chosen(only, classes))

    def smaller(labels: Labels) -> Mask:
        regions = Regions.of(labels, connectivity=connectivity)
        order = np.lexsort((-regions.areas, regions.labels, regions.pictures))
        kind = np.stack([regions.pictures[order], regions.labels[order]])
        follows = np.append(False, (kind[:, 1:] == kind[:, :-1]).all(axis=0))
        gone = np.zeros(len(order), dtype=bool)
        gone[order] = follows
        return regions.paint(gone & affected[regions.labels])

    return removing(smaller, refill, ignore)
