"""BASNet: predict with a deeply supervised residual U-Net, then refine the prediction's edges."""

from functools import partial
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock, Residual, he_initialise, resized
from members.architectures.unet import UNet
from members.architectures.unet_parts import Decoder, Encoder

WIDEST = 8  # times the width; the paper's stages 4 to 6 all have 512 = 8 * 64 channels
STRIDED = 3  # stages that begin with a strided convolution; a pooling begins those after them
REFINING = 4  # halvings of the refining network


class Predicting(nn.Module):
    """Images (N, channels, H, W) to features, the finest first, the bridge's last.

    Args:
        channels: of the images.
        width: channels at full size.
        depth: how often the image is halved.
    """

    def __init__(self, channels: int, *, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * min(2**level, WIDEST) for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            [nn.Sequential(ConvBlock(channels, width, convolutions=1), _residuals(width, width))]
        )
        for level, (fine, coarse) in enumerate(pairwise(widths), start=1):
            self.encoder.append(
                _residuals(fine, coarse, stride=2)
                if level <= STRIDED
                else nn.Sequential(nn.MaxPool2d(2), _residuals(fine, coarse))
            )
        self.bridge = ConvBlock(widths[-1], widths[-1], convolutions=3, dilation=2)
        targets = [widths[0], *widths]
        self.decoder = nn.ModuleList(
            ConvBlock(2 * widths[level], targets[level], convolutions=3)
            for level in range(depth, -1, -1)
        )
        self.widths = [*targets[:-1], widths[-1]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return what each stage of the decoder finds, and the bridge."""
        skips, features = [], images
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        found = [self.bridge(features)]
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            found.append(stage(torch.cat([resized(found[-1], skip), skip], dim=1)))
        return found[::-1]


class BASNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`.

    Args:
        predicting: gives features at several sizes.
        refining: from coarse logits to what is to be added to them.
        classes: how many logits a pixel.
        deep_supervision: whether every stage has logits of its own.
    """

    def __init__(
        self, predicting: Predicting, refining: UNet, *, classes: int, deep_supervision: bool
    ) -> None:
        super().__init__()
        self.stride = 2 ** (len(predicting.encoder) - 1)
        self.predicting = predicting
        self.refining = refining
        widths = predicting.widths if deep_supervision else predicting.widths[:1]
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, 3, padding=1) for width in widths)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the refined logits; with deep supervision in training, all stages' after them."""
        found = self.predicting(images)
        coarse = self.heads[0](found[0])
        refined: Tensor = coarse + self.refining(coarse)
        if not self.training or len(self.heads) == 1:
            return refined
        pairs = zip(self.heads[1:], found[1:], strict=True)
        return (refined, coarse, *(resized(head(each), images) for head, each in pairs))


def _residuals(channels: int, width: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Residual(channels, width, stride=stride), Residual(width, width))


def basnet(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 8,
    depth: Annotated[int, Field(ge=1, le=6)] = 5,
    deep_supervision: bool = True,
) -> BASNet:
    """Build a BASNet sized for small images; 1.0 million parameters at width 8.

    The paper's stages have 3, 4, 6, 3, 3 and 3 residual blocks, here 2 each; the hybrid loss of
    the paper is a choice of loss, not of network. Images (N, channels, H, W) to logits
    (N, classes, H, W); in training, depth + 3 of them: refined, coarse, then those of the coarser
    stages and of the bridge.

    Args:
        channels: of the images.
        classes: how many logits a pixel.
        width: channels at full size (64 in the paper); the deepest stages have 8 times as many.
        depth: how often the image is halved.
        deep_supervision: train logits of every stage.

    Source: Qin et al., "BASNet: Boundary-Aware Salient Object Detection", 2019.
    """
    halvings = min(depth, REFINING)
    block = partial(ConvBlock, convolutions=1)
    same = [width] * halvings
    refining = UNet(
        Encoder(classes, same, [1] * halvings, block),
        block(width, width),
        Decoder([*same, width], block, up="bilinear"),
        nn.Conv2d(width, classes, 3, padding=1),
    )
    return BASNet(
        Predicting(channels, width=width, depth=depth),
        refining,
        classes=classes,
        deep_supervision=deep_supervision,
    )
