"""Fuse members that have maps of a part of the images only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ensemble.block_fusion import FusionPerImage
from ensemble.fusion import Fusion, fuse_block, some_members
from ensemble.strategies import MISSING, RENORMALISES, Missing
from evaluation.core.errors import BadMaps, BadSpec, format_count, unknown
from evaluation.core.ragged import Extent
from evaluation.core.specs import parse_spec
from evaluation.core.types import Groups, Images, Kept, Map, Maps
from members.maps import BlockReader, MapReader, SmallBatch, copy_into

Covered = Bool[np.ndarray, "member image"]


def check_missing(missing: str, strategy: str) -> None:
    """Refuse `renormalise` for a strategy that is not defined for some of its members.

    Raises:
        BadSpec: it is not, or another word than those of `Missing`.

    Examples:
        >>> check_missing("renormalise", "weighted_mean(weights=[1, 2])")
        >>> check_missing("renormalise", "staple")
        Traceback (most recent call last):
        ...
        evaluation.core.errors.BadSpec: strategy staple is defined for all of its members only, so \
images that one lacks cannot be renormalised; take one of geometric_mean, greedy, harmonic_mean, \
log_odds, majority_vote, max, mean, median, min, per_class_vote, power_mean, simple, weighted_mean
    """
    if missing not in MISSING:
        raise BadSpec(unknown("value of `missing`", missing, MISSING))
    if missing == "renormalise" and parse_spec(strategy).name not in RENORMALISES:
        raise BadSpec(
            f"strategy {strategy} is defined for all of its members only, so images that one lacks"
            f" cannot be renormalised; take one of {', '.join(sorted(RENORMALISES))}"
        )


class PlacedMaps(BlockReader):
    """Maps of a member, placed among the images of a set; others read as equal probabilities.

    Args:
        maps: of the member.
        indices: which of its images each image is; -1 where it has none.
        extent: number and sizes of the images.
        ids: of the images.

    Raises:
        BadMaps: a map of another size than its image.

    Examples:
        >>> from members.maps import ArrayMaps
        >>> maps = ArrayMaps("unet", np.zeros((1, 2, 1, 1), np.float32), ids=("b",))
        >>> placed = PlacedMaps(maps, np.array([-1, 0]), Extent.uniform(2, (1, 1)), ("a", "b"))
        >>> placed.read(slice(0, 2)).ravel()
        array([0.5, 0.5, 0. , 0. ], dtype=float32)
    """

    ids: tuple[str, ...]

    def __init__(
        self, maps: MapReader, indices: Groups, extent: Extent, ids: tuple[str, ...]
    ) -> None:
        self.maps, self.indices, self.ids, self._extent = maps, indices, ids, extent
        self.name, self.classes, self.kind = maps.name, maps.classes, maps.kind
        own = maps.extent.sizes
        for name, index, size in zip(ids, indices, extent.sizes, strict=True):
            if index >= 0 and own[index] != size:
                (rows, cols), (others, across) = own[index], size
                raise BadMaps(
                    f"{self.name}: the map of {name!r} has {rows}x{cols} pixels; expected"
                    f" {others}x{across} as in other members"
                )

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return self._extent

    @property
    def num_classes(self) -> int:
        """Length of the class axis."""
        return self.maps.num_classes

    @property
    def floor(self) -> float:
        """Half the smallest probability that the maps tell from zero."""
        return self.maps.floor

    @property
    def covered(self) -> Kept:
        """Whether the member has a map, per image."""
        covered: Kept = self.indices >= 0
        return covered

    def trained_on_mask(self) -> Kept | None:
        """Return, per image, whether a model was trained on it; None is undeclared."""
        own = self.maps.trained_on_mask()
        return None if own is None else self.covered & own[self.indices]

    def read(self, images: slice, out: Map | None = None) -> Map:
        """Read images as float32 probabilities."""
        maps: Map = np.empty(self.block_shape(images), np.float32) if out is None else out
        stop = 0
        for own, count in self._runs(images):
            start, stop = stop, stop + count
            part = maps[start:stop]
            if own is None:
                part[...] = 1 / self.num_classes
            else:
                copy_into(self.maps.read(own, part), part)
        return maps

    def stream(
        self,
        images: slice,
        outs: Sequence[SmallBatch],
        *,
        accumulate_into: Iterator[SmallBatch] | None = None,
    ) -> Iterator[SmallBatch]:
        """Read images in small batches; see `MapReader.stream`."""
        (own, _), *others = self._runs(images)
        if own is None or others:
            return super().stream(images, outs, accumulate_into=accumulate_into)
        # A store reads each chunk once that way, not once per batch.
        return self.maps.stream(own, outs, accumulate_into=accumulate_into)

    def _runs(self, images: slice) -> list[tuple[slice | None, int]]:
        """Return runs of images that follow each other in the member's maps, and their numbers.

        A run is None where the member has no maps.
        """
        indices = self.indices[images]
        cuts = (np.diff(indices) != 1) | (indices[:-1] < 0)
        runs = np.split(indices, np.flatnonzero(cuts) + 1)
        return [
            (None if run[0] < 0 else slice(int(run[0]), int(run[-1]) + 1), len(run)) for run in runs
        ]


def place(maps: MapReader, ids: Sequence[str], extent: Extent) -> PlacedMaps:
    """Place the maps of a member among the images of a set.

    Args:
        maps: of some of the images, and perhaps of others, with their ids.
        ids: of the images of the set.
        extent: number and sizes of these.

    Raises:
        BadMaps: a map of another size than its image.
    """
    index_of = {name: index for index, name in enumerate(maps.ids or ())}
    indices = np.array([index_of.get(name, -1) for name in ids], np.intp)
    return PlacedMaps(maps, indices, extent, tuple(ids))


@dataclass(frozen=True)
class AlignedMaps:
    """Maps of members, of the same images in the same order.

    Args:
        members: readers of the maps.
        lacking: number of images of which a member has no map, by its name; empty where none lacks.
        num_images: how many images any member has.
        covered: which images each member has; None where every member has all that are left.
    """

    members: tuple[MapReader, ...]
    lacking: dict[str, int]
    num_images: int
    covered: Covered | None = None

    def describe(self) -> str:
        """Say which images were left out or fused from some members."""
        who = ", ".join(f"{name} lacks {count}" for name, count in self.lacking.items())
        if self.covered is None:
            left = len(self.members[0])
            return f"of {self.num_images} images {left} are fused, which all members have: {who}"
        some = int((~self.covered.all(axis=0)).sum())
        return (
            f"of {self.num_images} images {some} are fused from the members that have them: {who}"
        )


def align(members: Sequence[MapReader], missing: Missing) -> AlignedMaps:
    """Bring the maps of members into one order, where their images have names.

    Args:
        members: one or more.
        missing: what happens to images that not all members have.

    Raises:
        BadMaps: members that lack images, and `missing` is `refuse`; or no image in common.
        BadSpec: another `missing` than `refuse`, and images without names.
    """
    sets = [set(member.ids) if member.ids is not None else None for member in members]
    if any(ids is None for ids in sets):
        if missing != "refuse":
            raise BadSpec(
                f"`missing` {missing} needs the images' names; give the maps as folders with one"
                " file per image"
            )
        return AlignedMaps(tuple(members), {}, len(members[0]))
    union = sorted(set().union(*(ids for ids in sets if ids is not None)))
    lacking = {
        member.name: len(union) - len(ids)
        for member, ids in zip(members, sets, strict=True)
        if ids is not None and len(ids) < len(union)
    }
    if not lacking and len({member.ids for member in members}) == 1:
        return AlignedMaps(tuple(members), {}, len(union))
    common = [name for name in union if all(name in (ids or ()) for ids in sets)]
    if missing == "refuse" and lacking:
        raise BadMaps(_refusal(members, lacking, union, len(common)))
    if not common and missing == "skip":
        raise BadMaps("no image has maps of all members; expected files of equal names in all")
    kept = union if missing == "renormalise" else common
    placed = _place(members, kept)
    if missing == "skip" or not lacking:
        return AlignedMaps(placed, lacking, len(union))
    covered = np.stack([member.covered for member in placed])
    return AlignedMaps(placed, lacking, len(union), covered)


def fuse_covered(
    fusion: Fusion | FusionPerImage, covered: Covered, names: Sequence[str]
) -> FusionPerImage:
    """Return a fusion that takes for each image the members that have a map of it.

    Args:
        fusion: of all members, one for all images or several.
        covered: which images each member has; each image has one member or more.
        names: of the members, for errors.

    Raises:
        BadSpec: a fusion that is defined for all of its members only.
        BadMaps: images of which only members of weight 0 have maps.
    """
    images = covered.shape[1]
    per_image = (
        fusion
        if isinstance(fusion, FusionPerImage)
        else FusionPerImage([fusion], np.zeros(images, np.intp))
    )
    rows = np.column_stack([per_image.index_of, covered.T])
    distinct, index_of = np.unique(rows, axis=0, return_inverse=True)
    fusions: list[Fusion] = []
    for index, *present in distinct.tolist():
        members = tuple(int(member) for member in np.flatnonzero(present))
        whole = per_image.fusions[index]
        try:
            fusions.append(
                whole if all(present) else _FusionOfSome(some_members(whole, members), members)
            )
        except BadMaps as error:
            count = int((index_of == len(fusions)).sum())
            who = ", ".join(names[member] for member in members)
            raise BadMaps(
                f"{format_count(count, 'image')} have maps of {who} alone, and {error}; expected"
                " maps of another member, or `missing` skip"
            ) from None
    return FusionPerImage(fusions, index_of.reshape(-1))


@dataclass(frozen=True)
class _FusionOfSome:
    fusion: Fusion
    members: tuple[int, ...]

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        return fuse_block(self.fusion, maps[list(self.members)], images)


def _place(members: Sequence[MapReader], names: Sequence[str]) -> tuple[PlacedMaps, ...]:
    """Return readers of the named images, in their order."""
    sizes: dict[str, tuple[int, int]] = {}
    for member in reversed(members):
        sizes |= dict(zip(member.ids or (), member.extent.sizes, strict=True))
    extent = Extent.of_sizes([sizes[name] for name in names])
    return tuple(place(member, names, extent) for member in members)


def _refusal(
    members: Sequence[MapReader], lacking: dict[str, int], union: Sequence[str], common: int
) -> str:
    name, count = next(iter(lacking.items()))
    if not common:
        return (
            f"{', '.join(member.name for member in members)} hold files of different names (first:"
            f" {union[0]!r}); expected one file per image in each, with equal names"
        )
    own = next(set(member.ids or ()) for member in members if member.name == name)
    first = next(image for image in union if image not in own)
    return (
        f"{name} lacks {count} of the {len(union)} images that members have (first: {first!r});"
        f" expected maps of all, or `missing` skip (fuse the {common} that all have) or renormalise"
        " (fuse each from the members that have it)"
    )
