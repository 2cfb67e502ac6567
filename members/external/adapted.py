"""External maps whose channels are made the run's classes before anything else.

Names of classes, one channel of a foreground, and stored values of label maps say what channels
mean; what only agreement can tell is left to `members.external.layout_inference`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.core.classes import NUM_VALUES, Classes
from evaluation.core.errors import BadMaps
from evaluation.core.ragged import Extent
from evaluation.core.types import Array
from members.external.formats import ExternalMaps, ReadableMaps
from members.external.values import ValueRange, leaves_rest, to_float32
from members.probabilities import RANGE_TOLERANCE

MAX_SHOWN = 5


@dataclass(frozen=True)
class AdaptedMaps(ReadableMaps):
    """Maps with other channels or labels than the file's.

    Args:
        given: the file's.
        adapt: turns float32 values (image, channel, row, col), or labels (image, row, col).
        channels: of the result; None for labels.
    """

    given: ExternalMaps
    adapt: Callable[[Array], Array]
    channels: int | None

    @property
    def name(self) -> str:  # type: ignore[override]
        """What errors call them."""
        return self.given.name

    @property
    def size(self) -> tuple[int, ...]:
        """Images, channels, rows, cols; without channels for labels."""
        images, *_, rows, cols = self.given.size
        return (
            (images, rows, cols) if self.channels is None else (images, self.channels, rows, cols)
        )

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return self.given.extent

    @property
    def dtype(self) -> str:
        """The type of what `read` returns."""
        return self.given.dtype if self.channels is None else "float32"

    def read(self, indices: Array) -> Array:
        """Read images."""
        values = self.given.read(indices)
        return self.adapt(values if self.channels is None else to_float32(values, self.given.dtype))


def adapt(
    external: ExternalMaps, values: ValueRange, classes: Classes, names: Sequence[str] | None
) -> tuple[ReadableMaps, ValueRange, list[str]]:
    """Return the maps with the run's classes, as far as the file or the user says, and notes.

    Args:
        external: the maps.
        values: their range.
        classes: of the run.
        names: of the external channels, or of labels from 0 upwards; None where nobody says.

    Raises:
        BadMaps: names that are not the run's, one channel for more than two classes.
    """
    names = external.class_names if names is None else tuple(names)
    if external.is_labels:
        return _adapt_labels(external, values, classes, names)
    if external.size[1] == 1:
        return _two_classes(external, values, classes)
    if names is None:
        return external, values, []
    if len(names) != external.size[1]:
        raise BadMaps(f"{external.name} holds {external.size[1]} classes; {len(names)} are named")
    channels, rest = _channels_by_name(external, values, classes, names)
    if channels == list(range(len(classes))):
        return external, values, []

    def reorder(maps: Array) -> Array:
        if rest:
            maps = np.concatenate([maps, 1 - maps.sum(axis=1, keepdims=True)], axis=1)
        return maps[:, channels]

    note = f"classes are ordered by their names: {', '.join(names)}"
    if rest:
        (left,) = set(classes.names) - set(names)
        note += f"; {left!r} has what is left to 1"
        values = replace(values, low_sum=1.0, high_sum=1.0)
    return AdaptedMaps(external, reorder, len(classes)), values, [note]


def _channels_by_name(
    external: ExternalMaps, values: ValueRange, classes: Classes, names: Sequence[str]
) -> tuple[list[int], bool]:
    """Return the channel of each class, and whether one class has what is left to 1."""
    _check_names(external, classes, names)
    missing = [name for name in classes.names if name not in names]
    rest = len(missing) == 1 and leaves_rest(values, external.dtype, len(classes))
    if missing and not rest:
        raise BadMaps(
            f"{external.name} names no class {missing[0]!r}; expected {', '.join(classes.names)}"
        )
    all_names = [*names, *missing]
    return [all_names.index(name) for name in classes.names], rest


def _check_names(external: ExternalMaps, classes: Classes, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise BadMaps(f"{external.name} names class {repeated!r} twice; expected distinct names")
    unknown = [name for name in names if name not in classes.names]
    if unknown:
        raise BadMaps(
            f"{external.name} names class {unknown[0]!r}; expected {', '.join(classes.names)}"
        )


def _two_classes(
    external: ExternalMaps, values: ValueRange, classes: Classes
) -> tuple[ReadableMaps, ValueRange, list[str]]:
    """Return the maps of background and foreground, from one channel of the foreground."""
    if len(classes) != 2 or external.dtype == "uint8":
        expected = f"{len(classes)} classes" if len(classes) != 2 else "floating point, 0 to 1"
        raise BadMaps(
            f"{external.name} holds one channel of {external.dtype}; expected {expected}, or"
            " integer labels"
        )
    if values.low >= -RANGE_TOLERANCE and values.high > 1 + RANGE_TOLERANCE:
        raise BadMaps(
            f"{external.name} holds one channel with values from {values.low:.3g} to"
            f" {values.high:.3g}; expected probabilities of the foreground, 0 to 1, or logits"
        )
    is_logits = values.low < -RANGE_TOLERANCE
    foreground = 1 if classes.foreground is None else classes.foreground

    def split(maps: Array) -> Array:
        return two_classes(maps, foreground=foreground, logits=is_logits)

    sums = (values.low, values.high) if is_logits else (1.0, 1.0)
    both = ValueRange(min(0.0, values.low), max(0.0, values.high), *sums)
    note = f"one channel: taken for the probability of {classes.names[foreground]!r}"
    return AdaptedMaps(external, split, 2), both, [note]


def two_classes(channel: Array, *, foreground: int = 1, logits: bool = False) -> Array:
    """Return maps of background and foreground, (image, 2, row, col).

    Args:
        channel: of the foreground, (image, 1, row, col): probabilities, or `logits`.
        foreground: its class index, 0 or 1.
        logits: whether the result is logits: sigmoid(x) is the softmax of 0 and x.
    """
    other = np.zeros_like(channel) if logits else 1 - channel
    return np.concatenate([other, channel] if foreground else [channel, other], axis=1)


def _adapt_labels(
    external: ExternalMaps, values: ValueRange, classes: Classes, names: Sequence[str] | None
) -> tuple[ReadableMaps, ValueRange, list[str]]:
    """Return class indices: of names, or of the values that the run's masks store."""
    if names is not None:
        _check_names(external, classes, names)
        if values.low < 0 or values.high >= len(names):
            raise BadMaps(
                f"{external.name} holds labels up to {values.high:g}; {len(names)} are named"
            )
        indices = {label: classes.names.index(name) for label, name in enumerate(names)}
        note = f"labels are those of the names: {', '.join(names)}"
    elif not classes.stored_as_indices and values.labels <= set(classes.values):
        indices = {value: index for index, value in enumerate(classes.values)}
        note = f"labels are the values that the masks store: {classes.describe_values()}"
    else:
        return external, values, []
    if all(label == index for label, index in indices.items()):
        return external, values, []
    table = np.zeros(NUM_VALUES, np.uint8)
    table[list(indices)] = list(indices.values())
    present = frozenset(indices[label] for label in values.labels)
    low, high = float(min(present)), float(max(present))
    mapped = ValueRange(low, high, low, high, present)
    return AdaptedMaps(external, lambda labels: table[labels], None), mapped, [note]
