"""Near-duplicates: images of similar perceptual hash whose thumbnails correlate too."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image

from evaluation.core.arrays import view_image
from evaluation.core.errors import format_count
from evaluation.core.progress import progress
from evaluation.core.ragged import Stack
from evaluation.core.types import Array
from members.data.dataset import DataSet

THUMBNAIL_PX = 32
MAX_DISTANCE = 10
MIN_CORRELATION = 0.95
ROWS_PER_BLOCK = 256
ROUNDING = 1e-5
MAX_COMPARED = 20_000
"""Images above which a warning is not worth the time of comparing all pairs."""

EXPRESSIONS = ("^([^_]+)_", "^([^-]+)-", r"^(.*?)[-_ ]?\d+$")
MOST = 0.9
Pair: TypeAlias = tuple[str, str]

Thumbnails = UInt8[np.ndarray, "image 32 32"]
Hashes = UInt8[np.ndarray, "image 8"]
Priority = Integer[np.ndarray, "image"]
Vectors = Float[np.ndarray, "image feature"]


@dataclass(frozen=True)
class NearDuplicate:
    """An image that shows the same as one that is kept.

    Args:
        index: of the image.
        duplicate_of: index of the one that is kept.
        distance: bits in which their 64-bit hashes differ.
        correlation: of their thumbnails, 1 for equal ones of any brightness and contrast.
    """

    index: int
    duplicate_of: int
    distance: int
    correlation: float


def thumbnails_and_hashes(images: Stack) -> tuple[Thumbnails, Hashes]:
    """Return grey thumbnails of 32 x 32 pixels, and 64-bit perceptual hashes, 8 bytes each.

    A bit of the hash (`imagehash.phash`) is a low frequency of the image, above its median or not.
    """
    import imagehash

    thumbnails = np.empty((len(images), THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    hashes = np.empty((len(images), 8), np.uint8)
    for index in progress(range(len(images)), "hashing images", len(images)):
        grey = _to_grey(images[index])
        small = grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
        thumbnails[index] = np.asarray(small)
        hashes[index] = np.packbits(imagehash.phash(grey).hash)
    return thumbnails, hashes


def near_duplicates(
    thumbnails: Thumbnails,
    hashes: Hashes,
    priority: Priority,
    *,
    distance: int = MAX_DISTANCE,
    alike: float = MIN_CORRELATION,
) -> list[NearDuplicate]:
    """Find images that show the same as another, of which the one of highest priority is kept.

    Hashes alone confuse stretches of rippled sand; so thumbnails must agree, whatever their
    brightness. Every duplicate is similar to an image that is kept, not only to another duplicate.

    Args:
        thumbnails: see `thumbnails_and_hashes`.
        hashes: of the same images.
        priority: the higher one of two is kept; of equals the first.
        distance: largest number of differing bits of the hashes, 0 to 64.
        alike: lowest correlation of the thumbnails, -1 to 1.

    Returns:
        The images to drop, by index.
    """
    pairs: dict[int, list[NearDuplicate]] = defaultdict(list)
    for first, second, bits, correlation in _similar(hashes, _unit(thumbnails), distance, alike):
        pairs[first].append(NearDuplicate(first, second, bits, correlation))
        pairs[second].append(NearDuplicate(second, first, bits, correlation))
    kept: set[int] = set()
    duplicates = []
    for index in sorted(pairs, key=lambda index: (-priority[index], index)):
        of_kept = [pair for pair in pairs[index] if pair.duplicate_of in kept]
        if of_kept:
            duplicates.append(min(of_kept, key=lambda pair: (pair.distance, -pair.correlation)))
        else:
            kept.add(index)
    return sorted(duplicates, key=lambda duplicate: duplicate.index)


def duplicates_across(sets: Sequence[tuple[Stack, Sequence[str]]], parts: Array) -> list[Pair]:
    """List pairs of ids of near-duplicate images in different parts; each image once.

    A member that is trained on one part and evaluated on the other is evaluated on what it learned.

    Args:
        sets: images and their ids.
        parts: the part of each image of all sets, such as its fold.
    """
    features = [thumbnails_and_hashes(images) for images, _ in sets]
    thumbnails, hashes = (np.concatenate(several) for several in zip(*features, strict=True))
    ids = [name for _, names in sets for name in names]
    first_like: dict[int, int] = {}
    for first, second, _, _ in _similar(hashes, _unit(thumbnails), MAX_DISTANCE, MIN_CORRELATION):
        if parts[first] != parts[second]:
            first_like.setdefault(second, first)
    return [(ids[first], ids[second]) for second, first in sorted(first_like.items())]


def duplicate_warning(sets: Sequence[DataSet], parts: Array, where: str, *, divided: bool) -> str:
    """Return a warning of shared groups or near-duplicates across parts, and what groups them.

    Args:
        sets: of which the first is for training.
        parts: see `duplicates_across`.
        where: says which parts these are.
        divided: whether the data themselves say what is held out, which groups do not change.

    Returns:
        Empty where there are none, or more than `MAX_COMPARED` images.
    """
    if warning := shared_groups(sets):
        return warning
    if sum(map(len, sets)) > MAX_COMPARED:
        return ""
    pairs = duplicates_across([(data.images, data.ids) for data in sets], parts)
    names = [name for data in sets for name in data.ids]
    return describe_duplicates(pairs, names, where, divided=divided) if pairs else ""


def shared_groups(sets: Sequence[DataSet]) -> str:
    """Return a warning of images whose group training has too; empty where there are none.

    Frames of one drive need not look alike enough for their thumbnails to tell.

    Args:
        sets: of which the first is for training.
    """
    training, *others = sets
    if training.groups is None:
        return ""
    shared = [
        group
        for data in others
        if data.groups is not None
        for group in data.groups[np.isin(data.groups, training.groups)].tolist()
    ]
    if not shared:
        return ""
    return (
        f"held-out images of groups of training images: {len(shared)} (first group: {shared[0]}),"
        " so scores are too high: give the training images alone as --data, so that groups are set"
        " aside whole"
    )


def describe_duplicates(
    pairs: Sequence[Pair], names: Sequence[str], where: str, *, divided: bool = False
) -> str:
    """Return the warning of near-duplicates; see `duplicate_warning`."""
    expression = grouping_expression(names, pairs)
    group = f"--group-by '{expression}'" if expression else "--group-by FILE.csv:COLUMN"
    own = ", with the training images alone as --data, so that groups are set aside whole"
    return (
        f"near-duplicates of one {where}: {format_count(len(pairs), 'image')} (first:"
        f" {pairs[0][0]} and {pairs[0][1]}), so scores are too high: group them by {group}"
        f"{own * divided}, or drop them by `ens data clean`"
    )


def grouping_expression(names: Sequence[str], pairs: Sequence[Pair]) -> str | None:
    """Return a regular expression that puts most pairs of names into one group; None if none does.

    Examples:
        >>> names = ["a_1", "a_2", "b_1", "b_2"]
        >>> grouping_expression(names, [("a_1", "a_2"), ("b_1", "b_2")])
        '^([^_]+)_'
    """
    for expression in EXPRESSIONS:
        groups = {name: m[1] for name in names if (m := re.search(expression, name))}
        together = sum(groups.get(a, a) == groups.get(b, b) for a, b in pairs)
        if (
            len(groups) == len(set(names))
            and len(set(groups.values())) > 1
            and together >= MOST * len(pairs)
        ):
            return expression
    return None


def _similar(
    hashes: Hashes, units: Vectors, distance: int, alike: float
) -> Iterator[tuple[int, int, int, float]]:
    """Yield pairs of indices, the bits in which they differ, and their correlation."""
    for start in range(0, len(hashes), ROWS_PER_BLOCK):
        rows = hashes[start : start + ROWS_PER_BLOCK, None]
        bits = np.bitwise_count(rows ^ hashes[None, start:]).sum(axis=2, dtype=np.uint8)
        # Above the diagonal, so that each pair comes once.
        first, second = np.nonzero(np.triu(bits <= distance, 1))
        correlation = np.einsum("pf,pf->p", units[start + first], units[start + second])
        near = correlation >= alike - ROUNDING
        first, second, correlation = first[near], second[near], correlation[near]
        columns = (first + start, second + start, bits[first, second], correlation)
        yield from zip(*(column.tolist() for column in columns), strict=True)


def _unit(thumbnails: Thumbnails) -> Vectors:
    """Return vectors whose products are correlations; constant images correlate with each other."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    constant = length == 0
    scaled = flat / np.where(constant, 1, length)
    return np.concatenate([scaled, constant], axis=1, dtype=np.float32)


def _to_grey(image: Array) -> Image.Image:
    """Return an image (channel, row, col) in grey; see `view_image`."""
    if len(image) == 1 and image.dtype == np.uint8:
        return Image.fromarray(image[0])
    return Image.fromarray(view_image(image)).convert("L")
