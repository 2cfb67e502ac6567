"""Inspect external maps: match them with a run's images, list their problems, and repair them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

import numpy as np

from evaluation.core.blocks import map_blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadMaps
from evaluation.core.ragged import Extent, Size
from evaluation.core.types import Array, Map
from members.external.adapted import adapt
from members.external.file_names import image_names
from members.external.formats import ExternalMaps, ReadableMaps
from members.external.layout_inference import (
    LayoutCandidates,
    LayoutMatch,
    Order,
    Orientation,
    agreement_tables,
    describe_match,
    infer_layout,
    order_by_size,
    order_support,
    orientations,
)
from members.external.resize import CONVENTION, bilinear, nearest
from members.external.values import (
    AS_THEY_ARE,
    Scale,
    ValueRange,
    classify_range,
    leaves_rest,
    to_float32,
    to_probabilities,
    value_range,
)

MAX_SHOWN = 3


@dataclass(frozen=True)
class ImageMatch:
    """Which external image is which of the run's.

    Args:
        indices: the external index of each image of the split.
        problem: external images that are not in the split; empty for none.
        note: how names were made to match; empty where they do.
    """

    indices: Array
    problem: str = ""
    note: str = ""


def match_by_id(external: ExternalMaps, ids: Sequence[str]) -> ImageMatch:
    """Find each image of a split among the external ones.

    Names may be written with composed or separate accents, and all with a suffix such as `_probs`.
    Without ids a stack must hold as many images as the split; its order is examined later.

    Raises:
        BadMaps: images that are missing.

    Examples:
        >>> from members.external.formats import StackedMaps
        >>> stack = StackedMaps("maps.npz", np.ones((3, 2, 4, 4)), ("b", "x", "a"))
        >>> match_by_id(stack, ["a", "b"]).indices
        array([2, 0])
    """
    count = len(external.extent)
    if external.ids is None:
        if count != len(ids):
            raise BadMaps(
                f"{external.name} holds {count} images without ids; expected the split's"
                f" {len(ids)}, in its order: give a .npz with ids, or one file per image"
            )
        return ImageMatch(np.arange(count))
    if len(set(external.ids)) < count:
        raise BadMaps(f"{external.name} holds ids that repeat; expected distinct ids")
    ids = [normalize("NFC", name) for name in ids]
    given = [normalize("NFC", name) for name in external.ids]
    stripped, note = image_names(given), ""
    if len(set(ids) & set(stripped)) > len(set(ids) & set(given)) and _distinct(stripped):
        note = f"{external.name}: names without {given[0].removeprefix(stripped[0])!r}"
        given = stripped
    index_of = {name: index for index, name in enumerate(given)}
    missing = [name for name in ids if name not in index_of]
    if missing:
        raise BadMaps(
            f"{external.name} lacks {len(missing)} of {len(ids)} images (first: {missing[0]!r};"
            f" its own are {external.ids[0]!r}, ...); name each as in the split's index.csv and"
            " predict those that are missing, or leave them out by --missing skip"
        )
    known = set(ids)
    extra = [name for name in given if name not in known]
    problem = (
        f"ids that do not match: {len(extra)} of {count} images are not in the split"
        f" (first: {extra[0]!r})"
        if extra
        else ""
    )
    return ImageMatch(np.array([index_of[name] for name in ids]), problem, note)


def covered_images(external: ExternalMaps, ids: Sequence[str]) -> Array:
    """Return the index of each image of a split that the external maps have by its name.

    Raises:
        BadMaps: none of them, or maps whose images have no names.
    """
    if external.ids is None:
        raise BadMaps(f"{external.name} has no ids; expected files by image, or a .npz with ids")
    given = [normalize("NFC", name) for name in external.ids]
    known = {*given, *image_names(given)}
    kept = np.array([i for i, name in enumerate(ids) if normalize("NFC", name) in known], np.intp)
    if not len(kept):
        raise BadMaps(
            f"{external.name} has maps of none of the split's {len(ids)} images (first:"
            f" {ids[0]!r}; its own are {given[0]!r}, ...); name each as in the split's index.csv"
        )
    return kept


def _distinct(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


@dataclass(frozen=True)
class Repair:
    """What turns external values into maps of the run.

    Args:
        channels: how many labels there are to make channels of; None for values.
        dtype: of the values on disk.
        scale: what makes them probabilities.
        orientation: of rows and columns.
        order: the channel of each class.
        rest: the class without a channel has what the others leave to 1.
    """

    channels: int | None
    dtype: str
    scale: Scale
    orientation: Orientation
    order: Order
    rest: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "scale": self.scale,
            "turn": str(self.orientation),
            "order": list(self.order),
            "rest": self.rest,
        }

    def __call__(self, values: Array, size: Size | None = None) -> Map:
        """Return probabilities (image, class, row, col), float32.

        Args:
            values: of images of one size.
            size: rows and columns of the result; None keeps those of the values.
        """
        values = self.orientation(values)
        size = size or (values.shape[-2], values.shape[-1])
        if self.channels is not None:
            labels = np.arange(self.channels)[:, None, None]
            maps = (nearest(values, size)[:, None] == labels).astype(np.float32)
        else:
            # Logits are interpolated before the softmax, as networks do that upsample their output.
            maps = bilinear(to_float32(values, self.dtype), size)
            maps = maps if self.rest else to_probabilities(maps, self.scale)
        pairs = [(c, channel) for c, channel in enumerate(self.order) if channel is not None]
        classes, channels = (list(part) for part in zip(*pairs, strict=True))
        ordered = np.zeros((len(maps), len(self.order), *maps.shape[2:]), np.float32)
        if self.rest:
            ordered[:] = np.maximum(1 - maps.sum(axis=1, keepdims=True), 0)
        ordered[:, classes] = maps[:, channels]
        if self.rest or len(pairs) < maps.shape[1]:
            ordered = to_probabilities(ordered, AS_THEY_ARE)
        return np.ascontiguousarray(ordered)


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
        maps: what to repair: the external maps, with the channels that their names say.
        ambiguous: a problem was inferred from agreement alone, so a bad member may look like it.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    repair: Repair
    maps: ReadableMaps
    ambiguous: bool


def inspect_maps(
    external: ExternalMaps,
    indices: Array,
    *,
    classes: Classes,
    extent: Extent,
    known: KnownMaps | None,
    names: Sequence[str] | None = None,
    normalise: bool = False,
    no_checks: bool = False,
) -> InspectionReport:
    """Find all problems before anything is written.

    Args:
        external: the maps.
        indices: the external index of each of the run's images.
        classes: of the run.
        extent: number and sizes of the run's images.
        known: what to compare with; None skips what needs it, and says so.
        names: of the external classes, in their order; None takes the file's, if any.
        normalise: divide values from 0 to 1 by their sums, however far those are from 1.
        no_checks: keep what agreement alone calls a problem, and note it; read chunks that are not
            stored as the fill value, where a writer may have left them out for holding only that.

    Raises:
        BadMaps: chunks that are not stored; what cannot be repaired: NaN, another shape of images,
            another number of classes that nothing explains, labels out of range, several labels
            per pixel, names of other classes.
    """
    given = external.extent.take(indices)
    fitting = _fitting_orientations(external, given, extent)
    chunk_note = _check_chunks(external, indices, no_checks)
    values = value_range(external)
    maps, values, notes = adapt(external, values, classes, names)
    channels = _num_channels(maps, values, len(classes))
    scale, value_problem, rest = AS_THEY_ARE, "", False
    if not maps.is_labels:
        rest = channels == len(classes) - 1 and leaves_rest(values, external.dtype, channels)
        if not rest:
            scale, value_problem = _scale(maps.name, values, channels, external.dtype, normalise)
    candidates = LayoutCandidates(maps, fitting, channels, classes, values)
    match = None if known is None else _compare(candidates, indices, extent, known)
    chosen = _choose_layout(candidates, match, known, no_checks)
    resized = "" if _same_sizes(given, extent) else _describe_resizing(maps, given, extent)
    labels = channels if maps.is_labels else None
    return InspectionReport(
        problems=tuple(line for line in (value_problem, chosen.problem) if line),
        notes=tuple(line for line in (*notes, chunk_note, resized, chosen.note) if line),
        repair=Repair(labels, maps.dtype, scale, chosen.orientation, chosen.order, rest),
        maps=maps,
        ambiguous=chosen.ambiguous,
    )


@dataclass(frozen=True)
class _ChosenLayout:
    """The layout that maps are taken in.

    Args:
        orientation: of rows and columns.
        order: the channel of each class.
        problem: what has to be repaired; empty for nothing.
        note: what else a user should know; empty for nothing.
        ambiguous: agreement alone tells the problem.
    """

    orientation: Orientation
    order: Order
    problem: str = ""
    note: str = ""
    ambiguous: bool = False


def _choose_layout(
    candidates: LayoutCandidates,
    match: LayoutMatch | None,
    known: KnownMaps | None,
    no_checks: bool,
) -> _ChosenLayout:
    """Return the layout that sizes force or agreement shows, else the plain one.

    Raises:
        BadMaps: no layout explains the labels, or the number of classes.
    """
    plain: Order = tuple(range(len(candidates.classes)))
    simplest = candidates.orientations[0]
    if known is None or match is None:
        why = "there are no other members and no target" if known is None else "too few images"
        note = f"order of classes and direction of axes were not examined: {why}"
        order, problem = order_by_size(candidates)
        return _ChosenLayout(simplest, order, problem, note)
    if candidates.forced or (match.certain and match.credible):
        problem = describe_match(candidates, match, known.name)
        if no_checks and not candidates.forced:
            note = f"taken as they are: {problem}"
            return _ChosenLayout(simplest, plain, note=note, ambiguous=True)
        orientation = candidates.orientations[match.orientation]
        return _ChosenLayout(orientation, match.order, problem, ambiguous=not candidates.forced)
    note = ""
    if match.plain < match.chance:
        note = (
            f"agrees with {known.name} in {match.plain:.2f} of each class's pixels, no more than by"
            " chance: are these maps of these images, in this order?"
        )
    return _ChosenLayout(simplest, plain, note=note)


def check_order(report: InspectionReport, extent: Extent, known: KnownMaps | None) -> None:
    """Refuse a stack without ids, unless its maps agree with its own images better than others.

    Args:
        report: of the stack.
        extent: number and sizes of the run's images.
        known: what to compare with.

    Raises:
        BadMaps: nothing to compare with, or the order is not supported.
    """
    name = report.maps.name
    advice = "give a .npz with ids or one file per image, or take the order by --no-checks"
    if known is None:
        raise BadMaps(
            f"{name} holds no ids, and there is no target and no other member to examine its order"
            f" by; {advice}"
        )

    def labels(image: int) -> Array:
        values = report.maps.read(np.array([image]))
        return np.asarray(report.repair(values, extent.size_of(image)).argmax(axis=1)[0])

    support = order_support(labels, lambda i: known.labels(np.array([i]))[0], len(extent))
    if not support.supported:
        raise BadMaps(
            f"{name} holds no ids, and {known.name} does not support its order: images agree in"
            f" {support.own:.3f} of the pixels with their own labels, in {support.other:.3f} with"
            f" those of others; {advice}"
        )


def _scale(
    name: str, values: ValueRange, channels: int, dtype: str, normalise: bool
) -> tuple[Scale, str]:
    try:
        return classify_range(values, classes=channels, dtype=dtype, normalise=normalise)
    except BadMaps as error:
        raise BadMaps(f"{name}: {error}") from None


def _same_sizes(given: Extent, expected: Extent) -> bool:
    """Return whether no image is resized; rows and columns may be swapped."""
    pairs = zip(given.sizes, expected.sizes, strict=True)
    return all(sorted(one) == sorted(other) for one, other in pairs)


def _describe_resizing(external: ReadableMaps, given: Extent, expected: Extent) -> str:
    how = "nearest" if external.is_labels else CONVENTION
    return f"maps of {given} pixels are resized to the images' {expected} ({how})"


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
                f" {expected_rows} x {expected_cols} (image {number}), or the same shape at another"
                " scale"
            )
    return fitting or []


def _check_chunks(external: ExternalMaps, indices: Array, no_checks: bool) -> str:
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
    if no_checks:
        return f"{found}, which were read as {fill}"
    raise BadMaps(
        f"{found}: it cannot be told whether they were never written or hold only {fill}, which"
        " Zarr leaves out by default; write the array again with write_empty_chunks, or read"
        f" them as {fill} by --no-checks"
    )


def _num_channels(external: ReadableMaps, values: ValueRange, count: int) -> int:
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


def _compare(
    candidates: LayoutCandidates, indices: Array, extent: Extent, known: KnownMaps
) -> LayoutMatch | None:
    external = candidates.external

    def labels(of: Array) -> Array:
        values = external.read(indices[of])
        return values if external.is_labels else values.argmax(axis=1)

    tables = agreement_tables(
        labels,
        known.labels,
        candidates.orientations,
        images=len(indices),
        one_size=None not in (external.extent.one_size, extent.one_size),
        channels=candidates.channels,
        classes=len(candidates.classes),
    )
    return infer_layout(tables)
