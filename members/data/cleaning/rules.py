"""Which images to drop from a data set and why, and the data set without them.

Each image gets one reason, the surest first: a drop list, a mask that many images share, a
near-duplicate, novelty.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from evaluation.core.errors import BadData
from evaluation.core.files import array_names, atomic_file, open_array
from evaluation.core.ragged import Stack
from evaluation.core.types import Array, Kept
from members.data import npz_files
from members.data.cleaning.near_duplicates import (
    MAX_DISTANCE,
    MIN_CORRELATION,
    near_duplicates,
    thumbnails_and_hashes,
)
from members.data.cleaning.novelty import Features, Scores, features, most_novel, novelty
from members.data.dataset import DataSet, class_pixels

SHARED_BY = 10
"""A mask with an outline is shared by many images from this number on."""

NOT_PER_IMAGE = ("test_set", "classes", "ignore")
"""Arrays of a data file that are copied as they are."""

Indices = Integer[np.ndarray, "index"]


class Reason(StrEnum):
    """Why an image is dropped, in the order in which reasons are looked for."""

    LISTED = "drop list"
    SHARED_MASK = "shared mask"
    COPY = "near-duplicate"
    NOVELTY = "novelty"


@dataclass(frozen=True)
class Drop:
    """One image to drop.

    Args:
        index: of the image in the set.
        reason: the kind of reason.
        detail: the reason in words.
        duplicate_of: of a near-duplicate, the index of the image that is kept.
    """

    index: int
    reason: Reason
    detail: str
    duplicate_of: int | None = None


@dataclass(frozen=True)
class Rules:
    """What counts as a reason.

    Args:
        distance: largest Hamming distance of near-duplicates' 64-bit hashes.
        alike: lowest correlation of near-duplicates.
        novelty: share of the remaining images that is dropped as most novel, 0 to 1.
    """

    distance: int = MAX_DISTANCE
    alike: float = MIN_CORRELATION
    novelty: float = 0.0


@dataclass(frozen=True, eq=False)
class CleaningReport:
    """What to drop from a set.

    Args:
        data: the whole set.
        drops: what to drop, by index.
        scores: novelty of every image.
        features: what the novelty was computed from.
    """

    data: DataSet
    drops: tuple[Drop, ...]
    scores: Scores
    features: Features

    def drops_for(self, reason: Reason) -> list[Drop]:
        """Return what is dropped for one reason."""
        return [drop for drop in self.drops if drop.reason == reason]

    def strangest_kept(self, count: int) -> list[int]:
        """Return the indices of the most novel images that stay; none if nothing was learned."""
        return most_novel(self.scores, self.kept, count) if self.features.any() else []

    @property
    def kept(self) -> Kept:
        """True for images that stay."""
        return _without(np.ones(len(self.data), bool), self.drops)


def find_drops(data: DataSet, *, listed: Kept, exempt: Kept, rules: Rules) -> CleaningReport:
    """Find what to drop from a set.

    Near-duplicates are searched among what the list and shared masks leave, so that one of each
    stays: the one with the most labelled pixels. Novelty is learned from what remains then.

    Args:
        data: the set, labelled or not.
        listed: True for images to drop in any case.
        exempt: True for images that no other reason may drop.
        rules: what counts as a reason.

    Raises:
        BadData: a class would lose its last image, or the set all its images.
    """
    drops = [Drop(int(i), Reason.LISTED, "on the drop list") for i in np.flatnonzero(listed)]
    drops += _with_shared_masks(data, ~listed & ~exempt)
    check_no_class_lost(data, drops)
    left = _without(np.ones(len(data), bool), drops)
    thumbnails, hashes = thumbnails_and_hashes(data.images)
    drops += _duplicates(data, thumbnails, hashes, left, exempt, rules)
    left = _without(left, drops)
    image_features = features(thumbnails, left)
    scores = novelty(image_features, left)
    drops += _novel(scores, left & ~exempt, round(rules.novelty * left.sum()))
    check_no_class_lost(data, drops)
    drops.sort(key=lambda drop: drop.index)
    return CleaningReport(data, tuple(drops), scores, image_features)


def check_no_class_lost(data: DataSet, drops: Sequence[Drop]) -> None:
    """Refuse drops that leave no image of a class, or none at all.

    Raises:
        BadData: such drops.
    """
    kept = _without(np.ones(len(data), bool), drops)
    if not kept.any():
        raise BadData(f"all {len(data)} images would be dropped; expected some to stay")
    if data.masks is None:
        return
    held = class_pixels(data.masks, len(data.classes)) > 0
    for label in np.flatnonzero(held.any(axis=0) & ~held[kept].any(axis=0)):
        last = [drop for drop in drops if held[drop.index, label]][-1]
        hint = "take it off the list" if last.reason == Reason.LISTED else "name it in --keep"
        raise BadData(
            f"the last image of class {data.classes.names[label]!r} would be dropped"
            f" ({data.ids[last.index]}: {last.detail}); {hint}"
        )


def shared_masks(
    masks: Stack, *, at_least: int = SHARED_BY, constant: bool = False
) -> list[Indices]:
    """Find the masks that many images share, pixel by pixel.

    Annotators do not draw the same outline ten times, so a mask with an outline that ten images
    share was pasted, and those images are outliers. A constant mask (all soil) is shared by many
    clean images.

    Args:
        masks: class index per pixel, (image, row, col).
        at_least: how many images make many.
        constant: find masks of one value instead of masks with an outline.

    Returns:
        The ascending indices of the images for each such mask; the most shared mask first.

    Examples:
        >>> pasted = np.array([[0, 1]], np.uint8)
        >>> shared_masks(np.stack([pasted, 1 - pasted, pasted]), at_least=2)
        [array([0, 2])]
    """
    shared = [
        np.array(indices)
        for indices in identical(masks)
        if len(indices) >= at_least and _is_constant(masks[indices[0]]) == constant
    ]
    return sorted(shared, key=len, reverse=True)


def drop_shared_masks(masks: Stack, *, at_least: int = SHARED_BY) -> Kept:
    """Return which images to keep: those whose mask is not an outline that many share."""
    kept = np.ones(len(masks), bool)
    for indices in shared_masks(masks, at_least=at_least):
        kept[indices] = False
    return kept


def identical(arrays: Stack) -> list[list[int]]:
    """Group the indices of arrays that are equal in every value; single ones are left out.

    Examples:
        >>> identical(np.array([[1, 2], [3, 4], [1, 2]]))
        [[0, 2]]
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, array in enumerate(arrays):
        # A digest instead of the bytes: memory stays flat however many images there are.
        content = str(array.shape).encode() + array.tobytes()
        groups[blake2b(content).digest()].append(index)
    return [group for group in groups.values() if len(group) > 1]


def check_one_size(data: DataSet) -> None:
    """Refuse images of several sizes, which a `.npz` cannot hold.

    Raises:
        BadData: there are several.
    """
    if data.extent.one_size is None:
        raise BadData(
            f"images of {data.extent}; a .npz holds one size: leave --out out, and give the list of"
            " dropped images to `ens train-members --drop`"
        )


def check_output(out: Path) -> None:
    """Refuse a name that cannot be written, before any work.

    Raises:
        BadData: no `.npz`, or it exists.
    """
    if out.suffix != ".npz":
        raise BadData(f"{out} cannot be written; expected a name that ends in .npz")
    if out.exists():
        raise BadData(f"{out} already exists; take another name")


def write_kept(source: Path, data: DataSet, kept: Kept, out: Path) -> None:
    """Write the images to keep in the layout of the source; a folder becomes a general `.npz`.

    Every array with one entry per image is reduced, known or not; test images and all else stay.
    A general file names the old ids as `source`, so that ids stay what they were.

    Args:
        source: what `data` was loaded from.
        data: the set that is cleaned.
        kept: True for images that stay.
        out: the new file.

    Raises:
        BadData: `out` is no `.npz` or exists.
    """
    check_output(out)
    check_one_size(data)
    if source.is_dir():
        arrays = _as_npz(data)
    else:
        arrays = {name: open_array(source, name) for name in array_names(source)}
    if npz_files.COMPETITION_KEY not in arrays:
        arrays |= {"source": np.array(data.ids), **class_arrays_of(data)}
    reduced = {
        name: array if name in NOT_PER_IMAGE or array.shape[:1] != kept.shape else array[kept]
        for name, array in arrays.items()
    }
    with atomic_file(out) as partial:
        np.savez_compressed(partial, **reduced)  # type: ignore[arg-type]


def class_arrays_of(data: DataSet) -> dict[str, Array]:
    """Return masks of class indices, with the names of the classes; nothing of unlabelled sets."""
    if data.masks is None:
        return {}
    return {"masks": data.masks, **npz_files.class_arrays(data.classes)}


def _as_npz(data: DataSet) -> dict[str, Array]:
    images = data.images[:, 0] if data.channels == 1 else data.images
    groups = {} if data.groups is None else {"group": data.groups}
    return {npz_files.IMAGES_KEY: images, **groups}


def _without(kept: Kept, drops: Sequence[Drop]) -> Kept:
    """Return which images still stay when these are dropped too."""
    left = kept.copy()
    left[[drop.index for drop in drops]] = False
    return left


def _is_constant(mask: np.ndarray) -> bool:
    return bool((mask == mask.flat[0]).all())


def _with_shared_masks(data: DataSet, among: Kept) -> Iterator[Drop]:
    for indices in [] if data.masks is None else shared_masks(data.masks):
        for index in indices[among[indices]]:
            yield Drop(int(index), Reason.SHARED_MASK, f"mask shared by {len(indices)} images")


def _duplicates(
    data: DataSet, thumbnails: Array, hashes: Array, left: Kept, exempt: Kept, rules: Rules
) -> Iterator[Drop]:
    indices = np.flatnonzero(left)
    # Exempt images come first, so that their duplicates are compared with them.
    priority = (_labelled_pixels(data) + exempt * (1 + data.images[0].size))[indices]
    for pair in near_duplicates(
        thumbnails[indices], hashes[indices], priority, distance=rules.distance, alike=rules.alike
    ):
        index, kept = int(indices[pair.index]), int(indices[pair.duplicate_of])
        detail = f"copy of {data.ids[kept]}, distance {pair.distance}, {pair.correlation:.3f} alike"
        if not exempt[index]:
            yield Drop(index, Reason.COPY, detail, kept)


def _novel(scores: Scores, among: Kept, count: int) -> Iterator[Drop]:
    for rank, index in enumerate(most_novel(scores, among, count), 1):
        yield Drop(index, Reason.NOVELTY, f"novelty rank {rank}, score {scores[index]:.3f}")


def _labelled_pixels(data: DataSet) -> Array:
    if data.masks is None:
        return np.zeros(len(data), np.int64)
    pixels = class_pixels(data.masks, len(data.classes))
    return np.asarray(pixels[:, list(data.classes.scored)].sum(axis=1))
