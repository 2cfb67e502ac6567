"""Networks with normalisation and padding, and loading their weights from untrusted files."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.errors import BadData, BadRun, BadSpec
from evaluation.core.ragged import Extent
from evaluation.core.specs import Spec
from evaluation.core.types import Array
from members.architectures import ARCHITECTURES


class NormalisedNetwork(nn.Module):
    """An architecture that normalises raw images, and pads them to a multiple of its stride.

    Mean and deviation are buffers, so they are part of the weights.

    Args:
        architecture: spec.
        channels: of the images.
        classes: number of logits per pixel.

    Examples:
        >>> network = NormalisedNetwork("unet(width=2, depth=2)", channels=1, classes=3)
        >>> network(torch.zeros(1, 1, 10, 13).byte()).shape
        torch.Size([1, 3, 10, 13])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: str | Spec, *, channels: int, classes: int) -> None:
        super().__init__()
        self.body = ARCHITECTURES.build(architecture, channels=channels, classes=classes)
        self.stride: int = self.body.stride
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    @property
    def smallest_batch(self) -> int:
        """Number of images that a training step needs: 2 with torch's own batch normalisation.

        That refuses a single value per channel, which deep levels of small images have.
        """
        own = (type(module) for module in self.body.modules())
        return 2 if any(kind in (nn.BatchNorm2d, nn.SyncBatchNorm) for kind in own) else 1

    def fit_normalisation(self, parts: Iterable[Tensor]) -> None:
        """Set mean and deviation of each channel to those of images.

        The deviation is at least 1 for images of 8 bits, so that constant ones are not blown up.

        Args:
            parts: (N, channel, H, W) each, such as blocks that are read one by one; sums are kept
                in float64.

        References:
            Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance", 1983, for the
            sums of squares of parts.
        """
        count, mean, squares, smallest = 0, torch.zeros(()), torch.zeros(()), 1e-6
        for images in parts:
            values = images.transpose(0, 1).flatten(1).double()
            added, own_mean = values.shape[1], values.mean(dim=1)
            shift = own_mean - mean
            total = count + added
            squares = squares + ((values - own_mean[:, None]) ** 2).sum(dim=1)
            squares = squares + shift**2 * (count * added / total)
            mean, count = mean + shift * (added / total), total
            smallest = 1.0 if images.dtype == torch.uint8 else 1e-6
        deviation = (squares / max(1, count - 1)).sqrt()
        self.mean.copy_(mean[:, None, None])
        self.deviation.copy_(deviation.clamp_min(smallest)[:, None, None])

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, H, W) of images (N, channel, H, W).

        In training, an architecture with deep supervision returns several, the main output first.
        """
        rows, cols = images.shape[2:]
        values = (images.float() - self.mean) / self.deviation
        values = values.contiguous(memory_format=torch.channels_last)
        down, right = -rows % self.stride, -cols % self.stride
        if down or right:
            values = functional.pad(values, (0, right, 0, down), mode="replicate")
        outputs: Tensor | tuple[Tensor, ...] = self.body(values)
        if isinstance(outputs, tuple):
            return tuple(logits[:, :, :rows, :cols] for logits in outputs)
        return outputs[:, :, :rows, :cols]


def as_tensor(images: Array) -> Tensor:
    """Return an array as a tensor; 16 bits become float32, which holds them exactly.

    What is read-only, as images of a file are, is copied: torch has no such tensors.
    """
    if images.dtype == np.uint16:
        images = images.astype(np.float32)
    return torch.from_numpy(np.require(images, requirements=("C", "W")))


def check_size(architecture: str | Spec, extent: Extent) -> None:
    """Check that no image is smaller than the architecture's stride.

    Raises:
        BadData: they are.
    """
    with torch.device("meta"):
        stride = NormalisedNetwork(architecture, channels=1, classes=2).stride
    for _, (rows, cols) in extent.runs:
        if min(rows, cols) < stride:
            raise BadData(
                f"images are {rows} x {cols}; {architecture} needs at least {stride} x {stride}"
                " pixels: use a smaller depth or larger images"
            )


HEADER_BYTES = 1 << 22
"""About forty thousand tensors; the safetensors format allows 100 MB."""

Weights = Mapping[str, Tensor]


def load_network_from(
    path: Path, architecture: str | Spec, *, channels: int, classes: int
) -> NormalisedNetwork:
    """Build a network with the weights in a `.safetensors` file.

    The weights are checked against a network on the meta device before memory is allocated, since
    file and spec may come from an untrusted source.

    Raises:
        BadRun: damaged, of another network, or not finite.
    """
    try:
        weights = _read(path)
        with torch.device("meta"):
            planned = NormalisedNetwork(
                architecture, channels=channels, classes=classes
            ).state_dict()
        _check(weights, planned)
        network = NormalisedNetwork(architecture, channels=channels, classes=classes)
        network.load_state_dict(weights)
    except (OSError, RuntimeError, TypeError, ValueError, SafetensorError, BadSpec) as error:
        reason = str(error).splitlines()[0]
        raise BadRun(f"{path} cannot be used ({reason}); remove it and train again") from None
    return network


def _read(path: Path) -> Weights:
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) < 8:
        raise ValueError("no header")
    (length,) = struct.unpack("<Q", start)
    if length > HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes; expected {HEADER_BYTES} at most")
    return load_file(path)


def _check(weights: Weights, planned: Weights) -> None:
    lacking, unknown = (sorted(a.keys() - b) for a, b in ((planned, weights), (weights, planned)))
    if lacking or unknown:
        difference = f"lacks {lacking[0]!r}" if lacking else f"contains unknown {unknown[0]!r}"
        raise ValueError(f"of another network: {difference}")
    for name, values in weights.items():
        expected = planned[name]
        if (values.shape, values.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"of another network: {name!r} is {values.dtype} of shape {tuple(values.shape)},"
                f" expected {expected.dtype} of shape {tuple(expected.shape)}"
            )
        if not torch.isfinite(values).all():
            raise ValueError(f"{name!r} contains NaN or infinite weights")
