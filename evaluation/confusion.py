"""Confusion counts per image, and the pixels that an operation on label maps fixes or breaks."""

import functools
from collections.abc import Callable, Iterable
from ctypes import c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64, Integer, Shaped

from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadLabels
from evaluation.core.native import load_library
from evaluation.core.ragged import Extent, extent_of
from evaluation.core.types import Array, Counts

BlockCounts = Integer[np.ndarray, "_ target prediction"]
BlockLabels = Shaped[np.ndarray, "image row col"]

CHANGE_KINDS = ("fixed", "broken", "moved")
"""Wrong becomes right, right becomes wrong, wrong becomes another wrong class."""

FIXED, BROKEN, MOVED = range(3)

LABEL_BYTES = 4
"""Of a pixel of a block: its two labels, and their copies as uint8."""

ChangeCounts = Int64[np.ndarray, "target change"]


@runtime_checkable
class LazyLabels(Protocol):
    """Label maps that are read by slices of one size: an array, a memory map, `Ragged`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(image, row, col), not checked yet."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, not checked yet."""
        ...

    def __getitem__(self, block: slice, /) -> Any:
        """Return the images of a slice."""
        ...


def scored_pixels(target: Array, ignore: int | None) -> Bool[np.ndarray, "*shape"]:
    """Return the mask of scored pixels: those that are labelled, and not as the ignored class.

    Examples:
        >>> scored_pixels(np.array([0, 1, 255, 2]), ignore=0)
        array([False,  True, False,  True])
    """
    scored = target != UNLABELLED
    if ignore is not None:
        scored &= target != ignore
    return np.asarray(scored)


def confusion(target: LazyLabels, pred: LazyLabels, *, classes: int) -> Counts:
    """Count pixels per image by (target class, predicted class).

    Counts of different images add up, so a data set is scored by summing them. Averaging the IoU
    of each image instead would weigh a rare class by the number of images it appears in. Every
    row is kept, including that of the ignored class: protocols drop it.

    Args:
        target: class index per pixel, (image, row, col); 255 where unlabelled.
        pred: class index per pixel, same shape.
        classes: number of classes, 1 to 255; indices run from 0 to `classes - 1`.

    Returns:
        Counts, (image, target class, predicted class); pixels with target 255 are not counted.

    Raises:
        BadLabels: not integers, an index outside the classes, or shapes that differ.

    Examples:
        >>> target, pred = np.array([[[0, 1, 255]]]), np.array([[[0, 0, 1]]])
        >>> confusion(target, pred, classes=2)[0]
        array([[1, 0],
               [1, 0]], dtype=int32)
    """
    extent = _common_extent(target, pred)
    tables = (_count_block(target[block], pred[block], classes) for block in blocks(extent))
    return _concatenate(tables, extent, classes)


def parallel_confusion(
    target: LazyLabels, pred: LazyLabels, *, classes: int, threads: int | None = None
) -> Counts:
    """Count as `confusion` does, several blocks of images at a time.

    Blocks are read when they are counted, so label maps on disk are never in memory as a whole;
    both are read from several threads at once (the number of cores by default).
    """
    extent = _common_extent(target, pred)

    def count(block: slice) -> Counts:
        return _count_block(target[block], pred[block], classes)

    tables = map_blocks(count, extent, threads=threads, pixel_bytes=LABEL_BYTES)
    return _concatenate(tables, extent, classes)


def pixel_changes(
    target: Array, before: Array, after: Array, *, classes: int, ignore: int | None
) -> ChangeCounts:
    """Count the scored pixels whose label changes, by target class and kind of change.

    A gain in mean IoU hides how it came about: a step may fix as many pixels as it breaks. Fixed
    minus broken is the change in correct pixels. Counts add up over blocks of images and, for
    fixed minus broken, over the steps of a chain. A pixel that one step breaks and the next one
    fixes is in both.

    All label maps have shape (image, row, col); target is 255 where unlabelled.

    Returns:
        Pixels, (target class, change), in the order of `CHANGE_KINDS`.

    Raises:
        BadLabels: shapes that differ, or a target outside the classes.

    Examples:
        >>> target, before, after = (np.array([[row]]) for row in ([0, 1, 1], [0, 0, 0], [1, 1, 1]))
        >>> pixel_changes(target, before, after, classes=2, ignore=None)
        array([[0, 1, 0],
               [2, 0, 0]])
    """
    for name, labels in (("before", before), ("after", after)):
        if labels.shape != target.shape:
            raise BadLabels(
                f"{name} has shape {labels.shape}; expected {target.shape} as in target"
            )
    strange = np.unique(target[(target >= classes) & (target != UNLABELLED)])
    if len(strange):
        raise BadLabels(
            f"target holds {strange.tolist()}; expected 0 to {classes - 1} and {UNLABELLED}"
        )
    changed = (before != after) & scored_pixels(target, ignore)
    true, old, new = target[changed].astype(np.intp), before[changed], after[changed]
    kind = np.select([new == true, old == true], [FIXED, BROKEN], MOVED)
    counts = np.bincount(true * len(CHANGE_KINDS) + kind, minlength=classes * len(CHANGE_KINDS))
    return counts.reshape(classes, len(CHANGE_KINDS)).astype(np.int64)


def _common_extent(target: LazyLabels, pred: LazyLabels) -> Extent:
    """Check types and shapes; return number and sizes of the images."""
    for name, labels in (("target", target), ("prediction", pred)):
        if labels.dtype.kind not in "iu":
            raise BadLabels(f"{name} is {labels.dtype}; expected integers")
        if len(labels.shape) != 3:
            raise BadLabels(f"{name} has shape {labels.shape}; expected (image, row, col)")
    if pred.shape != target.shape:
        raise BadLabels(f"prediction has shape {pred.shape}; expected {target.shape} as in target")
    extent, found = extent_of(target), extent_of(pred)
    if found != extent:
        sizes = zip(found.sizes, extent.sizes, strict=True)
        index = next(number for number, (one, other) in enumerate(sizes) if one != other)
        raise BadLabels(
            f"prediction of image {index} has {found.size_of(index)} pixels; expected"
            f" {extent.size_of(index)} as in target"
        )
    return extent


def _count_block(target: Any, pred: Any, classes: int) -> Counts:
    target, pred = np.asarray(target), np.asarray(pred)
    counts = np.zeros((len(target), classes, classes), np.int64)
    if not (_fits_uint8(target) and _fits_uint8(pred) and _count(target, pred, counts)):
        _check_labels("target", target, classes, also=(UNLABELLED,))
        _check_labels("prediction", pred, classes, also=())
    return counts


def _fits_uint8(labels: BlockLabels) -> bool:
    if labels.dtype == np.uint8:
        return True
    return bool(labels.min(initial=0) >= 0 and labels.max(initial=0) <= UNLABELLED)


def _count(target: BlockLabels, pred: BlockLabels, counts: BlockCounts) -> bool:
    """Add pixels to zeros, in compiled code; return whether all labels are within the classes."""
    pointers = [np.ascontiguousarray(labels, np.uint8) for labels in (target, pred)]
    images, classes = counts.shape[:2]
    sizes = (images, target[:1].size, classes)
    return not _library()(*(a.ctypes.data for a in pointers), *sizes, counts.ctypes.data)


@functools.cache
def _library() -> Callable[..., int]:
    """Return the compiled function; see count_pixels.cpp."""
    function = load_library(Path(__file__).with_name("count_pixels.so")).count_pixels
    function.restype = c_int
    function.argtypes = (c_void_p, c_void_p, c_int64, c_int64, c_int32, c_void_p)
    count: Callable[..., int] = function
    return count


def _check_labels(name: str, labels: BlockLabels, classes: int, *, also: tuple[int, ...]) -> None:
    values = np.unique(labels)
    known = ((values >= 0) & (values < classes)) | np.isin(values, also)
    if not known.all():
        allowed = "".join(f" or {label} (not labelled)" for label in also)
        strange = values[~known].tolist()
        listed = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
        raise BadLabels(f"{name} holds {listed}; expected 0 to {classes - 1}{allowed}")


def _concatenate(tables: Iterable[BlockCounts], extent: Extent, classes: int) -> Counts:
    """Join the tables of blocks, in the smallest type that holds an image's counts."""
    largest = max((rows * cols for _, (rows, cols) in extent.runs), default=0)
    kind = np.int32 if largest <= np.iinfo(np.int32).max else np.int64
    counts: Counts = np.empty((len(extent), classes, classes), kind)
    start = 0
    for table in tables:
        counts[start : start + len(table)] = table
        start += len(table)
    return counts
