"""Confusion counts: pixels by picture, true class and guessed class."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from evaluation.ground.arrays import Counts
from evaluation.ground.blocks import BLOCK_PICTURES, blocks, map_blocks
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadLabels
from evaluation.popcounts import Kept, popcounts

Pixels = UInt8[np.ndarray, "picture pixel"]
BlockCounts = Int64[np.ndarray, "_ true guess"]
Given = Shaped[np.ndarray, "picture row col"]

PIECE_PIXELS = 1 << 19
"""Pixels worked on at a time; their bits stay in the cache, and large pictures stay flat."""

FEW_CLASSES = 8
"""Up to here popcounts of class masks are faster than a histogram (measured, see `benchmarks/`)."""


@runtime_checkable
class GivenLabels(Protocol):
    """Label maps as they come: an array, a memory map, anything that gives blocks by slice."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(picture, row, col), not looked at yet."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values, not looked at yet."""
        ...

    def __getitem__(self, block: slice, /) -> Any:
        """Return the pictures of a slice."""
        ...


def confusion(truth: GivenLabels, guess: GivenLabels, *, classes: int) -> Counts:
    """Count pixels by (true class, guessed class), one table a picture.

    Counts of different pictures add up, so a data set is scored by summing them; averaging
    per-picture IoU instead would weigh a rare class by the number of pictures it appears in.
    Every row is kept, the ignored class too: what is dropped is the protocol's business.

    Args:
        truth: class index per pixel, (picture, row, col); 255 where the annotators gave none.
        guess: class index per pixel, same shape.
        classes: how many classes there are, 2 to 255; indices run from 0 to `classes - 1`.

    Returns:
        Counts, (picture, true class, guessed class); pixels with truth 255 are in none of them.

    Raises:
        BadLabels: no integers, an index outside the classes, or shapes that differ.
    """
    size, kept = _checked_size(truth, guess), Kept()
    tables = [
        _counted(truth[block], guess[block], classes, kept)
        for block in blocks(truth.shape[0], size)
    ]
    return _joined(tables, classes)


def confusion_by_threads(
    truth: GivenLabels, guess: GivenLabels, *, classes: int, threads: int | None = None
) -> Counts:
    """Count as `confusion` does, several blocks of pictures at a time.

    Blocks are read when their turn comes, so label maps on disk never stand in memory as a whole.

    Args:
        truth: as in `confusion`; read from several threads at once.
        guess: as in `confusion`; read from several threads at once.
        classes: how many classes there are.
        threads: how many at a time; the number of cores by default.

    Returns:
        What `confusion` returns.

    Raises:
        BadLabels: as in `confusion`.
    """
    size, kept = _checked_size(truth, guess), Kept()

    def work(block: slice) -> Counts:
        return _counted(truth[block], guess[block], classes, kept)

    return _joined(list(map_blocks(work, truth.shape[0], size=size, threads=threads)), classes)


def _checked_size(truth: GivenLabels, guess: GivenLabels) -> int:
    """Look at types and shapes; return how many pictures make a block."""
    for name, labels in (("truth", truth), ("guess", guess)):
        if labels.dtype.kind not in "iu":
            raise BadLabels(f"{name} is {labels.dtype}; expected integers")
        if len(labels.shape) != 3:
            raise BadLabels(f"{name} has shape {labels.shape}; expected (picture, row, col)")
    if guess.shape != truth.shape:
        raise BadLabels(f"guess has shape {guess.shape}; expected {truth.shape} as in truth")
    pixels = max(1, truth.shape[1] * truth.shape[2])
    return max(1, min(BLOCK_PICTURES, PIECE_PIXELS // pixels))


def _counted(truth: Any, guess: Any, classes: int, kept: Kept) -> Counts:
    true = _pixels("truth", np.asarray(truth), classes, besides=(UNLABELLED,))
    guessed = _pixels("guess", np.asarray(guess), classes, besides=())
    count = popcounts if classes <= FEW_CLASSES else _histograms
    return count(true, guessed, classes, kept)


def _pixels(name: str, labels: Given, classes: int, *, besides: tuple[int, ...]) -> Pixels:
    if not _fit(labels, classes, besides):
        found = np.unique(labels)
        inside = ((found >= 0) & (found < classes)) | np.isin(found, besides)
        if not inside.all():
            also = "".join(f" or {label} (not labelled)" for label in besides)
            strange = found[~inside].tolist()
            shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
            raise BadLabels(f"{name} holds {shown}; expected 0 to {classes - 1}{also}")
    return labels.astype(np.uint8, copy=False).reshape(len(labels), labels[:1].size)


def _fit(labels: Given, classes: int, besides: tuple[int, ...]) -> bool:
    """Tell without sorting whether all labels are known, where that is told by the extremes."""
    if labels.dtype == np.uint8 and besides == (UNLABELLED,):
        return bool((labels + np.uint8(1)).max(initial=0) <= classes)  # 255 comes round to 0
    return bool(labels.min(initial=0) >= 0 and labels.max(initial=0) < classes)


def _histograms(truth: Pixels, guess: Pixels, classes: int, _: Kept) -> Counts:
    """Count by a number for each (true, guess); one row more takes the pixels without truth."""
    # 255 rows of 255 and one more: the largest number is 65,279.
    cell = np.minimum(truth, np.uint8(classes)).astype(np.uint16)
    cell *= np.uint16(classes)
    cell += guess
    cells = (classes + 1) * classes
    tables = [np.bincount(picture, minlength=cells) for picture in cell]
    return np.array(tables, np.int64).reshape(-1, classes + 1, classes)[:, :classes]


def _joined(tables: list[BlockCounts], classes: int) -> Counts:
    return np.concatenate(tables) if tables else np.zeros((0, classes, classes), np.int64)
