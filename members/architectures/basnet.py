"""BASNet: a deeply supervised residual U-Net predicts, a second network refines the edges."""

from functools import partial
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock, Residual, Width, he_initialise, resized
from members.architectures.unet import UNet
from members.architectures.unet_parts import Decoder, Encoder

MAX_WIDENING = 8  # times the width; the paper's stages 4 to 6 all have 512 = 8 * 64 channels
STRIDED_STAGES = 3  # begin with a strided convolution, those after them with a pooling
REFINE_DEPTH = 4  # halvings of the refinement network


class PredictModule(nn.Module):
    """Images (N, channels, H, W) to features, finest first, the bridge's last."""

    def __init__(self, channels: int, *, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * min(2**level, MAX_WIDENING) for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            [nn.Sequential(ConvBlock(channels, width, convolutions=1), _residuals(width, width))]
        )
        for level, (fine, coarse) in enumerate(pairwise(widths), start=1):
            self.encoder.append(
                _residuals(fine, coarse, stride=2)
                if level <= STRIDED_STAGES
                else nn.Sequential(nn.MaxPool2d(2), _residuals(fine, coarse))
            )
        self.bridge = ConvBlock(widths[-1], widths[-1], convolutions=3, dilation=2)
        outputs = [widths[0], *widths]
        self.decoder = nn.ModuleList(
            ConvBlock(2 * widths[level], outputs[level], convolutions=3)
            for level in range(depth, -1, -1)
        )
        self.widths = [*outputs[:-1], widths[-1]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of each decoder stage and of the bridge."""
        skips, features = [], images
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        decoded = [self.bridge(features)]
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            decoded.append(stage(torch.cat([resized(decoded[-1], skip), skip], dim=1)))
        return decoded[::-1]


class BASNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`.

    Args:
        predict: returns features at several sizes.
        refine: maps coarse logits to a correction that is added to them.
        deep_supervision: whether every stage has logits of its own.
    """

    def __init__(
        self, predict: PredictModule, refine: UNet, *, classes: int, deep_supervision: bool
    ) -> None:
        super().__init__()
        self.stride = 2 ** (len(predict.encoder) - 1)
        self.predict = predict
        self.refine = refine
        widths = predict.widths if deep_supervision else predict.widths[:1]
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, 3, padding=1) for width in widths)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the refined logits; with deep supervision in training, those of all stages too."""
        features = self.predict(images)
        coarse = self.heads[0](features[0])
        refined: Tensor = coarse + self.refine(coarse)
        if not self.training or len(self.heads) == 1:
            return refined
        pairs = zip(self.heads[1:], features[1:], strict=True)
        return (refined, coarse, *(resized(head(stage), images) for head, stage in pairs))


def _residuals(channels: int, width: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Residual(channels, width, stride=stride), Residual(width, width))


def basnet(
    channels: int,
    classes: int,
    *,
    width: Width = 8,
    depth: Annotated[int, Field(ge=1, le=6)] = 5,
    deep_supervision: bool = True,
) -> BASNet:
    """Build a BASNet sized for small images; 1.0 million parameters at width 8.

    The paper's stages have 3, 4, 6, 3, 3 and 3 residual blocks, here 2 each; its hybrid loss is
    set by the recipe's `loss`. In training there are depth + 3 outputs: refined, coarse, then those
    of the coarser stages and of the bridge.

    Args:
        width: channels at full size (64 in the paper); the deepest stages have 8 times as many.
        depth: number of times the image is halved.
        deep_supervision: train logits of every stage.

    References:
        Qin et al., "BASNet: Boundary-Aware Salient Object Detection", 2019.
    """
    halvings = min(depth, REFINE_DEPTH)
    block = partial(ConvBlock, convolutions=1)
    same = [width] * halvings
    refine = UNet(
        Encoder(classes, same, [1] * halvings, block),
        block(width, width),
        Decoder([*same, width], block, up="bilinear"),
        nn.Conv2d(width, classes, 3, padding=1),
    )
    return BASNet(
        PredictModule(channels, width=width, depth=depth),
        refine,
        classes=classes,
        deep_supervision=deep_supervision,
    )
