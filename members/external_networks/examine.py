"""Find out how a network from elsewhere is run, and what its output means, on some images.

What its file says is read, what images show is inferred and told, and what is left open stops with
the readings that are possible. Output is inspected as imported maps are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evaluation.core.arrays import evenly_spaced
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadMaps, BadNetwork, BadSpec, EnsError
from evaluation.core.ragged import Size, Stack, stack_images
from evaluation.core.types import Array
from members.data.dataset import DataSet
from members.external.inspection import KnownMaps
from members.external.layout_inference import (
    LayoutMatch,
    Orientation,
    agreement_tables,
    infer_layout,
)
from members.external_networks.description import NetworkDescription
from members.external_networks.input_readings import (
    COLOURS,
    InputReading,
    possible_inputs,
    swapped,
)
from members.external_networks.meaning import (
    Meaning,
    SampledOutputs,
    choose_output,
    meaning_of,
    named_foreground,
)
from members.external_networks.network import (
    MODEL,
    ExternalNetwork,
    NetworkReading,
    arranged,
    runtime_of,
)
from members.external_networks.runtimes import Runtime
from members.network import as_tensor
from members.resizing import resized_set

MOST_IMAGES, FEWEST_IMAGES = 64, 8
MOST_PIXELS = 1 << 24
"""Of the images that a network is examined on, unless these are the fewest."""

MOST_VALUES = 1 << 26
"""Of the outputs that are held while they are inspected: every few rows and columns of them."""

TRIED_IMAGES = 16
"""Images that possible readings of the input are compared on."""

MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
ORDER_GAIN = 0.02
"""Of the agreement with the masks, by which the other order of colours must be higher to be asked
for."""

RANGE_GAIN = 0.05
"""Of the same, by which pixels of another range must be better to doubt the one that is said."""


@dataclass(frozen=True)
class Examined:
    """A network whose reading is known.

    Args:
        network: ready to predict.
        notes: what was inferred, and what it does on one image.
    """

    network: ExternalNetwork
    notes: tuple[str, ...]


def examine(
    name: str,
    description: NetworkDescription,
    data: DataSet,
    *,
    trained_on: tuple[str, ...] | None = None,
) -> Examined:
    """Open a network and find out how it is run and read.

    Args:
        name: of the member.
        description: its file, and what is said about it.
        data: images of the run, with masks where there are any.
        trained_on: ids of the images that it was trained on, None if undeclared.

    Raises:
        BadNetwork: it cannot be run on the images, its output is no maps of the run's classes, or
            more than one reading is possible; names the member.
        BadSpec: what is said does not fit the network or the images.
    """
    try:
        return _Examination(name, description, _sample(data, description), trained_on).result()
    except EnsError as error:
        kind = BadNetwork if isinstance(error, BadMaps) else type(error)
        raise kind(f"network {name!r}: {error}") from None


def _sample(data: DataSet, description: NetworkDescription) -> DataSet:
    """Return some of the images, as the network is given them: resized, or one tile of each."""
    largest = max(rows * cols for _, (rows, cols) in data.extent.runs)
    count = min(MOST_IMAGES, max(FEWEST_IMAGES, MOST_PIXELS // largest), len(data))
    sample = data.take(np.array(evenly_spaced(len(data), count)))
    if description.size is not None:
        if sample.masks is None:
            raise BadSpec("'size' of a network is examined on labelled images; the set has none")
        sample = resized_set(sample, description.size, description.fit)
    if description.tile is not None:
        sample = _first_tiles(sample, description.tile)
    return sample


def _first_tiles(data: DataSet, tile: Size) -> DataSet:
    def cut(stack: Stack) -> Stack:
        return stack_images([np.asarray(image)[..., : tile[0], : tile[1]] for image in stack])

    return replace(
        data, images=cut(data.images), masks=None if data.masks is None else cut(data.masks)
    )


@dataclass(frozen=True)
class _Examination:
    name: str
    said: NetworkDescription
    data: DataSet
    trained_on: tuple[str, ...] | None

    @property
    def classes(self) -> Classes:
        return self.data.classes

    @cached_property
    def step(self) -> int:
        """Of the rows and columns that are compared."""
        values = self.data.extent.pixels * len(self.classes)
        return math.ceil(math.sqrt(max(1.0, values / MOST_VALUES)))

    @cached_property
    def runtime(self) -> Runtime:
        if self.said.path.suffix.lower() == ".safetensors" and self.said.architecture is None:
            raise BadSpec(f"{self.said.file} holds weights alone; say its 'architecture'")
        return runtime_of(
            self.said.path,
            self.said.architecture,
            channels=len(self.said.channel_order or range(self.data.channels)),
            classes=len(self.classes),
        )

    def result(self) -> Examined:
        """Return the network with its reading."""
        inputs = possible_inputs(
            self.said,
            str(self.data.images.dtype),
            self._num_channels,
            takes_bytes=self.runtime.input.dtype == "uint8",
        )
        reading = self._with_shapes(inputs[0].apply(self._frame()))
        chosen = self._choose_input(inputs, reading)
        reading = chosen.apply(reading)
        outputs = self._outputs(reading, range(len(self.data)))
        meaning = meaning_of(outputs, self.said, self.classes, self._known())
        update = {name: getattr(meaning, name) for name in ("values", "order", "foreground")}
        network = self._network(reading.model_copy(update=update))
        notes = self._notes(network.reading, chosen, meaning)
        doubts = self._doubts(reading, chosen)
        return Examined(network, (*notes, *doubts, self._shown(network)))

    def _frame(self) -> NetworkReading:
        """Return what the file says about its input."""
        sides = self.runtime.input.sides
        last = self._channels_last
        fixed = (sides[1], sides[2]) if last else (sides[2], sides[3])
        if None in fixed and any(fixed):
            raise BadNetwork(
                f"takes images of {_shape_text(sides)}; expected rows and columns free"
            )
        if fixed[0] is not None and fixed[1] is not None:
            self._check_fixed((fixed[0], fixed[1]))
        return NetworkReading(
            file=f"{MODEL}{self.said.path.suffix.lower()}",
            architecture=self.said.architecture,
            channel_order=tuple(range(self._num_channels)),
            channels_last=last,
            fixed=None if fixed[0] is None else fixed,
            batch=sides[0],
            trained_on=self.trained_on,
        )

    @property
    def _channels_last(self) -> bool:
        """Whether the network takes (image, row, col, channel)."""
        sides, own = self.runtime.input.sides, self.data.channels
        if sides[1] == own or sides[1] in (1, COLOURS):
            return False
        return sides[3] == own or sides[3] in (1, COLOURS)

    @property
    def _num_channels(self) -> int:
        """Number of channels that the network takes; the images' where it does not say."""
        said = self.said.channel_order
        takes = self.runtime.input.sides[3 if self._channels_last else 1]
        own = self.data.channels
        if said is None:
            if takes is not None and takes != own:
                raise BadNetwork(
                    f"takes images of {takes} channels; the run's have {own}: say channel_order,"
                    f" such as {[min(c, own - 1) for c in range(takes)]}, the image's channel of"
                    " each"
                )
            return own
        if takes is not None and takes != len(said):
            raise BadNetwork(f"takes images of {takes} channels; channel_order names {len(said)}")
        if max(said) >= own:
            raise BadSpec(f"channel_order names channel {max(said)}; the images have {own}")
        return len(said)

    def _check_fixed(self, fixed: Size) -> None:
        """Refuse to guess what becomes of images that are larger or smaller than the network's.

        Raises:
            BadNetwork: there are such images, and nothing is said.
        """
        sizes = {size for _, size in self.data.extent.runs}
        if sizes == {fixed} or self.said.tile == fixed:
            return
        text = f"{fixed[0]}x{fixed[1]}"
        rows, cols = next(size for size in sizes if size != fixed)
        raise BadNetwork(
            f"takes images of {fixed[0]} x {fixed[1]} pixels alone, and the run has {rows} x"
            f" {cols}: say 'tile: {text}' to cut and pad them, or 'size: {text}' to resize them"
        )

    def _choose_input(
        self, inputs: Sequence[InputReading], reading: NetworkReading
    ) -> InputReading:
        """Return the way that is said; stop where there are several.

        Raises:
            BadNetwork: several ways, with how well each agrees with the masks.
        """
        asked = self.said.channel_order is not None or len(inputs[0].order) != COLOURS
        turned = [] if asked or self.said.architecture else [swapped(one) for one in inputs]
        if len(inputs) == 1 and not turned:
            return inputs[0]
        matches = {one.words: self._agreement(one.apply(reading)) for one in [*inputs, *turned]}
        if len(inputs) == 1:
            # In the order of classes that is said: another one may look like other colours.
            pair = [matches[one.words] for one in (inputs[0], turned[0])]
            own, other = (None if match is None else match.plain for match in pair)
            if own is None or other is None or other <= own + ORDER_GAIN:
                return inputs[0]
            raise BadNetwork(
                f"colours in the order bgr agree with the masks in {other:.2f} of each class's"
                f" pixels, in the order rgb in {own:.2f}: say channel_order, rgb or bgr"
            )
        scores = {w: None if match is None else match.accuracy for w, match in matches.items()}
        best = sorted(scores, key=lambda words: -(scores[words] or 0))
        shown = [
            f"'{words}'" + ("" if scores[words] is None else f" ({scores[words]:.2f})")
            for words in best
        ]
        how = "" if scores[best[0]] is None else ", with the agreement with each class's pixels"
        raise BadNetwork(
            f"its file does not say how pixels are scaled; say one of{how}: {', '.join(shown)}"
        )

    def _doubts(self, reading: NetworkReading, chosen: InputReading) -> tuple[str, ...]:
        """Say which other range of pixels agrees clearly better with the masks than that said."""
        if self.said.input_range is None or self._known() is None:
            return ()
        others = possible_inputs(
            self.said.model_copy(update={"input_range": None}),
            str(self.data.images.dtype),
            self._num_channels,
            takes_bytes=self.runtime.input.dtype == "uint8",
        )
        matches = {one.words: self._agreement(one.apply(reading)) for one in [chosen, *others]}
        scores = {
            words: float(np.nan_to_num(match.plain))
            for words, match in matches.items()
            if match is not None
        }
        if not scores:
            return ()
        own, best = scores.get(chosen.words, 0.0), max(scores, key=lambda words: scores[words])
        if scores[best] <= own + RANGE_GAIN:
            return ()
        doubt = (
            f"warning: with '{best}' it agrees with the masks in {scores[best]:.2f} of each class's"
            f" pixels, as said in {own:.2f}"
        )
        return (doubt,)

    def _agreement(self, reading: NetworkReading) -> LayoutMatch | None:
        """Return how well the network's labels agree with the masks; None where nothing tells."""
        known = self._known()
        if known is None:
            return None
        chosen = evenly_spaced(len(self.data), TRIED_IMAGES)
        try:
            outputs = self._outputs(reading, chosen)
        except EnsError:
            return None
        own, names = self.classes.names, self.said.class_names or self.classes.names
        table = np.array([own.index(name) if name in own else len(own) for name in names])
        if outputs.size[1:-2] == (1,):
            foreground = named_foreground(self.said.class_names, self.classes)
            table = np.array([1 - foreground, foreground])
        labels = [_labels(image) for image in outputs.images]
        if max(int(image.max()) for image in labels) >= len(table):
            return None
        labels = [table[image] for image in labels]
        if max(int(image.max()) for image in labels) >= len(self.classes):
            return None
        tables = agreement_tables(
            lambda of: np.stack([labels[i] for i in of]),
            lambda of: known.labels(np.array(chosen)[of]),
            [Orientation()],
            images=len(labels),
            one_size=False,
            channels=len(self.classes),
            classes=len(self.classes),
        )
        return infer_layout(tables)

    def _known(self) -> KnownMaps | None:
        if self.data.masks is None:
            return None
        target, ignore = self.data.target(), self.classes.ignore

        def labels(indices: Array) -> Array:
            found = np.asarray(target[np.asarray(indices)])[:, :: self.step, :: self.step]
            return found if ignore is None else np.where(found == ignore, UNLABELLED, found)

        return KnownMaps("the masks", labels)

    def _network(self, reading: NetworkReading) -> ExternalNetwork:
        return ExternalNetwork(self.runtime, reading, f"member {self.name!r}").eval()

    def _batch(self, index: int) -> Tensor:
        """Return one image."""
        return as_tensor(np.asarray(self.data.images[index])[None])

    def _with_shapes(self, reading: NetworkReading) -> NetworkReading:
        """Add what running an image of each size shows: the multiple, the output, its axes.

        Raises:
            BadNetwork: the network does not run on one, or its output is no maps of the classes.
        """
        firsts = {size: index for index, size in reversed(list(enumerate(self.data.extent.sizes)))}
        if self.said.multiple is not None:
            reading = reading.model_copy(update={"multiple": self.said.multiple})
        for index in firsts.values():
            reading = self._fitted(reading, index)
        return reading

    def _fitted(self, reading: NetworkReading, index: int) -> NetworkReading:
        image = self._batch(index)
        is_open = self.said.multiple is None and reading.fixed is None
        problem: EnsError | None = None
        for multiple in [m for m in MULTIPLES if m >= reading.multiple or not is_open]:
            if is_open:
                reading = reading.model_copy(update={"multiple": multiple})
            network = self._network(reading)
            values = network.padded(network.normalised(image))
            try:
                with torch.inference_mode():
                    results = network.results(values)
                size = (values.shape[2], values.shape[3])
                name, layout = choose_output(results, self.said, size, len(self.classes))
            except BadNetwork as error:
                problem = problem or error
                if not is_open:
                    break
                continue
            sides = arranged(results[name], layout).shape[-2:]
            update = {"output": name, "layout": layout, "reduction": size[0] // sides[0]}
            reading = reading.model_copy(update=update)
            self._check_follows(reading, values)
            return reading
        assert problem is not None
        raise problem

    def _check_follows(self, reading: NetworkReading, values: Tensor) -> None:
        """Refuse an output that keeps its size while the image grows.

        A traced network may cut its output to the size of its example, which then looks like an
        output at half the scale.

        Raises:
            BadNetwork: it does.
        """
        if reading.fixed is not None or reading.reduction == 1:
            return
        more = math.lcm(reading.multiple, reading.reduction)
        larger = functional.pad(values, (0, more, 0, more), mode="replicate")
        with torch.inference_mode():
            results = self._network(reading).results(larger)[str(reading.output)]
        sides = arranged(results, reading.layout).shape[-2:]
        if tuple(side * reading.reduction for side in sides) != tuple(larger.shape[2:]):
            raise BadNetwork(
                f"outputs {sides[0]} x {sides[1]} pixels whatever the image's size; export it with"
                " rows and columns free, or say 'tile' or 'size' of its example"
            )

    def _outputs(self, reading: NetworkReading, indices: Sequence[int]) -> SampledOutputs:
        network, images = self._network(reading), []
        for index in indices:
            with torch.inference_mode():
                found = network.outputs(self._batch(index))[0].numpy()
            found = np.array(found[..., :: self.step, :: self.step])
            images.append(found.astype(np.int32) if reading.layout == "row col" else found)
        return SampledOutputs(tuple(images), tuple(self.data.ids[i] for i in indices))

    def _notes(
        self, reading: NetworkReading, chosen: InputReading, meaning: Meaning
    ) -> tuple[str, ...]:
        """Return what was read and inferred, in words."""
        count, names = self.runtime.parameters, self.classes.names
        kind = self.said.path.suffix.lower().removeprefix(".")
        takes = [chosen.words, f"channels {list(reading.channel_order)} of the image"]
        if reading.mean is not None or reading.std is not None:
            takes.append("mean and std as said")
        if reading.fixed is not None:
            takes.append(f"{reading.fixed[0]} x {reading.fixed[1]} pixels alone")
        elif reading.multiple > 1:
            takes.append(f"sides padded to a multiple of {reading.multiple}")
        if reading.channels_last:
            takes.append("channels last")
        low, high = meaning.range.low, meaning.range.high
        gives = f"output {reading.output!r}: {reading.values}, from {low:.3g} to {high:.3g}"
        if reading.foreground is not None:
            gives += f", of {names[reading.foreground]!r}"
        else:
            order = ", ".join("the rest" if c is None else str(c) for c in reading.order)
            gives += f"; {', '.join(names)} are channels {order}"
        undeclared = "undeclared: it is not known which images it was trained on (trained_on)"
        size = "" if count is None else f", {count / 1e6:.2f} M parameters"
        return (
            f"{kind}{size}: takes {', '.join(takes)}",
            gives,
            *meaning.notes,
            *([undeclared] if reading.trained_on is None else []),
        )

    def _shown(self, network: ExternalNetwork) -> str:
        """Return what the network says of the image whose mask holds the most classes."""
        known, index = self._known(), 0
        if known is not None:
            masks = [known.labels(np.array([i]))[0] for i in range(len(self.data))]
            index = max(range(len(masks)), key=lambda i: len(np.unique(masks[i])))
        with torch.inference_mode():
            labels = network(self._batch(index)).argmax(dim=1)[0].numpy()
        labels = labels[:: self.step, :: self.step]
        shares = np.bincount(labels.ravel(), minlength=len(self.classes)) / labels.size
        most = sorted(range(len(shares)), key=lambda label: -shares[label])[:COLOURS]
        parts = [f"{self.classes.names[label]} {shares[label]:.0%}" for label in most]
        text = f"image {self.data.ids[index]!r}: {', '.join(parts)}"
        if known is None or not (masks[index] != UNLABELLED).any():
            return text
        right = (labels == masks[index])[masks[index] != UNLABELLED].mean()
        return f"{text}; {right:.2f} of its labelled pixels as in the mask"


def _labels(image: Array) -> Array:
    """Return labels of an image's output, whatever its values are."""
    if image.ndim == 2:
        return image
    if len(image) > 1:
        return np.asarray(image.argmax(axis=0))
    return np.asarray(image[0] > (0 if image.min() < 0 else 0.5), np.int64)


def _shape_text(sides: Sequence[int | None]) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in sides)})"
