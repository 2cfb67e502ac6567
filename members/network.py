"""A network as it is trained and used: raw images of any size in, logits of the same size out.

Weights from anybody: held against the network they are for before memory is taken.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.errors import BadData, BadRun, BadSpec
from evaluation.core.specs import Spec
from members.architectures import ARCHITECTURES


class NormalisedNetwork(nn.Module):
    """An architecture that normalises the grey values itself and pads where its stride asks for it.

    The normalisation is part of the weights, so that whoever loads them needs nothing else.

    Args:
        architecture: the spec.
        channels: of the images.
        classes: how many logits a pixel.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: str | Spec, *, channels: int, classes: int) -> None:
        super().__init__()
        self.body = ARCHITECTURES.build(architecture, channels=channels, classes=classes)
        self.stride: int = self.body.stride
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    def normalise_as(self, images: Tensor) -> None:
        """Take mean and deviation of each channel from training images (N, channel, H, W)."""
        values = images.float()
        self.mean.copy_(values.mean(dim=(0, 2, 3))[:, None, None])
        self.deviation.copy_(values.std(dim=(0, 2, 3)).clamp_min(1.0)[:, None, None])

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, H, W) of images (N, channel, H, W) with values 0 to 255.

        In training, an architecture with deep supervision returns several, the main ones first.
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


def check_size(architecture: str | Spec, rows: int, cols: int) -> None:
    """Refuse images smaller than the architecture's stride.

    Raises:
        BadData: too small.
    """
    with torch.device("meta"):
        stride = NormalisedNetwork(architecture, channels=1, classes=2).stride
    if min(rows, cols) < stride:
        raise BadData(
            f"images are {rows} x {cols}; {architecture} needs at least {stride} x {stride}"
            " pixels: take a smaller depth or larger images"
        )


HEADER_BYTES = 1 << 22
"""Some forty thousand tensors; the file's format itself allows 100 MB."""

Weights = Mapping[str, Tensor]


def load_network_from(
    path: Path, architecture: str | Spec, *, channels: int, classes: int
) -> NormalisedNetwork:
    """Build a network with the weights in a file.

    The network is laid out without memory first, since its spec comes from the same stranger.

    Args:
        path: of the `.safetensors`.
        architecture: the spec.
        channels: of the images.
        classes: how many logits a pixel.

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
        found = f"lacks {lacking[0]!r}" if lacking else f"holds {unknown[0]!r}, which it has not"
        raise ValueError(f"of another network: {found}")
    for name, values in weights.items():
        expected = planned[name]
        if (values.shape, values.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"of another network: {name!r} is {values.dtype} of shape {tuple(values.shape)},"
                f" expected {expected.dtype} of shape {tuple(expected.shape)}"
            )
        if not torch.isfinite(values).all():
            raise ValueError(f"{name!r} holds NaN or infinite weights")
