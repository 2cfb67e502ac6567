"""What the output of a network from elsewhere means: values, and channels of which classes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadMaps, BadNetwork, BadSpec, unknown
from evaluation.core.ragged import Extent, Size
from evaluation.core.types import Array
from members.external.adapted import two_classes
from members.external.array_files import MAPS_KEYS
from members.external.formats import ExternalMaps, Layout
from members.external.inspection import InspectionReport, KnownMaps, inspect_maps
from members.external.values import (
    AS_THEY_ARE,
    SOFTMAX,
    ValueRange,
    classify_range,
    leaves_rest,
    to_probabilities,
    value_range,
)
from members.external_networks.description import NetworkDescription
from members.external_networks.network import OutputLayout, Values

MOST_REDUCED = 16
"""By how much an output may be smaller than its image: one value per image is no map."""

Order = tuple[int | None, ...]
"""The channel of each class; None for the class that has what the others leave to 1."""


@dataclass(frozen=True)
class SampledOutputs(ExternalMaps):
    """What a network gave for some images, as external maps."""

    images: tuple[Array, ...]
    ids: tuple[str, ...] | None
    name: str = "its output"
    class_names = None

    @property
    def size(self) -> tuple[int, ...]:
        """Images, channels, rows, cols of the first; without channels for labels."""
        return (len(self.images), *self.images[0].shape)

    @cached_property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return Extent.of_sizes([(image.shape[-2], image.shape[-1]) for image in self.images])

    @property
    def dtype(self) -> str:
        """The type of the values."""
        return str(self.images[0].dtype)

    def read(self, indices: Array) -> Array:
        """Return images of one size."""
        return np.stack([self.images[index] for index in indices])

    def as_stored(self) -> Iterator[Array]:
        """Yield the values of each image."""
        return iter(self.images)

    def with_layout(self, layout: Layout) -> "SampledOutputs":
        """Return the outputs: their axes are known."""
        return self

    def change(self, function: Callable[[Array], Array]) -> "SampledOutputs":
        """Return them with a function applied to each image as a batch of one."""
        return replace(self, images=tuple(function(image[None])[0] for image in self.images))


@dataclass(frozen=True)
class Meaning:
    """What an output means.

    Args:
        values: what it holds.
        order: the channel of each class.
        foreground: the class that one channel alone is of.
        range: of the values.
        notes: what else a user should know.
    """

    values: Values
    order: Order
    foreground: int | None
    range: ValueRange
    notes: tuple[str, ...]


def meaning_of(
    outputs: SampledOutputs,
    said: NetworkDescription,
    classes: Classes,
    known: KnownMaps | None,
) -> Meaning:
    """Find out what an output means, from what is said, its values, and agreement with masks.

    Args:
        outputs: of some images.
        said: of the network.
        classes: of the run.
        known: masks of these images.

    Raises:
        BadMaps: NaN, or no maps of the run's classes.
        BadNetwork: what is said contradicts the values, or agreement shows another order.
        BadSpec: names of other classes.
    """
    found, names = value_range(outputs), said.class_names

    def checked(probabilities: SampledOutputs, foreground: int | None = None) -> tuple[str, ...]:
        report = inspect_maps(
            probabilities,
            np.arange(len(outputs.images)),
            classes=classes,
            extent=outputs.extent,
            known=known,
            no_checks=names is not None,
        )
        _check_order(report, classes, foreground)
        return report.notes

    if outputs.is_labels:
        order = _named_order(names, len(names or classes), classes)
        notes = checked(outputs.change(lambda x: _relabelled(x, order)))
        return Meaning("labels", order, None, found, notes)
    channels = outputs.size[1]
    values = _values(found, channels, said, classes)
    if channels == 1 and len(classes) == 2:
        foreground, is_logits = named_foreground(names, classes), values == "logits"
        outputs = outputs.change(lambda x: two_classes(x, foreground=foreground, logits=is_logits))
        probabilities = outputs.change(lambda x: _probabilities(x, values))
        return Meaning(values, (0, 1), foreground, found, checked(probabilities, foreground))
    order = _named_order(names, channels, classes)
    if None in order:
        outputs = outputs.change(_with_rest)
    ordered = [channels if channel is None else channel for channel in order]
    notes = checked(outputs.change(lambda x: _probabilities(x, values)[:, ordered]))
    return Meaning(values, order, None, found, notes)


def _values(
    found: ValueRange, channels: int, description: NetworkDescription, classes: Classes
) -> Values:
    said = description.output
    text = f"values go from {found.low:.4g} to {found.high:.4g}"
    if channels == 1:
        inside = found.low >= 0 and found.high <= 1
        if said == "probabilities" and not inside:
            raise BadNetwork(f"is said to give probabilities, and {text}")
        return said or ("probabilities" if inside else "logits")
    if channels < len(classes):
        if said == "logits" or not leaves_rest(found, "float32", channels):
            raise BadNetwork(
                f"outputs {channels} channels, and {text}; expected {len(classes)}, or"
                " probabilities that leave one class the rest: export it with a constant channel"
                " of low logits, such as -20, for a class that it does not know"
            )
        return "probabilities"
    sums = f"their sums from {found.low_sum:.4g} to {found.high_sum:.4g}"
    is_shares = found.low >= 0 and abs(found.low_sum - 1) < 1e-2 > abs(found.high_sum - 1)
    if said == "logits":
        if is_shares:
            raise BadNetwork(f"is said to give logits, and {text}, {sums}: probabilities")
        return "logits"
    try:
        scale, _ = classify_range(
            found, classes=channels, dtype="float32", normalise=description.normalise
        )
    except BadMaps:
        raise BadNetwork(
            f"{text}, {sums}: independent sigmoids, or logits; say 'output: logits', or if the"
            " classes exclude each other 'normalise: true'"
        ) from None
    if scale == SOFTMAX and said == "probabilities":
        raise BadNetwork(f"is said to give probabilities, and {text}")
    return "logits" if scale == SOFTMAX else "probabilities"


def named_foreground(names: Sequence[str] | None, classes: Classes) -> int:
    """Return the class that one channel alone is of: the one that is named, else the foreground.

    Raises:
        BadSpec: another name.
    """
    if names is not None:
        if len(names) != 1 or names[0] not in classes.names:
            known = ", ".join(classes.names)
            raise BadSpec(f"class_names {list(names)}; expected the class of one channel: {known}")
        return classes.names.index(names[0])
    return 1 if classes.foreground is None else classes.foreground


def _named_order(names: Sequence[str] | None, channels: int, classes: Classes) -> Order:
    """Return the channel of each class; None for the one that has the rest.

    Raises:
        BadNetwork: names are needed.
        BadSpec: names of other classes, or too few.
    """
    own = classes.names
    if names is None:
        if channels < len(own):
            raise BadNetwork(
                f"outputs {channels} channels of {len(own)} classes; say class_names, in their"
                f" order, of {', '.join(own)}"
            )
        return tuple(range(channels))
    strange = [name for name in names if name not in own]
    if strange or len(set(names)) < len(names) or len(names) != channels:
        found = f"names {strange[0]!r}" if strange else f"has {len(set(names))} names"
        raise BadSpec(f"class_names {found}; expected {channels} of {', '.join(own)}")
    return tuple(names.index(name) if name in names else None for name in own)


def _check_order(report: InspectionReport, classes: Classes, foreground: int | None) -> None:
    """Refuse another order of classes that agreement shows, and say it.

    Raises:
        BadNetwork: there is one.
    """
    if not report.problems:
        return
    own = classes.names
    by_channel = {channel: own[label] for label, channel in enumerate(report.repair.order)}
    names = [by_channel[channel] for channel in range(len(own))]
    if foreground is not None:
        names = [own[1 - foreground]]
    advice = f"say class_names: [{', '.join(names)}] if that is its order, or the order that it has"
    if str(report.repair.orientation):
        advice = "export it with rows before columns, the first row first"
    raise BadNetwork(f"{'; '.join(report.problems)}; {advice}")


def _relabelled(labels: Array, order: Sequence[int | None]) -> Array:
    table = np.full(256, UNLABELLED, np.int32)
    if labels.min() < 0 or labels.max() >= len(order):
        raise BadNetwork(f"outputs labels from {labels.min()} to {labels.max()}")
    for label, channel in enumerate(order):
        if channel is not None:
            table[channel] = label
    return np.asarray(table[labels])


def _with_rest(values: Array) -> Array:
    return np.concatenate([values, 1 - values.sum(axis=1, keepdims=True)], axis=1)


def _probabilities(values: Array, kind: Values) -> Array:
    return to_probabilities(values, SOFTMAX if kind == "logits" else AS_THEY_ARE)


def choose_output(
    results: Mapping[str, Tensor], said: NetworkDescription, size: Size, classes: int
) -> tuple[str, OutputLayout]:
    """Return the output that holds the maps, and its axes.

    Args:
        results: all outputs for one image, by name.
        said: of the network.
        size: of the image.
        classes: of the run.

    Raises:
        BadNetwork: none of them, or several.
    """
    shown = ", ".join(f"{n} {tuple(r.shape)}" for n, r in results.items()) or "nothing"
    if said.key is not None:
        if said.key not in results:
            raise BadNetwork(unknown("output", said.key, results))
        results = {said.key: results[said.key]}
    layouts = {name: _layout_of(result, size, classes) for name, result in results.items()}
    fitting = {name: layout for name, layout in layouts.items() if layout is not None}
    maps = [name for name, layout in fitting.items() if layout != "row col"]
    listed = maps or list(fitting)
    named = [name for name in listed if name in MAPS_KEYS]
    if len(listed) == 1 or len(named) == 1:
        name = listed[0] if len(listed) == 1 else named[0]
        return name, fitting[name]
    if listed:
        raise BadNetwork(f"outputs {shown}; say which holds the maps, such as key: {listed[0]}")
    raise BadNetwork(
        f"outputs {shown} for an image of {size[0]} x {size[1]} pixels; expected maps (1,"
        f" {classes}, row, col) of the run's {classes} classes"
    )


def _layout_of(result: Tensor, size: Size, classes: int) -> OutputLayout | None:
    shape = tuple(result.shape)
    counts = {classes, classes - 1}
    if not result.is_floating_point():
        sides = shape[1:] if len(shape) == 3 else shape[2:] if shape[1:2] == (1,) else ()
        return "row col" if _fits(sides, size) else None
    if len(shape) == 3:
        return "class row col" if classes == 2 and _fits(shape[1:], size) else None
    if len(shape) != 4:
        return None
    if shape[1] in counts and _fits(shape[2:], size):
        return "class row col"
    return "row col class" if shape[3] in counts and _fits(shape[1:3], size) else None


def _fits(sides: Sequence[int], size: Size) -> bool:
    """Return whether an output's sides are the image's, divided by one whole number."""
    if len(sides) != 2 or 0 in sides:
        return False
    factors = {own / given for given, own in zip(sides, size, strict=True)}
    return len(factors) == 1 and min(factors) in range(1, MOST_REDUCED + 1)
