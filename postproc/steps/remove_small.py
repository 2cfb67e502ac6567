"""Specks go to what surrounds them."""

from evaluation.ground.arrays import Labels
from postproc.options import Area, areas
from postproc.refill import Refill, removing
from postproc.regions import Connectivity, Mask, Regions
from postproc.step import Step


def remove_small(
    classes: int,
    ignore: int | None,
    *,
    min_area_px: Area | list[Area] = 64,
    connectivity: Connectivity = 1,
    refill: Refill = "neighbour",
) -> Step:
    """Replace regions smaller than `min_area_px` by what lies next to them, or the next best class.

    By `neighbour` each of their pixels takes the label of the nearest pixel of a region that stays
    (steps along rows and columns; the lowest of several labels), by `majority` each gap that they
    leave takes, as a whole, the label that most of the pixels around it have; so they join that
    region and nothing small is left. By `next_best` each pixel takes its most probable class
    other than the one that it had and the ignored one (the nearest label where no other has a
    chance); the step then takes maps and gives labels. What it puts there may be small again; a
    plain `remove_small` after it takes care of that.

    A picture in which every region is small stays as it is. The border ends a region: what lies
    beyond does not count into its area.

    Args:
        classes: how many there are.
        ignore: the class that `next_best` never gives, or None.
        min_area_px: the smallest area that stays, in pixels; one for all classes or one for each,
            1 for those whose regions all stay.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
        refill: what takes their place.
    """
    least = areas("min_area_px", min_area_px, classes)

    def small(labels: Labels) -> Mask:
        regions = Regions.of(labels, connectivity=connectivity)
        return regions.paint(regions.areas < least[regions.labels])

    return removing(small, refill, ignore)
