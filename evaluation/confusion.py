"""Confusion counts: pixels by image, true class and predicted class.

Pixels that an operation on label maps fixes, breaks, or moves from one wrong label to another.

A gain in mean IoU hides how it came about: a step may fix as many pixels as it breaks, or fix soil
and break big rock.
"""

import functools
from collections.abc import Callable, Iterable
from ctypes import c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, Integer, Shaped

from evaluation.core.blocks import BLOCK_IMAGES, blocks, map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadLabels
from evaluation.core.native import load_library
from evaluation.core.types import Array, Counts

BlockCounts = Integer[np.ndarray, "_ true prediction"]
Given = Shaped[np.ndarray, "image row col"]

PIECE_PIXELS = 1 << 19
"""Pixels worked on at a time, so that large images stay flat."""


@runtime_checkable
class LazyLabels(Protocol):
    """Label maps as they come: an array, a memory map, anything that gives blocks by slice."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(image, row, col), not looked at yet."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values, not looked at yet."""
        ...

    def __getitem__(self, block: slice, /) -> Any:
        """Return the images of a slice."""
        ...


def confusion(target: LazyLabels, pred: LazyLabels, *, classes: int) -> Counts:
    """Count pixels by (true class, predicted class), one table an image.

    Counts of different images add up, so a data set is scored by summing them; averaging
    per-image IoU instead would weigh a rare class by the number of images it appears in.
    Every row is kept, the ignored class too: what is dropped is the protocol's business.

    Args:
        target: class index per pixel, (image, row, col); 255 where the annotators gave none.
        pred: class index per pixel, same shape.
        classes: how many classes there are, 1 to 255; indices run from 0 to `classes - 1`.

    Returns:
        Counts, (image, true class, predicted class); pixels with target 255 are in none of them.

    Raises:
        BadLabels: no integers, an index outside the classes, or shapes that differ.
    """
    size = _checked_size(target, pred)
    tables = (
        _counted(target[block], pred[block], classes) for block in blocks(target.shape[0], size)
    )
    return _together(tables, target.shape, classes)


def parallel_confusion(
    target: LazyLabels, pred: LazyLabels, *, classes: int, threads: int | None = None
) -> Counts:
    """Count as `confusion` does, several blocks of images at a time.

    Blocks are read when their turn comes, so label maps on disk never stand in memory as a whole.

    Args:
        target: as in `confusion`; read from several threads at once.
        pred: as in `confusion`; read from several threads at once.
        classes: how many classes there are.
        threads: how many at a time; the number of cores by default.

    Returns:
        What `confusion` returns.

    Raises:
        BadLabels: as in `confusion`.
    """
    size = _checked_size(target, pred)

    def work(block: slice) -> Counts:
        return _counted(target[block], pred[block], classes)

    tables = map_blocks(work, target.shape[0], size=size, threads=threads)
    return _together(tables, target.shape, classes)


def _checked_size(target: LazyLabels, pred: LazyLabels) -> int:
    """Look at types and shapes; return how many images make a block."""
    for name, labels in (("target", target), ("pred", pred)):
        if labels.dtype.kind not in "iu":
            raise BadLabels(f"{name} is {labels.dtype}; expected integers")
        if len(labels.shape) != 3:
            raise BadLabels(f"{name} has shape {labels.shape}; expected (image, row, col)")
    if pred.shape != target.shape:
        raise BadLabels(f"prediction has shape {pred.shape}; expected {target.shape} as in target")
    pixels = max(1, target.shape[1] * target.shape[2])
    return max(1, min(BLOCK_IMAGES, PIECE_PIXELS // pixels))


def _counted(target: Any, pred: Any, classes: int) -> Counts:
    true, predicted = np.asarray(target), np.asarray(pred)
    counts = np.zeros((len(true), classes, classes), np.int64)
    if not (_may_be_bytes(true) and _may_be_bytes(predicted) and _count(true, predicted, counts)):
        _refuse("target", true, classes, besides=(UNLABELLED,))
        _refuse("pred", predicted, classes, besides=())
    return counts


def _may_be_bytes(labels: Given) -> bool:
    """Tell whether labels keep their values as uint8."""
    if labels.dtype == np.uint8:
        return True
    return bool(labels.min(initial=0) >= 0 and labels.max(initial=0) <= UNLABELLED)


def _count(target: Given, pred: Given, counts: BlockCounts) -> bool:
    """Add pixels to zeros, in compiled code; tell whether all labels are known."""
    true, predicted = (np.ascontiguousarray(labels, np.uint8) for labels in (target, pred))
    images, classes = counts.shape[:2]
    sizes = (images, target[:1].size, classes)
    return not _library()(true.ctypes.data, predicted.ctypes.data, *sizes, counts.ctypes.data)


@functools.cache
def _library() -> Callable[..., int]:
    """Return the compiled function; see count_pixels.cpp."""
    function = load_library(Path(__file__).with_name("count_pixels.so")).count_pixels
    function.restype = c_int
    function.argtypes = (c_void_p, c_void_p, c_int64, c_int64, c_int32, c_void_p)
    found: Callable[..., int] = function
    return found


def _refuse(name: str, labels: Given, classes: int, *, besides: tuple[int, ...]) -> None:
    found = np.unique(labels)
    inside = ((found >= 0) & (found < classes)) | np.isin(found, besides)
    if not inside.all():
        also = "".join(f" or {label} (not labelled)" for label in besides)
        strange = found[~inside].tolist()
        shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
        raise BadLabels(f"{name} holds {shown}; expected 0 to {classes - 1}{also}")


def _together(tables: Iterable[BlockCounts], shape: tuple[int, ...], classes: int) -> Counts:
    """Put tables of blocks one after the other, in the smallest type that holds an image's."""
    images, rows, cols = shape
    kind = np.int32 if rows * cols <= np.iinfo(np.int32).max else np.int64
    counts: Counts = np.empty((images, classes, classes), kind)
    start = 0
    for table in tables:
        counts[start : start + len(table)] = table
        start += len(table)
    return counts


CHANGES = ("fixed", "broken", "moved")
"""The columns: wrong becomes right, right becomes wrong, wrong becomes another wrong."""

FIXED, BROKEN, MOVED = range(3)

Changes = Int64[np.ndarray, "true change"]


def pixel_changes(
    target: Array, before: Array, after: Array, *, classes: int, ignore: int | None
) -> Changes:
    """Count the scored pixels whose label changes, by true class and by what that is worth.

    Fixed minus broken is the change in right pixels. Counts add up: over blocks of images, and,
    for fixed minus broken, over the steps of a chain. A pixel that one step breaks and the next
    one fixes is in both.

    Args:
        target: class index per pixel, (image, row, col); 255 where the annotators gave none.
        before: labels before the step, same shape.
        after: labels after it, same shape.
        classes: how many classes there are.
        ignore: pixels of this true class are in none of the counts; None leaves out none.

    Returns:
        Pixels, (true class, change), the changes in the order of `CHANGES`.

    Raises:
        BadLabels: shapes that differ, or target outside the classes.
    """
    _check(target, before, after, classes)
    changed = before != after
    true, old, new = target[changed].astype(np.intp), before[changed], after[changed]
    kind = np.select([new == true, old == true], [FIXED, BROKEN], MOVED)
    scored = true != UNLABELLED
    if ignore is not None:
        scored &= true != ignore
    cells = true[scored] * len(CHANGES) + kind[scored]
    counted = np.bincount(cells, minlength=classes * len(CHANGES))
    return counted.reshape(classes, len(CHANGES)).astype(np.int64)


def _check(target: Array, before: Array, after: Array, classes: int) -> None:
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
