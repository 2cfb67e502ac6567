"""A network from elsewhere that predicts as a member's own: raw images in, logits per class out."""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.array_headers import DOCUMENT_BYTES
from evaluation.core.errors import BadNetwork
from evaluation.core.files import read_json
from evaluation.core.ragged import Size
from evaluation.core.strict_values import StrictModel
from members.external_networks.runtimes import InputShape, Runtime, open_runtime
from members.network import NormalisedNetwork, load_network_from

READING, MODEL = "network.json", "network"
"""Of a registered network: how it is read, and its file without the suffix."""

Values = Literal["logits", "probabilities", "labels"]
OutputLayout = Literal["class row col", "row col class", "row col"]


class NetworkReading(StrictModel):
    """How a network from elsewhere is run, and what its output means; nothing is left open.

    Args:
        file: name of the network's file.
        architecture: of weights alone.
        channel_order: which channel of the image is each of the network's.
        divisor: that pixels are divided by.
        mean: subtracted after that, per channel.
        std: divided by after that, per channel.
        channels_last: whether the network takes (image, row, col, channel).
        fixed: rows and columns that the network takes, where it takes no others.
        batch: images that it takes at a time, where it takes no other number.
        multiple: rows and columns are padded to a multiple of it, by repeating the edge.
        reduction: by how much the output's sides are smaller than the image's.
        output: name of the output that holds the maps.
        layout: axes of the output of one image.
        values: what the output holds.
        order: the output's channel of each class of the run; None has what the others leave to 1.
        foreground: the class that one channel alone is of.
        trained_on: ids of the images that it was trained on; None is undeclared.
    """

    file: str
    architecture: str | None = None
    channel_order: tuple[Annotated[int, Field(ge=0)], ...]
    divisor: Annotated[float, Field(gt=0)] = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels_last: bool = False
    fixed: Size | None = None
    batch: Annotated[int, Field(ge=1)] | None = None
    multiple: Annotated[int, Field(ge=1, le=1024)] = 1
    reduction: Annotated[int, Field(ge=1)] = 1
    output: str | None = None
    layout: OutputLayout = "class row col"
    values: Values = "logits"
    order: tuple[Annotated[int, Field(ge=0)] | None, ...] = ()
    foreground: Annotated[int, Field(ge=0, le=1)] | None = None
    trained_on: tuple[str, ...] | None = None


class ExternalNetwork(nn.Module):
    """A network from elsewhere with the interface of `members.network.NormalisedNetwork`.

    Args:
        runtime: the opened file.
        reading: how it is run.
        name: what errors call it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, runtime: Runtime, reading: NetworkReading, name: str) -> None:
        super().__init__()
        self.runtime, self.reading, self.name = runtime, reading, name
        channels = len(reading.channel_order)
        for key, values, default in (
            ("mean", reading.mean, 0.0),
            ("std", reading.std, 1.0),
        ):
            listed = values or (default,) * channels
            self.register_buffer(key, torch.tensor(listed, dtype=torch.float32)[:, None, None])

    @property
    def num_parameters(self) -> int | None:
        """Number of trained values; None where the file does not tell."""
        return self.runtime.parameters

    def _apply(self, change: Any, recurse: bool = True) -> "ExternalNetwork":
        super()._apply(change, recurse)  # type: ignore[no-untyped-call]
        self.runtime.to(self.mean.device)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of raw images (N, channel, H, W).

        The softmax of what is returned gives the network's probabilities: of an output of
        probabilities it is their logarithm.

        Raises:
            BadNetwork: images that the network does not take, or an output that holds NaN.
        """
        values = self.outputs(images)
        if self.reading.values == "labels":
            return self._of_labels(values)
        if self.reading.foreground is not None:
            values = self._of_foreground(values)
        elif self.reading.values == "logits":
            values = _take(values, self.reading.order)
        else:
            values = _take_shares(values, self.reading.order)
        return values if self.reading.values == "logits" else _log_shares(values)

    def outputs(self, images: Tensor) -> Tensor:
        """Return the network's own output (N, channel, H, W), or labels (N, H, W).

        Maps of another size are interpolated (bilinear, `align_corners=False`); labels take the
        nearest pixel.

        Raises:
            BadNetwork: see `forward`.
        """
        rows, cols = images.shape[2:]
        values = self.padded(self.normalised(images))
        padded = (values.shape[2], values.shape[3])
        results = arranged(self._chosen(values), self.reading.layout)
        if not torch.isfinite(results).all():
            raise BadNetwork(
                f"{self.name}: outputs hold NaN or infinite values; expected numbers: export it in"
                " float32, and check the input scaling"
            )
        self._check_output(results, padded)
        return _resized(results, padded)[..., :rows, :cols]

    def _check_output(self, results: Tensor, size: Size) -> None:
        """Refuse an output of another size: a traced network may keep that of its example."""
        given, reduction = (results.shape[-2], results.shape[-1]), self.reading.reduction
        if (given[0] * reduction, given[1] * reduction) != size:
            raise BadNetwork(
                f"{self.name}: outputs {given[0]} x {given[1]} pixels for an image of {size[0]} x"
                f" {size[1]}; expected {size[0] // reduction} x {size[1] // reduction}: export it"
                " with rows and columns free, or say tile or size"
            )

    def results(self, values: Tensor) -> dict[str, Tensor]:
        """Return all outputs of normalised images (N, channel, H, W), by name.

        Raises:
            BadNetwork: the network cannot be run on them.
        """
        if self.reading.channels_last:
            values = values.permute(0, 2, 3, 1)
        step = self.reading.batch or max(1, len(values))
        parts = []
        for start in range(0, len(values), step):
            part = values[start : start + step]
            lacking = (self.reading.batch or 0) - len(part)
            if lacking > 0:
                part = torch.cat([part, part[-1:].expand(lacking, *part.shape[1:])])
            try:
                parts.append(self.runtime(part))
            except BadNetwork as error:
                raise BadNetwork(f"{self.name}: {error}") from None
        return {
            name: torch.cat([part[name] for part in parts])[: len(values)]
            for name in parts[0]
            if parts[0][name].dim() > 0
        }

    def normalised(self, images: Tensor) -> Tensor:
        """Return what the network is given, without padding: (N, channel, H, W), float32."""
        order = list(self.reading.channel_order)
        values = images.float()
        if order != list(range(images.shape[1])):
            values = values[:, order]
        if self.reading.divisor != 1:
            values = values / self.reading.divisor
        if self.reading.mean is not None or self.reading.std is not None:
            values = (values - self.mean) / self.std
        return values

    def padded(self, values: Tensor) -> Tensor:
        """Return images padded to a size that the network takes, by repeating their edge."""
        rows, cols = values.shape[2:]
        size = self._input_size((rows, cols))
        if size == (rows, cols):
            return values
        return functional.pad(values, (0, size[1] - cols, 0, size[0] - rows), mode="replicate")

    def _input_size(self, size: Size) -> Size:
        if (fixed := self.reading.fixed) is not None:
            if size[0] > fixed[0] or size[1] > fixed[1]:
                raise BadNetwork(
                    f"{self.name}: takes images of {fixed[0]} x {fixed[1]} pixels alone, and got"
                    f" {size[0]} x {size[1]}; say tile: {fixed[0]}x{fixed[1]} or size:"
                    f" {fixed[0]}x{fixed[1]}"
                )
            return fixed
        return padded_size(size, self.reading.multiple)

    def _chosen(self, values: Tensor) -> Tensor:
        results = self.results(values)
        name = self.reading.output
        if name is None or name not in results:
            known = ", ".join(results) or "none"
            raise BadNetwork(f"{self.name}: no output {name!r}; known: {known}")
        return results[name]

    def _of_labels(self, labels: Tensor) -> Tensor:
        channels = torch.tensor(
            [-1 if channel is None else channel for channel in self.reading.order],
            device=labels.device,
        )
        known = (labels[:, None] == channels[:, None, None]).float()
        if not known.any(dim=1).all():
            raise BadNetwork(
                f"{self.name}: outputs a label without a class; expected 0 to"
                f" {max(int(c) for c in channels)}"
            )
        return known.log()

    def _of_foreground(self, values: Tensor) -> Tensor:
        is_logits = self.reading.values == "logits"
        other = torch.zeros_like(values) if is_logits else 1 - values
        pair = (other, values) if self.reading.foreground else (values, other)
        return torch.cat(pair, dim=1)


def padded_size(size: Size, multiple: int) -> Size:
    """Return rows and columns, rounded up to a multiple.

    Examples:
        >>> padded_size((60, 90), 32)
        (64, 96)
    """
    rows, cols = (-(-side // multiple) * multiple for side in size)
    return rows, cols


def arranged(values: Tensor, layout: OutputLayout) -> Tensor:
    """Return outputs as (N, channel, row, col) in float32, or labels (N, row, col) as integers."""
    if layout == "row col class":
        values = values.permute(0, 3, 1, 2)
    if layout == "row col":
        return (values[:, 0] if values.dim() == 4 else values).long()
    return (values[:, None] if values.dim() == 3 else values).float()


def _resized(values: Tensor, size: Size) -> Tensor:
    given = (values.shape[-2], values.shape[-1])
    if given == size:
        return values
    if values.dim() == 3:
        return functional.interpolate(values[:, None].float(), size, mode="nearest-exact")[
            :, 0
        ].long()
    return functional.interpolate(values, size, mode="bilinear", align_corners=False)


def _take(values: Tensor, order: tuple[int | None, ...]) -> Tensor:
    channels = [channel for channel in order if channel is not None]
    return values if channels == list(range(values.shape[1])) else values[:, channels]


def _take_shares(values: Tensor, order: tuple[int | None, ...]) -> Tensor:
    """Return probabilities per class; one without a channel has what the others leave to 1."""
    values = values.clamp_min(0)
    if None not in order:
        return _take(values, order)
    rest = (1 - values.sum(dim=1, keepdim=True)).clamp_min(0)
    last = values.shape[1]
    return torch.cat([values, rest], dim=1)[:, [last if c is None else c for c in order]]


def _log_shares(values: Tensor) -> Tensor:
    """Return logarithms of probabilities; 0 for all classes of a pixel that has none."""
    values = values.clamp_min(0)
    empty = values.sum(dim=1, keepdim=True) <= 0
    return torch.where(empty, torch.zeros_like(values), values.log())


class _ArchitectureRuntime(Runtime):
    """Weights of a registered architecture, which normalises by itself."""

    def __init__(self, network: NormalisedNetwork) -> None:
        self.network, self.input = network.eval(), InputShape()
        self.parameters: int | None = sum(p.numel() for p in network.parameters())

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits."""
        return {"output": self.network(images)}

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.network.to(device)


def runtime_of(path: Path, architecture: str | None, *, channels: int, classes: int) -> Runtime:
    """Open a network's file.

    Args:
        path: of the file.
        architecture: spec, for weights alone.
        channels: that weights alone take.
        classes: that weights alone give.

    Raises:
        BadNetwork: see `open_runtime`.
        BadRun: weights of another network.
    """
    if architecture is None:
        return open_runtime(path)
    return _ArchitectureRuntime(
        load_network_from(path, architecture, channels=channels, classes=classes)
    )


def load_registered(folder: Path, *, name: str, classes: int) -> ExternalNetwork:
    """Open a network that was registered in a run, or frozen into a package.

    Args:
        folder: with `network.json` and the network's file.
        name: of the member.
        classes: of the run.

    Raises:
        BadNetwork: damaged.
    """
    reading = read_reading(folder)
    if reading.foreground is None and len(reading.order) != classes:
        raise BadNetwork(f"{folder} has {len(reading.order)} classes; expected {classes}")
    runtime = runtime_of(
        folder / reading.file,
        reading.architecture,
        channels=len(reading.channel_order),
        classes=classes,
    )
    return ExternalNetwork(runtime, reading, f"member {name!r}").eval()


def read_reading(folder: Path) -> NetworkReading:
    """Read how a registered network is run.

    Raises:
        BadNetwork: missing or damaged.
    """
    file = folder / READING
    if not file.is_file():
        raise BadNetwork(f"{folder} lacks {READING}; register the network again")
    try:
        reading = NetworkReading.model_validate(read_json(file, DOCUMENT_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise BadNetwork(f"{file}: {key!r}: {first['msg']}; register the network again") from None
    if reading.file != Path(reading.file).name:
        raise BadNetwork(f"{file} names {reading.file!r}; expected a file in its own folder")
    return reading
