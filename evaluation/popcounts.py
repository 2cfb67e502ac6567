"""Confusion counts by masks of single bits, for few classes: AND, then count the ones."""

import math
import threading

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from evaluation.ground.arrays import Counts

Pixels = UInt8[np.ndarray, "picture pixel"]
Masks = UInt64[np.ndarray, "label picture word"]

WORD_BYTES = 8
SHORT_WORDS = 1024
"""Sums over fewer words than this fit into 16 bits, at 64 ones a word."""


class Kept(threading.local):
    """Arrays that a thread keeps from block to block: new memory costs as much as counting."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._bytes: dict[str, UInt8[np.ndarray, " byte"]] = {}

    def words(self, name: str, shape: tuple[int, ...]) -> UInt64[np.ndarray, "..."]:
        """Return the words of that name; what they hold is left from last time."""
        size = math.prod(shape) * WORD_BYTES
        if name not in self._bytes or len(self._bytes[name]) < size:
            self._bytes[name] = np.empty(size, np.uint8)
        return self._bytes[name][:size].view(np.uint64).reshape(shape)


def popcounts(truth: Pixels, guess: Pixels, classes: int, kept: Kept) -> Counts:
    """Count pixels by (true class, guessed class), 64 pixels a word.

    Time grows with the square of the classes.

    Args:
        truth: below `classes`, or 255 where there is no label.
        guess: below `classes`, same shape.
        classes: how many there are, 2 to 255.
        kept: memory to work in; the same for all blocks.
    """
    # One bit more than the labels need tells 255 from the last class.
    true = _masks(truth, classes, classes.bit_length(), kept, "true")
    # What is not counted for another class was guessed as the last one.
    guessed = _masks(guess, classes - 1, (classes - 1).bit_length(), kept, "guessed")
    both = kept.words("both", guessed.shape)
    counts: Int64[np.ndarray, "picture true guess"] = np.empty(
        (len(truth), classes, classes), np.int64
    )
    for label in range(classes):
        np.bitwise_and(true[label], guessed, out=both)
        counts[:, label, :-1] = _set_bits(both).T
        counts[:, label, -1] = _set_bits(true[label]) - counts[:, label, :-1].sum(axis=-1)
    # Words are filled up with zeros, which say that both labels are 0.
    counts[:, 0, 0] -= both.shape[-1] * 8 * WORD_BYTES - truth.shape[1]
    return counts


def _masks(labels: Pixels, classes: int, bits: int, kept: Kept, name: str) -> Masks:
    """Say for each of the first classes where it is; packed bit by bit of the label, then joined.

    A label has fewer bits than there are classes, and joining packed bits costs an eighth.
    """
    pictures, pixels = labels.shape
    words = -(-pixels // (8 * WORD_BYTES))
    spread = kept.words("spread", (pictures, words * 8)).view(np.uint8)[:, :pixels]
    planes = kept.words("planes", (2, bits, pictures, words))
    for bit in range(bits):
        np.bitwise_and(labels, np.uint8(1 << bit), out=spread)
        packed = np.packbits(spread, axis=1)
        planes[1, bit].view(np.uint8)[:, : packed.shape[1]] = packed
        planes[1, bit].view(np.uint8)[:, packed.shape[1] :] = 0
    np.invert(planes[1], out=planes[0])
    masks: Masks = kept.words(name, (classes, pictures, words))
    for label, mask in enumerate(masks):
        chosen = [planes[label >> bit & 1, bit] for bit in range(bits)]
        np.bitwise_and(chosen[0], chosen[-1], out=mask)
        for plane in chosen[1:-1]:
            np.bitwise_and(mask, plane, out=mask)
    return masks


def _set_bits(words: UInt64[np.ndarray, "*sets word"]) -> Int64[np.ndarray, "*sets"]:
    sums = np.uint16 if words.shape[-1] < SHORT_WORDS else np.int64  # short ones add up faster
    ones: Int64[np.ndarray, "*sets"] = np.bitwise_count(words).sum(-1, dtype=sums).astype(np.int64)
    return ones
