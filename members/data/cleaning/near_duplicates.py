"""Near-duplicates: images of like perceptual hash whose thumbnails are alike too."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import imagehash
import numpy as np
from jaxtyping import Float, Integer, UInt8
from PIL import Image

from evaluation.core.progress import progress
from evaluation.core.types import Array, Images

THUMBNAIL_PX = 32
DISTANCE = 10
ALIKE = 0.95
ROWS_AT_ONCE = 256
ROUNDING = 1e-5

Thumbnails = UInt8[np.ndarray, "image 32 32"]
Hashes = UInt8[np.ndarray, "image 8"]
Worth = Integer[np.ndarray, "image"]
Vectors = Float[np.ndarray, "image feature"]


@dataclass(frozen=True)
class Copy:
    """An image that shows the same as one that is kept.

    Args:
        place: the image.
        of: the one that is kept.
        distance: bits in which their 64-bit hashes differ.
        correlation: of their thumbnails, 1 for equal ones of any brightness and contrast.
    """

    place: int
    of: int
    distance: int
    correlation: float


def thumbnails_and_hashes(images: Images) -> tuple[Thumbnails, Hashes]:
    """Return grey thumbnails of 32 x 32 pixels, and 64-bit perceptual hashes, 8 bytes each.

    The hash (`imagehash.phash`) tells which low frequencies of an image lie above their median.
    """
    thumbnails = np.empty((len(images), THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    hashes = np.empty((len(images), 8), np.uint8)
    for place in progress(range(len(images)), "hashing images", len(images)):
        grey = _grey(images[place])
        small = grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
        thumbnails[place] = np.asarray(small)
        hashes[place] = np.packbits(imagehash.phash(grey).hash)
    return thumbnails, hashes


def near_duplicates(
    thumbnails: Thumbnails,
    hashes: Hashes,
    worth: Worth,
    *,
    distance: int = DISTANCE,
    alike: float = ALIKE,
) -> list[Copy]:
    """Find images that show the same as another, of which the worthiest is kept.

    Hashes alone call two stretches of rippled sand alike; so thumbnails must agree, whatever
    their brightness. Every copy is alike to an image that is kept, not only to another copy.

    Args:
        thumbnails: see `thumbnails_and_hashes`.
        hashes: of the same images.
        worth: the higher one of two is kept; of equals the first.
        distance: hashes that differ in more bits than this are not looked at, 0 to 64.
        alike: lowest correlation of the thumbnails, -1 to 1.

    Returns:
        The images to drop, by place.
    """
    partners: dict[int, list[Copy]] = defaultdict(list)
    for first, second, bits, correlation in _alike(hashes, _unit(thumbnails), distance, alike):
        partners[first].append(Copy(first, second, bits, correlation))
        partners[second].append(Copy(second, first, bits, correlation))
    kept: set[int] = set()
    copies = []
    for place in sorted(partners, key=lambda place: (-worth[place], place)):
        of_kept = [copy for copy in partners[place] if copy.of in kept]
        if of_kept:
            copies.append(min(of_kept, key=lambda copy: (copy.distance, -copy.correlation)))
        else:
            kept.add(place)
    return sorted(copies, key=lambda copy: copy.place)


def _alike(
    hashes: Hashes, units: Vectors, distance: int, alike: float
) -> Iterator[tuple[int, int, int, float]]:
    """Yield pairs of places, the bits in which they differ, and their correlation."""
    for start in range(0, len(hashes), ROWS_AT_ONCE):
        rows = hashes[start : start + ROWS_AT_ONCE, None]
        bits = np.bitwise_count(rows ^ hashes[None, start:]).sum(axis=2, dtype=np.uint8)
        # Above the diagonal, so that each pair comes once.
        first, second = np.nonzero(np.triu(bits <= distance, 1))
        correlation = np.einsum("pf,pf->p", units[start + first], units[start + second])
        near = correlation >= alike - ROUNDING
        first, second, correlation = first[near], second[near], correlation[near]
        differ = bits[first, second].tolist()
        yield from zip(
            (first + start).tolist(),
            (second + start).tolist(),
            differ,
            correlation.tolist(),
            strict=True,
        )


def _unit(thumbnails: Thumbnails) -> Vectors:
    """Return vectors whose products are correlations; constant images are alike each other."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    constant = length == 0
    return np.concatenate(
        [flat / np.where(constant, 1, length), constant], axis=1, dtype=np.float32
    )


def _grey(image: Array) -> Image.Image:
    """Return one image (channel, row, col) of 1 or 3 channels in grey."""
    if len(image) == 1:
        return Image.fromarray(image[0])
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1))).convert("L")
