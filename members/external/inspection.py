"""Inspect external maps: match them with a run's images, list their problems, and repair them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

import numpy as np

from evaluation.core.blocks import map_blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadMaps
from evaluation.core.ragged import Extent
from evaluation.core.types import Array, Map
from members.external.formats import ExternalMaps
from members.external.layout_inference import (
    LayoutCandidates,
    LayoutMatch,
    Order,
    Orientation,
    agreement_tables,
    describe_match,
    infer_layout,
    order_by_size,
    orientations,
)
from members.external.values import (
    AS_THEY_ARE,
    Scale,
    ValueRange,
    classify_range,
    to_float32,
    to_probabilities,
    value_range,
)

MAX_SHOWN = 3


def match_by_id(external: ExternalMaps, ids: Sequence[str]) -> tuple[Array, str]:
    """Return the index of each image of a split among the external ones, and the problem.

    The problem is external images that are not in the split; empty for none. Without ids a stack
    must hold the images of the split in its order.

    Raises:
        BadMaps: images that are missing.

    Examples:
        >>> from members.external.formats import StackedMaps
        >>> stack = StackedMaps("maps.npz", np.ones((3, 2, 4, 4)), ("b", "x", "a"))
        >>> match_by_id(stack, ["a", "b"])[0]
        array([2, 0])
    """
    count = len(external.extent)
    if external.ids is None:
        if count != len(ids):
            raise BadMaps(
                f"{external.name} holds {count} images without ids; expected the split's"
                f" {len(ids)}, in its order: give a .npz with ids, or one file per image"
            )
        return np.arange(count), ""
    index_of = {name: index for index, name in enumerate(external.ids)}
    if len(index_of) < count:
        raise BadMaps(f"{external.name} holds ids that repeat; expected distinct ids")
    composed = {normalize("NFC", name): name for name in index_of}
    ids = [name if name in index_of else composed.get(normalize("NFC", name), name) for name in ids]
    missing = [name for name in ids if name not in index_of]
    if missing:
        raise BadMaps(
            f"{external.name} lacks {len(missing)} of {len(ids)} images (first: {missing[0]!r};"
            f" its own are {external.ids[0]!r}, ...); name each as in the split's index.csv"
        )
    known = set(ids)
    extra = [name for name in external.ids if name not in known]
    problem = (
        f"ids that do not match: {len(extra)} of {count} images are not in the split"
        f" (first: {extra[0]!r})"
        if extra
        else ""
    )
    return np.array([index_of[name] for name in ids]), problem


@dataclass(frozen=True)
class Repair:
    """What turns external values into maps of the run.

    Args:
        channels: how many labels there are to make channels of; None for values.
        dtype: of the values on disk.
        scale: what makes them probabilities.
        orientation: of rows and columns.
        order: the channel of each class.
    """

    channels: int | None
    dtype: str
    scale: Scale
    orientation: Orientation
    order: Order

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"scale": self.scale, "turn": str(self.orientation), "order": list(self.order)}

    def __call__(self, values: Array) -> Map:
        """Return probabilities (image, class, row, col), float32."""
        if self.channels is not None:
            labels = np.arange(self.channels)[:, None, None]
            maps = (values[:, None] == labels).astype(np.float32)
        else:
            maps = to_probabilities(to_float32(values, self.dtype), self.scale)
        pairs = [(c, channel) for c, channel in enumerate(self.order) if channel is not None]
        classes, channels = (list(part) for part in zip(*pairs, strict=True))
        ordered = np.zeros((len(maps), len(self.order), *maps.shape[2:]), np.float32)
        ordered[:, classes] = maps[:, channels]
        if len(pairs) < maps.shape[1]:
            ordered = to_probabilities(ordered, AS_THEY_ARE)
        return np.ascontiguousarray(self.orientation(ordered))


@dataclass(frozen=True)
class KnownMaps:
    """Labels to compare external maps with.

    Args:
        name: what messages call them.
        labels: gives them for indices of the run's images; 255 where they do not count.
    """

    name: str
    labels: Callable[[Array], Array]


@dataclass(frozen=True)
class InspectionReport:
    """The problems of external maps, and their repair.

    Args:
        problems: kind and evidence of each, which `repair` solves.
        notes: what else a user should know.
        repair: makes the maps; does as little as possible where there is no problem.
        ambiguous: a problem was inferred from agreement alone, so a bad member may look like it.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    repair: Repair
    ambiguous: bool


def inspect_maps(
    external: ExternalMaps,
    indices: Array,
    *,
    classes: Classes,
    extent: Extent,
    known: KnownMaps | None,
    as_is: bool = False,
) -> InspectionReport:
    """Find all problems before anything is written.

    Args:
        external: the maps.
        indices: the external index of each of the run's images.
        classes: of the run.
        extent: number and sizes of the run's images.
        known: what to compare with; None skips what needs it, and says so.
        as_is: keep what agreement alone calls a problem, and note it; read chunks that are not
            stored as the fill value, where a writer may have left them out for holding only that.

    Raises:
        BadMaps: chunks that are not stored; what cannot be repaired: NaN, another size, another
            number of classes that nothing explains, labels out of range.
    """
    fitting = _fitting_orientations(external, external.extent.take(indices), extent)
    chunk_note = _check_chunks(external, indices, as_is)
    values = value_range(external)
    channels = _num_channels(external, values, len(classes))
    scale, value_problem = AS_THEY_ARE, ""
    if not external.is_labels:
        scale, value_problem = classify_range(values, classes=channels, dtype=external.dtype)
    candidates = LayoutCandidates(external, fitting, channels, classes, values)
    match = None if known is None else _compare(candidates, indices, known)
    orientation, layout_problem, note, ambiguous = fitting[0], "", "", False
    order: Order = tuple(range(len(classes)))
    if known is None or match is None:
        why = "there are no other members and no target" if known is None else "too few images"
        note = f"order of classes and direction of axes were not examined: {why}"
        order, layout_problem = order_by_size(candidates)
    elif candidates.forced or (match.certain and match.credible):
        layout_problem = describe_match(candidates, match, known.name)
        ambiguous = not candidates.forced
        if ambiguous and as_is:
            note, layout_problem = f"taken as they are: {layout_problem}", ""
        else:
            orientation, order = fitting[match.orientation], match.order
    elif match.plain < match.chance:
        note = (
            f"agrees with {known.name} in {match.plain:.2f} of each class's pixels, no more than by"
            " chance: are these maps of these images, in this order?"
        )
    return InspectionReport(
        problems=tuple(line for line in (value_problem, layout_problem) if line),
        notes=tuple(line for line in (chunk_note, note) if line),
        repair=Repair(
            channels if external.is_labels else None, external.dtype, scale, orientation, order
        ),
        ambiguous=ambiguous,
    )


def _fitting_orientations(
    external: ExternalMaps, given: Extent, expected: Extent
) -> list[Orientation]:
    """Return the orientations that make every image as large as the run's."""
    fitting = None
    for number, sizes in enumerate(zip(given.sizes, expected.sizes, strict=True)):
        of_image = orientations(*sizes)
        fitting = of_image if fitting is None else [o for o in fitting if o in of_image]
        if not fitting:
            (rows, cols), (expected_rows, expected_cols) = sizes
            raise BadMaps(
                f"{external.name} holds images of {rows} x {cols} pixels; expected"
                f" {expected_rows} x {expected_cols} (image {number})"
            )
    return fitting or []


def _check_chunks(external: ExternalMaps, indices: Array, as_is: bool) -> str:
    """Return a note on chunks that are not stored; empty where all are.

    Raises:
        BadMaps: images whose values are missing, or may be.
    """

    def count_missing(block: slice) -> Array:
        """Return for each image whether pixels lack any and all of their values."""
        missing = external.missing(indices[block])
        if missing is None:
            return np.zeros((2, block.stop - block.start), bool)
        pixels = missing[:, None] if external.is_labels else missing
        lacking = np.stack([pixels.any(axis=1), pixels.all(axis=1)])
        return np.asarray(lacking.reshape(2, len(pixels), -1).any(axis=2))

    some, all_values = np.concatenate(list(map_blocks(count_missing, len(indices))), axis=1)
    if not some.any():
        return ""
    certain = all_values.any() and not external.is_labels
    lacking = indices[np.flatnonzero(all_values if certain else some)]
    named = [f"image {i}" if external.ids is None else repr(external.ids[i]) for i in lacking]
    found = (
        f"{external.name} lacks chunks of {len(named)} of {len(indices)} images"
        f" (first: {', '.join(named[:MAX_SHOWN])})"
    )
    if certain:
        raise BadMaps(f"{found}; expected every image: write or copy the array again")
    fill = getattr(getattr(external, "array", None), "fill_value", 0)
    if as_is:
        return f"{found}, which were read as {fill}"
    raise BadMaps(
        f"{found}: it cannot be told whether they were never written or hold only {fill}, which"
        " Zarr leaves out by default; write the array again with write_empty_chunks, or take"
        f" {fill} by --no-checks"
    )


def _num_channels(external: ExternalMaps, values: ValueRange, count: int) -> int:
    """Return how many channels the maps have; labels have as many as they name."""
    if not external.is_labels:
        channels = external.size[1]
        if abs(channels - count) > 1:
            raise BadMaps(f"{external.name} holds {channels} classes; expected {count}")
        return channels
    if values.low < 0 or values.high > count:
        raise BadMaps(
            f"{external.name} holds labels from {values.low:g} to {values.high:g}; expected 0 to"
            f" {count - 1}"
        )
    return max(count, int(values.high) + 1)


def _compare(candidates: LayoutCandidates, indices: Array, known: KnownMaps) -> LayoutMatch | None:
    external = candidates.external

    def labels(of: Array) -> Array:
        values = external.read(indices[of])
        return values if external.is_labels else values.argmax(axis=1)

    tables = agreement_tables(
        labels,
        known.labels,
        candidates.orientations,
        images=len(indices),
        one_size=external.extent.one_size is not None,
        channels=candidates.channels,
        classes=len(candidates.classes),
    )
    return infer_layout(tables)
