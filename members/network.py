"""A network as it is trained and used: raw pictures of any size in, logits of the same size out."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.ground.errors import BadData
from evaluation.ground.specs import Spec
from members.architectures import ARCHITECTURES


class Network(nn.Module):
    """An architecture that normalises the grey values itself and pads where its stride asks for it.

    The normalisation is part of the weights, so that whoever loads them needs nothing else.

    Args:
        architecture: the spec.
        channels: of the pictures.
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

    def normalise_as(self, pictures: Tensor) -> None:
        """Take mean and deviation of each channel from training pictures (N, channel, H, W)."""
        values = pictures.float()
        self.mean.copy_(values.mean(dim=(0, 2, 3))[:, None, None])
        self.deviation.copy_(values.std(dim=(0, 2, 3)).clamp_min(1.0)[:, None, None])

    def forward(self, pictures: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, H, W) of pictures (N, channel, H, W) with values 0 to 255.

        In training, an architecture with deep supervision returns several, the main ones first.
        """
        rows, cols = pictures.shape[2:]
        values = (pictures.float() - self.mean) / self.deviation
        values = values.contiguous(memory_format=torch.channels_last)
        down, right = -rows % self.stride, -cols % self.stride
        if down or right:
            values = functional.pad(values, (0, right, 0, down), mode="replicate")
        outputs: Tensor | tuple[Tensor, ...] = self.body(values)
        if isinstance(outputs, tuple):
            return tuple(logits[:, :, :rows, :cols] for logits in outputs)
        return outputs[:, :, :rows, :cols]


def check_size(architecture: str | Spec, rows: int, cols: int) -> None:
    """Refuse pictures smaller than the architecture's stride.

    Raises:
        BadData: too small.
    """
    with torch.device("meta"):
        stride = Network(architecture, channels=1, classes=2).stride
    if min(rows, cols) < stride:
        raise BadData(
            f"pictures are {rows} x {cols}; {architecture} needs at least {stride} x {stride}"
            " pixels: take a smaller depth or larger pictures"
        )
