"""Morphology of label maps: opening, closing, hole filling, and removal of small regions."""

import cv2
import numpy as np

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec
from evaluation.core.specs import one_per_class
from evaluation.core.types import Images, Labels
from postproc.batched_filters import (
    OddSize,
    apply_by_pieces,
    as_image,
    dilate,
    erode,
    square_kernel,
    stack_images,
)
from postproc.regions import (
    Connectivity,
    Mask,
    Refill,
    Regions,
    fill_with_nearest,
    join_regions,
    present_labels,
    remove_regions,
)
from postproc.step import Area, Label, Only, Step, background_class, parse_classes


def opening(*, size: OddSize = 3) -> Step:
    """Open all classes with a square; removed pixels take the nearest label.

    A pixel stays where some square of its own label covers it. The others take the label of the
    nearest pixel that stays (steps along rows and columns; ties go to the lowest label); an image
    where none stays is left unchanged. The square is cropped at the border, so a region is not
    eroded from outside the image.

    Args:
        size: side of the square in pixels, odd.

    Examples:
        >>> labels = np.ones((1, 3, 5), np.uint8)
        >>> labels[0, :, 2] = 2
        >>> opening(size=3).apply(labels, None)[0, 0]
        array([1, 1, 1, 1, 1], dtype=uint8)
    """

    def apply(labels: Labels, _: Images | None) -> Labels:
        centres = (erode(labels, size) == dilate(labels, size)).view(np.uint8)
        return fill_with_nearest(labels, dilate(centres, size) == 0)

    return Step("labels", "labels", apply)


def closing(classes: int, *, size: OddSize = 3, only: Only = None) -> Step:
    """Close each class with a square, in ascending order of the classes.

    A pixel goes to the class where every square that covers it contains that class: cracks and
    notches narrower than the square. Each class is closed on the result of those below it, so
    where two claim a pixel the higher gets it; name the classes in `only` where that matters.
    Squares have their centre in the image and are cropped at the border, as in OpenCV and
    scikit-image: a strip between the class and the border closes up to half the square's width.

    Args:
        size: side of the square in pixels, odd.
        only: the classes to close; by default all.

    Examples:
        >>> labels = np.ones((1, 3, 5), np.uint8)
        >>> labels[0, :, 2] = 0
        >>> closing(2, size=3).apply(labels, None)[0, 0]
        array([1, 1, 1, 1, 1], dtype=uint8)
    """
    chosen, kernel = parse_classes(only, classes), square_kernel(size)

    def close(labels: Labels) -> Labels:
        stacked = stack_images(labels, gap=size // 2, fill=UNLABELLED)
        rows = labels.shape[1]
        for label in np.intersect1d(chosen, present_labels(labels)):
            grown = cv2.dilate(as_image(stacked == label), kernel).reshape(stacked.shape)
            grown[:, rows:] = 1
            closed = cv2.erode(as_image(grown), kernel).reshape(stacked.shape)
            np.copyto(stacked[:, :rows], np.uint8(label), where=closed[:, :rows].view(bool))
        return stacked[:, :rows]

    return Step("labels", "labels", lambda labels, _: apply_by_pieces(labels, close))


def fill_holes(
    classes: int,
    *,
    max_area_px: Area = 64,
    only: Only = None,
    connectivity: Connectivity = 1,
) -> Step:
    """Fill what one class wholly encloses, whatever labels are inside, with that class.

    A region is enclosed if no path leads out of it, by default along rows and columns, so that a
    ring closed at its corners encloses. What touches the border of the image is not enclosed. Of
    two nested holes, the one in the lower class is filled first.

    Args:
        max_area_px: the largest hole that is filled, in pixels.
        only: the classes whose holes are filled; by default all.
        connectivity: of a hole: 1 joins pixels that share a side, 2 also those that share a
            corner, so that a ring must be closed at its sides.

    Examples:
        >>> labels = np.array([[[1, 1, 1], [1, 0, 1], [1, 1, 1]]], np.uint8)
        >>> fill_holes(2).apply(labels, None)[0, 1]
        array([1, 1, 1], dtype=uint8)
    """
    chosen = parse_classes(only, classes)

    def apply(labels: Labels, _: Images | None) -> Labels:
        regions = Regions.of(labels, connectivity=connectivity)
        border, pairs = regions.at_border(), regions.neighbours()
        label_of = regions.labels.copy()
        for label in np.intersect1d(chosen, label_of):
            other = label_of != label
            count, joined = join_regions(regions, other, pairs)
            area = np.bincount(joined, weights=regions.areas, minlength=count)
            open_to_border = np.zeros(count, dtype=bool)
            open_to_border[joined[border]] = True
            hole = (area <= max_area_px) & ~open_to_border
            label_of[other & hole[joined]] = label
        return regions.paint(label_of)

    return Step("labels", "labels", apply, when_repeated="redundant")


def keep_largest(
    classes: int,
    ignore: int | None,
    *,
    count: Area = 1,
    together: bool = False,
    only: Only = None,
    connectivity: Connectivity = 1,
    refill: Refill = "neighbour",
    background: Label | None = None,
) -> Step:
    """Keep the largest region of each class per image, or of all together, and replace the others.

    For things that occur once, such as an organ or the sky. Of two regions of equal area, the one
    that starts in the upper row stays, in the same row the left one. Removed pixels are refilled
    as in `remove_small`; `next_best` may create further regions. The border ends a region.

    `keep_largest(together=true, connectivity=2, refill=background, background=0)` is what nnU-Net
    tries first as its post-processing, for all foreground classes.

    Args:
        ignore: the class that `next_best` never assigns, or None.
        count: how many regions stay, the largest ones.
        together: regions of the classes in `only`, whichever they are, are joined where they touch
            and compared with each other; otherwise each class has its own largest region.
        only: the classes to apply this to; by default all, without the background where `together`
            or `refill` asks for one.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
        refill: `neighbour`, `majority`, `next_best` or `background`; see `remove_small`.
        background: the class of `refill=background`; by default the one that is not scored.

    References:
        `remove_all_but_largest_component_from_segmentation` of nnU-Net v2;
        `KeepLargestConnectedComponent(independent=False, num_components=...)`, MONAI 1.6.

    Examples:
        >>> labels = np.array([[[1, 1, 0, 0, 1]]], np.uint8)
        >>> keep_largest(2, None).apply(labels, None)
        array([[[1, 1, 0, 0, 0]]], dtype=uint8)
    """
    rest = None
    if refill == "background" or (together and only is None) or background is not None:
        rest = background_class(background, ignore, classes)
    chosen = np.isin(np.arange(classes), parse_classes(only, classes))
    if rest is not None and only is None:
        chosen[rest] = False
    if rest is not None and chosen[rest]:
        raise BadSpec(f"only={only} contains the background, class {rest}; leave it out")

    def smaller(labels: Labels) -> Mask:
        compared = chosen[labels].view(np.uint8) if together else labels
        regions = Regions.of(compared, connectivity=connectivity)
        order = np.lexsort((-regions.areas, regions.labels, regions.images))
        kind = np.stack([regions.images[order], regions.labels[order]])
        rank = np.arange(len(order))
        starts = np.append(True, (kind[:, 1:] != kind[:, :-1]).any(axis=0))
        removed = np.zeros(len(order), dtype=bool)
        removed[order] = rank - np.maximum.accumulate(np.where(starts, rank, 0)) >= count
        affected = regions.labels == 1 if together else chosen[regions.labels]
        return regions.paint(removed & affected)

    return remove_regions(smaller, refill, ignore, rest)


def remove_small(
    classes: int,
    ignore: int | None,
    *,
    min_area_px: Area | list[Area] = 64,
    connectivity: Connectivity = 1,
    refill: Refill = "neighbour",
    background: Label | None = None,
) -> Step:
    """Replace regions smaller than `min_area_px` by an adjacent label, or the next best class.

    With `neighbour` each of their pixels takes the label of the nearest pixel of a region that
    stays (steps along rows and columns; ties go to the lowest label); with `majority` each gap
    takes, as a whole, the most frequent label around it; so they join that region and nothing
    small is left. With `next_best` each pixel takes its most probable class other than its own and
    the ignored one (the nearest label where all others have probability 0); the step then works on
    maps and returns labels. Its regions may be small again; follow it by a plain `remove_small`.
    With `background` each pixel takes that class, whose own small regions stay.

    An image in which every region is small is left unchanged, but by `background`. The border ends
    a region: what lies beyond does not count into its area.

    Args:
        ignore: the class that `next_best` never assigns, or None.
        min_area_px: the smallest area that stays, in pixels; one for all classes or one per class,
            1 for those whose regions all stay.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
        refill: what replaces them.
        background: the class of `refill=background`; by default the one that is not scored.

    Examples:
        >>> labels = np.array([[[1, 1, 1, 2, 1]]], np.uint8)
        >>> remove_small(3, None, min_area_px=2).apply(labels, None)
        array([[[1, 1, 1, 1, 1]]], dtype=uint8)
    """
    rest = None
    if refill == "background" or background is not None:
        rest = background_class(background, ignore, classes)
    areas = np.array(one_per_class("min_area_px", min_area_px, classes))

    def small(labels: Labels) -> Mask:
        regions = Regions.of(labels, connectivity=connectivity)
        return regions.paint(regions.areas < areas[regions.labels])

    return remove_regions(small, refill, ignore, rest)
