"""What is odd about foreign maps, with the evidence, and what mends it.

Which foreign image is which of ours.

From foreign values to maps of ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.errors import BadMaps
from evaluation.core.types import Array, Map
from members.external.formats import ExternalMaps
from members.external.layout_inference import (
    LayoutCandidates,
    LayoutMatch,
    Order,
    Orientation,
    agreement_tables,
    explained,
    infer_layout,
    orientations,
    without_comparison,
)
from members.external.values import (
    AS_THEY_ARE,
    Scale,
    ValueRange,
    classify_range,
    probabilities,
    scaled,
    value_range,
)


def match_by_id(foreign: ExternalMaps, ids: Sequence[str]) -> tuple[Array, str]:
    """Find the place of each of our images among the foreign ones.

    Without ids a stack must hold the images of the split in its order.

    Returns:
        The places, and what is odd: foreign images that are none of ours; empty for nothing.

    Raises:
        BadMaps: images that are missing.
    """
    count = foreign.size[0]
    if foreign.ids is None:
        if count != len(ids):
            raise BadMaps(
                f"{foreign.name} holds {count} images without ids; expected the split's"
                f" {len(ids)}, in its order: give a .npz with ids, or one file an image"
            )
        return np.arange(count), ""
    place_of = {name: place for place, name in enumerate(foreign.ids)}
    if len(place_of) < count:
        raise BadMaps(f"{foreign.name} holds ids that repeat; expected distinct ids")
    missing = [name for name in ids if name not in place_of]
    if missing:
        raise BadMaps(
            f"{foreign.name} lacks {len(missing)} of {len(ids)} images (first: {missing[0]!r};"
            f" its own are {foreign.ids[0]!r}, ...); name each as in the split's index.csv"
        )
    ours = set(ids)
    extra = [name for name in foreign.ids if name not in ours]
    odd = f"ids that do not match: {len(extra)} of {count} images are none of the split"
    return np.array([place_of[name] for name in ids]), (
        f"{odd} (first: {extra[0]!r})" if extra else ""
    )


@dataclass(frozen=True)
class Repair:
    """What turns foreign values into maps of ours.

    Args:
        channels: how many labels there are to make channels of; None for values.
        dtype: of the values on disk.
        scale: what makes them probabilities.
        turn: of rows and columns.
        order: the channel of each class.
    """

    channels: int | None
    dtype: str
    scale: Scale
    turn: Orientation
    order: Order

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"scale": self.scale, "turn": str(self.turn), "order": list(self.order)}

    def __call__(self, values: Array) -> Map:
        """Return probabilities (image, class, row, col), float32."""
        if self.channels is not None:
            known = np.arange(self.channels)[:, None, None]
            maps = (values[:, None] == known).astype(np.float32)
        else:
            maps = probabilities(scaled(values, self.dtype), self.scale)
        pairs = [(c, channel) for c, channel in enumerate(self.order) if channel is not None]
        to, of = (list(part) for part in zip(*pairs, strict=True))
        placed = np.zeros((len(maps), len(self.order), *maps.shape[2:]), np.float32)
        placed[:, to] = maps[:, of]
        if len(pairs) < maps.shape[1]:
            placed = probabilities(placed, AS_THEY_ARE)
        return np.ascontiguousarray(self.turn(placed))


@dataclass(frozen=True)
class KnownMaps:
    """Labels to compare foreign maps with.

    Args:
        name: what they are, in words.
        labels: gives them for places of our images; 255 where they do not count.
    """

    name: str
    labels: Callable[[Array], Array]


@dataclass(frozen=True)
class InspectionReport:
    """What an examination found.

    Args:
        oddities: kind and evidence of each, mended by `repair`.
        notes: what else a user should know.
        repair: makes the maps; does as little as possible where nothing is odd.
        doubtful: an oddity is told from agreement alone, so that a bad member may look like it.
    """

    oddities: tuple[str, ...]
    notes: tuple[str, ...]
    repair: Repair
    doubtful: bool


def inspect_maps(
    foreign: ExternalMaps,
    places: Array,
    *,
    classes: Classes,
    shape: tuple[int, int],
    known: KnownMaps | None,
    as_is: bool = False,
) -> InspectionReport:
    """Look for all that is odd before anything is written.

    Args:
        foreign: the maps.
        places: the foreign place of each of our images.
        classes: ours.
        shape: rows and columns of our images.
        known: what to compare with; None skips what needs it, and says so.
        as_is: note what agreement alone tells, and leave it.

    Raises:
        BadMaps: what cannot be mended: NaN, another size, another number of classes that
            nothing explains, labels that are none.
    """
    rows, cols = foreign.size[-2:]
    ways = orientations((rows, cols), shape)
    if not ways:
        raise BadMaps(
            f"{foreign.name} holds images of {rows} x {cols} pixels; expected"
            f" {shape[0]} x {shape[1]}"
        )
    found = value_range(foreign)
    channels = _channels(foreign, found, len(classes))
    scale, odd = AS_THEY_ARE, ""
    if not foreign.labels:
        scale, odd = classify_range(found, classes=channels, dtype=foreign.dtype)
    given = LayoutCandidates(foreign, ways, channels, classes, found)
    told = None if known is None else _compared(given, places, known)
    turn, said, note, doubtful = ways[0], "", "", False
    order: Order = tuple(range(len(classes)))
    if known is None or told is None:
        why = "there are no other members and no target" if known is None else "too few images"
        note = f"order of classes and direction of axes were not examined: {why}"
        order, said = without_comparison(given)
    elif given.forced or (told.certain and told.credible):
        said = explained(given, told, known.name)
        doubtful = not given.forced
        if doubtful and as_is:
            note, said = f"taken as they are: {said}", ""
        else:
            turn, order = ways[told.turn], told.order
    elif told.plain < told.chance:
        note = (
            f"agrees with {known.name} in {told.plain:.2f} of each class's pixels, no more than by"
            " chance: are these maps of these images, in this order?"
        )
    repair = Repair(channels if foreign.labels else None, foreign.dtype, scale, turn, order)
    oddities, notes = (tuple(line for line in lines if line) for lines in ((odd, said), (note,)))
    return InspectionReport(oddities, notes, repair, doubtful)


def _channels(foreign: ExternalMaps, found: ValueRange, count: int) -> int:
    """Return how many channels the maps have; labels have as many as they name."""
    if not foreign.labels:
        channels = foreign.size[1]
        if abs(channels - count) > 1:
            raise BadMaps(f"{foreign.name} holds {channels} classes; expected {count}")
        return channels
    if found.low < 0 or found.high > count:
        raise BadMaps(
            f"{foreign.name} holds labels from {found.low:g} to {found.high:g}; expected 0 to"
            f" {count - 1}"
        )
    return max(count, int(found.high) + 1)


def _compared(given: LayoutCandidates, places: Array, known: KnownMaps) -> LayoutMatch | None:
    def labels(of: Array) -> Array:
        values = given.foreign.read(places[of])
        return values if given.foreign.labels else values.argmax(axis=1)

    counted = agreement_tables(
        labels,
        known.labels,
        given.ways,
        images=len(places),
        channels=given.channels,
        classes=len(given.classes),
    )
    return infer_layout(counted)
