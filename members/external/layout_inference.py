"""Infer the layout of external maps: direction of rows and columns, and order of classes.

Layouts are compared by how well the labels agree with known ones. Where there is nothing to compare
with, sizes alone decide.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Integer

from evaluation.core.arrays import evenly_spaced
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadMaps
from evaluation.core.types import Array
from members.external.formats import ReadableMaps
from members.external.resize import is_scaled, nearest
from members.external.values import ValueRange

MAX_UNITS = 32
MAX_IMAGES = 512
PIXELS = 1 << 14
"""About as many pixels per image are compared: every few rows and columns of large images."""

MARGIN = 0.1
"""Another order must add this much to the agreement, on the average of the classes it moves: weak
members confuse classes."""

ORIENTATION_MARGIN = 0.02
"""An orientation must add this much, on the average of all classes: no member is better upside
down, but images of one class nearly everywhere change little."""

MIN_STANDARD_ERRORS = 3
"""The gain must be this many of its standard errors."""

MIN_UNITS = 8
MIN_UNITS_WITH_CLASS = 4
"""Classes that occur in fewer units are not compared."""

Order = tuple[int | None, ...]
"""The external channel of each class; None where there is no such channel."""

Tables = Integer[np.ndarray, "orientation unit channel class"]


@dataclass(frozen=True)
class Orientation:
    """One of the eight symmetries of a square, applied to the last two axes.

    Args:
        swapped: rows and columns are exchanged, first.
        upside_down: rows are reversed.
        mirrored: columns are reversed.

    Examples:
        >>> str(Orientation(swapped=True, mirrored=True))
        'rows and columns swapped and columns mirrored'
        >>> Orientation(upside_down=True)(np.array([[1, 2], [3, 4]])).tolist()
        [[3, 4], [1, 2]]
    """

    swapped: bool = False
    upside_down: bool = False
    mirrored: bool = False

    def __call__(self, values: Array) -> Array:
        """Reorder the last two axes."""
        if self.swapped:
            values = values.swapaxes(-1, -2)
        if self.upside_down:
            values = values[..., ::-1, :]
        return values[..., ::-1] if self.mirrored else values

    def __str__(self) -> str:
        """Describe it as a problem; empty for none."""
        parts = {
            "rows and columns swapped": self.swapped,
            "rows upside down": self.upside_down,
            "columns mirrored": self.mirrored,
        }
        return " and ".join(words for words, applies in parts.items() if applies)


def orientations(given: tuple[int, int], expected: tuple[int, int]) -> list[Orientation]:
    """List the orientations that make (rows, cols) of one size into another, the simplest first.

    Where none does, those that do at another scale.
    """
    fits = {False: given == expected, True: given[::-1] == expected}
    if not any(fits.values()):
        fits = {False: is_scaled(given, expected), True: is_scaled(given[::-1], expected)}
    return [
        Orientation(swapped, upside_down, mirrored)
        for swapped, upside_down, mirrored in product((False, True), repeat=3)
        if fits[swapped]
    ]


def agreement_tables(
    external: Callable[[Array], Array],
    known: Callable[[Array], Array],
    candidates: Sequence[Orientation],
    *,
    images: int,
    one_size: bool = True,
    channels: int,
    classes: int,
) -> Tables:
    """Count pixels by external and known label, per orientation and unit.

    A unit is a run of neighbouring images, which resemble each other; it counts as one observation.

    Args:
        external: gives the external labels for indices of images, (image, row, col).
        known: gives the known labels of the same images; 255 where they do not count.
        candidates: orientations to try on the external labels.
        images: how many there are.
        one_size: whether all images have one size, so that several can be read together.
        channels: of the external maps.
        classes: of the run.
    """
    sampled = np.array(evenly_spaced(images, MAX_IMAGES))
    units = np.array_split(sampled, min(MAX_UNITS, len(sampled)))
    tables = np.zeros((len(candidates), len(units), channels, classes), np.int64)
    for unit, indices in enumerate(units):
        for part in [indices] if one_size else np.split(indices, len(indices)):
            target, given = known(part), external(part)
            size = (target.shape[-2], target.shape[-1])
            step = max(1, int(np.sqrt(target[0].size / PIXELS)))
            target = target[:, ::step, ::step].ravel()
            labelled = target != UNLABELLED
            for index, orientation in enumerate(candidates):
                oriented = nearest(orientation(given), size, step).ravel()
                cell = oriented[labelled].astype(np.int64) * classes + target[labelled]
                counts = np.bincount(cell, minlength=channels * classes)
                tables[index, unit] += counts.reshape(channels, classes)
    return tables


@dataclass(frozen=True)
class LayoutMatch:
    """The layout that best explains external labels.

    Args:
        orientation: index of the orientation.
        order: of the classes.
        plain: agreement as they are, the mean over the classes; NaN where sizes or numbers of
            classes forbid it.
        accuracy: agreement in this layout.
        chance: agreement of labels that are independent of the image, at most.
        certain: the gain is clear on images that did not choose the layout.
    """

    orientation: int
    order: Order
    plain: float
    accuracy: float
    chance: float
    certain: bool

    @property
    def credible(self) -> bool:
        """Whether the labels, in this layout, depend on the images."""
        return self.accuracy >= self.chance + MARGIN


def infer_layout(tables: Tables) -> LayoutMatch | None:
    """Find the orientation and class order that agree best, the plain ones where none is clear.

    Agreement is the mean over the classes of the share of their pixels that is labelled so. What
    changes the orientation or moves classes pays for each class it concerns. Whether the gain is
    real is measured on images that did not choose: each half of the units is scored in the layout
    that the other half chose.

    Args:
        tables: see `agreement_tables`; the first orientation is the simplest.

    Returns:
        The layout; None where nothing was counted, or there are too few units.
    """
    _, units, channels, classes = tables.shape
    # A class in a unit or two says nothing: its few pixels would count as all of the class.
    frequent = (tables[0].sum(axis=1) > 0).sum(axis=0) >= MIN_UNITS_WITH_CLASS
    tables = tables * frequent
    total = tables.sum(axis=1)
    present = total[0].sum(axis=0) > 0
    if units < MIN_UNITS or not present.any():
        return None
    plain = tuple(range(classes))
    orientation, order = _best_layout(total)
    pixels = tables[0].sum(axis=1)[:, present]
    gained = np.zeros_like(pixels)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        rest = np.ones(units, dtype=bool)
        rest[half] = False
        chosen = _best_layout(tables[:, rest].sum(axis=1))
        after, before = (_correct(tables[o, half], by) for o, by in (chosen, (0, plain)))
        gained[half] = (after - before)[:, present]
    gain, error = _mean_gain(gained, pixels)
    moved = sum(order[c] != c for c in np.flatnonzero(present))
    required = MARGIN * moved + ORIENTATION_MARGIN * present.sum() * (orientation > 0)
    certain = required > 0 and gain >= max(required, MIN_STANDARD_ERRORS * error)
    accuracy, plain_accuracy = (
        float(np.mean(_correct(total[o][None], by)[0, present] / pixels.sum(axis=0)))
        for o, by in ((orientation, order), (0, plain))
    )
    return LayoutMatch(
        orientation,
        order,
        plain=plain_accuracy if channels == classes else float("nan"),
        accuracy=accuracy,
        chance=1 / int(present.sum()),
        certain=bool(certain),
    )


def _mean_gain(
    gained: Integer[np.ndarray, "unit class"], pixels: Integer[np.ndarray, "unit class"]
) -> tuple[float, float]:
    """Return the sum over the classes of the share of pixels gained, and its standard error.

    Shares are ratios: the error comes from how far a unit's gain lies from what its pixels of each
    class predict.
    """
    sums = pixels.sum(axis=0)
    shares = gained.sum(axis=0) / sums
    residuals = ((gained - shares * pixels) / sums).sum(axis=1)
    units = len(pixels)
    return float(shares.sum()), float(np.sqrt(units / (units - 1) * (residuals**2).sum()))


def _best_layout(total: Integer[np.ndarray, "orientation channel class"]) -> tuple[int, Order]:
    """Return the orientation and order that agree best after paying for what they change."""
    pixels = total[0].sum(axis=0)
    present = pixels > 0
    scored: list[tuple[float, int, Order]] = []
    for orientation, table in enumerate(total):
        for order in _candidate_orders(table):
            correct = (_correct(table[None], order)[0] / np.maximum(pixels, 1)).sum()
            same = table.shape[0] == table.shape[1]
            moved = sum(order[c] != c for c in np.flatnonzero(present)) if same else 0
            cost = MARGIN * moved + ORIENTATION_MARGIN * present.sum() * (orientation > 0)
            scored.append((float(correct - cost), orientation, order))
    # The first of equals: the simplest orientation, the lowest channel.
    _, orientation, order = max(scored, key=lambda item: item[0])
    return orientation, order


def _candidate_orders(table: Integer[np.ndarray, "channel class"]) -> list[Order]:
    """List orders of classes: the best one, or with one class too many or too few, each in turn.

    The best one has the highest sum of IoUs. By shares of the classes' pixels alone, a channel of a
    frequent class would be taken for a rare class that is predicted nowhere else.
    """
    from scipy.optimize import linear_sum_assignment

    channels, classes = table.shape
    if channels == classes + 1:
        return [tuple(c for c in range(channels) if c != k) for k in range(channels)]
    if channels == classes - 1:
        return [(*range(k), None, *range(k, channels)) for k in range(classes)]
    union = table.sum(axis=1, keepdims=True) + table.sum(axis=0) - table
    ious = table / np.maximum(union, 1)
    rows, cols = linear_sum_assignment(ious + MARGIN * np.eye(classes), maximize=True)
    return [tuple(int(channel) for channel in rows[np.argsort(cols)])]


def _correct(
    tables: Integer[np.ndarray, "unit channel class"], order: Order
) -> Integer[np.ndarray, "unit class"]:
    """Return how many pixels of each class are correct."""
    padded = np.concatenate([tables, np.zeros_like(tables[:, :1])], axis=1)
    channels = [padded.shape[1] - 1 if channel is None else channel for channel in order]
    return padded[:, channels, np.arange(len(order))]


ORDER_IMAGES = 64
ORDER_MARGIN = 0.01
"""By how much more of its pixels an image must agree with its own labels than with others'."""


@dataclass(frozen=True)
class OrderSupport:
    """Whether the images of a stack are in the order of the known labels.

    Args:
        own: share of pixels that agree with the labels of the same image.
        other: the same with the labels of images far away in the order.
        supported: the first is clearly higher, and no neighbour's labels agree better.
    """

    own: float
    other: float
    supported: bool


def order_support(
    external: Callable[[int], Array], known: Callable[[int], Array], images: int
) -> OrderSupport:
    """Compare the labels of some images with their own known labels and with those of others.

    A wrong order agrees as well as any: images of one set resemble each other. A shift by one image
    would go unnoticed in a video; so the neighbours' labels must not agree better.

    Args:
        external: gives the external labels of an image, (row, col), of the run's size.
        known: gives the known ones; 255 where they do not count.
        images: how many there are.
    """
    if images == 1:
        return OrderSupport(1.0, 0.0, supported=True)
    shifts = (0, images // 2, 1, images - 1)
    rows = []
    for image in evenly_spaced(images, ORDER_IMAGES):
        labels = external(image)
        targets = [known((image + shift) % images) for shift in shifts]
        size = (labels.shape[-2], labels.shape[-1])
        rows.append([_agreement(labels, nearest(target, size)) for target in targets])
    shares = np.array(rows)
    shares = shares[np.isfinite(shares).all(axis=1)]
    if len(shares) < 2:
        return OrderSupport(float("nan"), float("nan"), supported=False)
    gains = shares[:, :1] - shares[:, 1:]
    errors = gains.std(axis=0, ddof=1) / np.sqrt(len(gains))
    required = np.maximum(ORDER_MARGIN, MIN_STANDARD_ERRORS * errors)
    means = gains.mean(axis=0)
    supported = bool(means[0] > required[0] and (means[1:] > -required[1:]).all())
    return OrderSupport(float(shares[:, 0].mean()), float(shares[:, 1].mean()), supported)


def _agreement(labels: Array, target: Array) -> float:
    labelled = target != UNLABELLED
    return float((labels == target)[labelled].mean()) if labelled.any() else float("nan")


@dataclass(frozen=True)
class LayoutCandidates:
    """What is known about external maps before they are compared.

    Args:
        external: the maps.
        orientations: those that give images of the run's size, the simplest first.
        channels: how many classes the maps have.
        classes: of the run.
        values: range of the maps' values.
    """

    external: ReadableMaps
    orientations: Sequence[Orientation]
    channels: int
    classes: Classes
    values: ValueRange

    @property
    def forced(self) -> bool:
        """Whether they cannot be taken as they are."""
        return self.channels != len(self.classes) or self.orientations[0].swapped

    def __str__(self) -> str:
        """Describe classes and pixels."""
        return f"{self.channels} classes of {self.external.extent} pixels"


def order_by_size(candidates: LayoutCandidates) -> tuple[Order, str]:
    """Return the order of classes, and the problem, from sizes and labels alone.

    Raises:
        BadMaps: another number of classes that labels do not explain.
    """
    count, orientation = len(candidates.classes), candidates.orientations[0]
    swapped = f"{orientation}: {candidates}" if orientation.swapped else ""
    if candidates.channels == count:
        return tuple(range(count)), swapped
    if candidates.external.is_labels and candidates.values.low >= 1:
        shifted = f"classes shifted by one: labels go from 1 to {count}"
        return tuple(range(1, count + 1)), f"{shifted} and {swapped}" if swapped else shifted
    raise BadMaps(
        f"{candidates.external.name} holds {candidates.channels} classes; expected {count}, and"
        " nothing to compare with tells which is which: give as many, in the order of the run"
    )


def describe_match(candidates: LayoutCandidates, match: LayoutMatch, known: str) -> str:
    """Describe a layout with its evidence.

    Raises:
        BadMaps: no layout explains the labels.
    """
    if not match.credible:
        raise BadMaps(
            f"{candidates.external.name} holds {candidates}; expected {len(candidates.classes)}"
            f" classes, and in any layout they agree with {known} in {match.accuracy:.2f} of each"
            " class's pixels at most: give them as the run has them"
        )
    orientation = str(candidates.orientations[match.orientation])
    order = _describe_order(match.order, candidates)
    layout = " and ".join(part for part in (orientation, order) if part)
    plain = "" if candidates.forced else f", {match.plain:.2f} as they are"
    return f"{layout}: so they agree with {known} in {match.accuracy:.2f} of each class{plain}"


def _describe_order(order: Order, candidates: LayoutCandidates) -> str:
    channels, names = candidates.channels, candidates.classes.names
    count = len(names)
    if channels > count:
        (extra,) = set(range(channels)) - set(order)
        kind = "one class too many" if extra == count else "classes shifted by one"
        return f"{kind} ({channels} for {count}, of which {extra} is too many)"
    if channels < count:
        missing = order.index(None)
        kind = "one class missing" if missing == count - 1 else "classes shifted by one"
        return f"{kind} ({channels} for {count}: no {names[missing]!r})"
    if order == tuple(range(count)):
        return ""
    rolled = any(order == tuple((c + by) % count for c in range(count)) for by in (1, -1))
    kind = "classes shifted by one" if rolled else "a permuted class order"
    return f"{kind} ({', '.join(names)} are channels {', '.join(map(str, order))})"
