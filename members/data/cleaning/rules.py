"""What is dropped and why: reasons, rules, and what was found in a set.

Look for what to drop from a data set: one reason an image, the surest first.

Masks that many images share, the sign by which foreign images are found.

The data set without the images that were dropped, as a new file.
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
from evaluation.core.types import Array, Kept, Labels
from members.data import npz_files
from members.data.cleaning.near_duplicates import (
    ALIKE,
    DISTANCE,
    near_duplicates,
    thumbnails_and_hashes,
)
from members.data.cleaning.novelty import (
    Features,
    Scores,
    features,
    novelty,
    strangest,
)
from members.data.dataset import DataSet, class_pixels


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
        place: where it stands in the set.
        reason: the kind of reason.
        why: the reason in words.
        like: of a near-duplicate, the place of the image that is kept.
    """

    place: int
    reason: Reason
    why: str
    like: int | None = None


@dataclass(frozen=True)
class Rules:
    """What counts as a reason.

    Args:
        distance: largest Hamming distance of near-duplicates' 64-bit hashes.
        alike: lowest correlation of near-duplicates.
        novelty: share of what else is left that is dropped as strangest, 0 to 1.
    """

    distance: int = DISTANCE
    alike: float = ALIKE
    novelty: float = 0.0


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found in a set.

    Args:
        data: the set as it is.
        drops: what to drop, by place.
        scores: novelty of every image.
        described: what the novelty was computed from.
    """

    data: DataSet
    drops: tuple[Drop, ...]
    scores: Scores
    described: Features

    def of(self, reason: Reason) -> list[Drop]:
        """Return what is dropped for one reason."""
        return [drop for drop in self.drops if drop.reason == reason]

    def strangest_kept(self, count: int) -> list[int]:
        """Return the places of the strangest images that stay; none where nothing was learned."""
        return strangest(self.scores, self.kept, count) if self.described.any() else []

    @property
    def kept(self) -> Kept:
        """True for images that stay."""
        return without(np.ones(len(self.data), bool), self.drops)


def refuse_lost_class(data: DataSet, drops: Sequence[Drop]) -> None:
    """Refuse drops that leave no image of a class, or none at all.

    Raises:
        BadData: such drops.
    """
    kept = without(np.ones(len(data), bool), drops)
    if not kept.any():
        raise BadData(f"all {len(data)} images would be dropped; expected some to stay")
    if data.masks is None:
        return
    held = class_pixels(data.masks, len(data.classes)) > 0
    for label in np.flatnonzero(held.any(axis=0) & ~held[kept].any(axis=0)):
        last = [drop for drop in drops if held[drop.place, label]][-1]
        cure = "take it off the list" if last.reason == Reason.LISTED else "name it in --keep"
        raise BadData(
            f"the last image of class {data.classes.names[label]!r} would be dropped"
            f" ({data.ids[last.place]}: {last.why}); {cure}"
        )


def without(kept: Kept, drops: Sequence[Drop]) -> Kept:
    """Return which images still stay when these are dropped too."""
    left = kept.copy()
    left[[drop.place for drop in drops]] = False
    return left


SHARED_BY = 10

Places = Integer[np.ndarray, "place"]


def shared_masks(
    masks: Labels, *, at_least: int = SHARED_BY, constant: bool = False
) -> list[Places]:
    """Find the masks that many images share, pixel by pixel.

    People do not draw the same outline ten times, so a mask with an outline that ten images
    share was pasted, and what it is pasted on are outliers. A constant mask (all soil) is shared by
    many clean images.

    Args:
        masks: class index per pixel, (image, row, col).
        at_least: how many images make many.
        constant: look for masks of one value instead of masks with an outline.

    Returns:
        The places of the images for each such mask, ascending; the most shared mask first.
    """
    found = [
        np.array(places)
        for places in identical(masks)
        if len(places) >= at_least and _is_constant(masks[places[0]]) == constant
    ]
    return sorted(found, key=len, reverse=True)


def clean(masks: Labels, *, at_least: int = SHARED_BY) -> Kept:
    """Tell which images are no outliers: True for those to keep."""
    kept = np.ones(len(masks), bool)
    for places in shared_masks(masks, at_least=at_least):
        kept[places] = False
    return kept


def identical(arrays: Integer[np.ndarray, "image ..."]) -> list[list[int]]:
    """Group the places of arrays that are equal in every value; single ones are left out."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, array in enumerate(arrays):
        # A digest instead of the bytes: memory stays flat however many images there are.
        places[blake2b(array.tobytes()).digest()].append(place)
    return [same for same in places.values() if len(same) > 1]


def _is_constant(mask: np.ndarray) -> bool:
    return bool((mask == mask.flat[0]).all())


def find(data: DataSet, *, listed: Kept, exempt: Kept, rules: Rules) -> Findings:
    """Find what to drop from a set.

    Near-duplicates are looked for among what the list and shared masks leave, so that one of each
    stays: the one with the most labelled pixels. Novelty is learned from what is then left.

    Args:
        data: the set, labelled or not.
        listed: True for images to drop whatever they hold.
        exempt: True for images that no other reason may drop.
        rules: what counts as a reason.

    Raises:
        BadData: a class would lose its last image, or the set all its images.
    """
    drops = [Drop(int(p), Reason.LISTED, "on the drop list") for p in np.flatnonzero(listed)]
    drops += _sharing(data, ~listed & ~exempt)
    refuse_lost_class(data, drops)
    left = without(np.ones(len(data), bool), drops)
    thumbnails, hashes = thumbnails_and_hashes(data.images)
    drops += _copies(data, thumbnails, hashes, left, exempt, rules)
    left = without(left, drops)
    described = features(thumbnails, left)
    scores = novelty(described, left)
    drops += _novel(scores, left & ~exempt, round(rules.novelty * left.sum()))
    refuse_lost_class(data, drops)
    return Findings(data, tuple(sorted(drops, key=lambda drop: drop.place)), scores, described)


def _sharing(data: DataSet, among: Kept) -> Iterator[Drop]:
    for places in [] if data.masks is None else shared_masks(data.masks):
        for place in places[among[places]]:
            yield Drop(int(place), Reason.SHARED_MASK, f"mask shared by {len(places)} images")


def _copies(
    data: DataSet, thumbnails: Array, hashes: Array, left: Kept, exempt: Kept, rules: Rules
) -> Iterator[Drop]:
    places = np.flatnonzero(left)
    # What may not be dropped is the one that its copies are compared with.
    worth = (_labelled_pixels(data) + exempt * (1 + data.images[0].size))[places]
    for copy in near_duplicates(
        thumbnails[places], hashes[places], worth, distance=rules.distance, alike=rules.alike
    ):
        place, like = int(places[copy.place]), int(places[copy.of])
        why = f"copy of {data.ids[like]}, distance {copy.distance}, {copy.correlation:.3f} alike"
        if not exempt[place]:
            yield Drop(place, Reason.COPY, why, like)


def _novel(scores: Scores, among: Kept, count: int) -> Iterator[Drop]:
    for rank, place in enumerate(strangest(scores, among, count), 1):
        yield Drop(place, Reason.NOVELTY, f"number {rank} in strangeness, {scores[place]:.3f}")


def _labelled_pixels(data: DataSet) -> Array:
    if data.masks is None:
        return np.zeros(len(data), np.int64)
    pixels = class_pixels(data.masks, len(data.classes))
    return np.asarray(pixels[:, list(data.classes.scored)].sum(axis=1))


WHOLE = ("test_set", "classes")


def refuse_target(out: Path) -> None:
    """Refuse a name that cannot be written, before any work.

    Raises:
        BadData: no `.npz`, or there already.
    """
    if out.suffix != ".npz":
        raise BadData(f"{out} cannot be written; expected a name that ends in .npz")
    if out.exists():
        raise BadData(f"{out} is there already and is left as it is; take another name")


def write_kept(source: Path, data: DataSet, kept: Kept, out: Path) -> None:
    """Write the images to keep in the layout of the source; a folder becomes a general `.npz`.

    Every array with one entry an image is reduced, known or not; test images and all else stay.
    A general file names the old ids as `source`, so that ids stay what they were.

    Args:
        source: what `data` was loaded from.
        data: the set that is cleaned.
        kept: True for images that stay.
        out: the new file.

    Raises:
        BadData: `out` is no `.npz` or is there already.
    """
    refuse_target(out)
    held = _of_set(data) if source.is_dir() else _of_file(source)
    if npz_files.COMPETITION_KEY not in held:
        held["source"] = np.array(data.ids)
    new = {
        name: array if name in WHOLE or array.shape[:1] != kept.shape else array[kept]
        for name, array in held.items()
    }
    with atomic_file(out) as partial:
        np.savez_compressed(partial, **new)  # type: ignore[arg-type]


def _of_file(path: Path) -> dict[str, Array]:
    return {name: open_array(path, name) for name in array_names(path)}


def _of_set(data: DataSet) -> dict[str, Array]:
    held = {
        npz_files.KEY: data.images[:, 0] if data.channels == 1 else data.images,
        "classes": np.array(data.classes.names),
    }
    if data.masks is not None:
        held["masks"] = data.masks
    if data.groups is not None:
        held["group"] = data.groups
    return held
