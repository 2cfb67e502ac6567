"""Stacking by a small convolutional network: what members say around a pixel counts too."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy, pad

from ensemble.fusion import (
    SMALLEST,
    Blocks,
    Fusion,
    LearnedFusion,
    TrainingBlock,
)
from ensemble.pixel_context import Shades, grey
from ensemble.sampling import ImageSample, sample_images
from ensemble.strategies.stacking import Labelled, scored_classes
from evaluation.core.types import (
    Array,
    Images,
    Map,
    Maps,
)

BATCH = 4
WARM_UP = 0.1
NOT_SCORED = -100

Features = Float[np.ndarray, "image feature row col"]
PerWidth = Float[np.ndarray, "width"]
PerScored = Float[np.ndarray, "scored"]


def stacking_conv(
    classes: int,
    ignore: int | None,
    *,
    width: Annotated[int, Field(ge=1)] = 16,
    steps: Annotated[int, Field(ge=1)] = 600,
    rate: Annotated[float, Field(gt=0)] = 5e-3,
    intensity: bool = False,
    sample_pixels: Annotated[int, Field(ge=1)] = 1_600_000,
    floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> LearnedFusion:
    """Learn a network of three layers over the log-probabilities of all members.

    The first layer mixes members pixel by pixel, the two others look at 5x5 pixels; beyond the
    border the outermost pixels go on. What it gives is added to the geometric mean, with which it
    starts. It learns with masked cross-entropy on one core of the processor.

    As by `stacking`, the ignored class gets probability 0 everywhere.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from.
        width: channels between the layers.
        steps: how many batches of 4 images it learns from.
        rate: the highest learning rate; it rises first and falls to 0 (one cycle).
        intensity: whether the image's grey value is a channel too.
        sample_pixels: as many images are drawn as have about so many pixels; kept as float16.
        floor: probabilities below this are raised to it before the logarithm.
        seed: of the draw of images, the start and the order.
    """

    def features(block: TrainingBlock) -> Features:
        return _features(block.maps, grey(block.images) if intensity else None, floor)

    def fit(blocks: Blocks) -> Fusion:
        drawn = sample_images(
            blocks, features, classes=classes, ignore=ignore, pixels=sample_pixels, seed=seed
        )
        scored = scored_classes(drawn.counts, ignore, "stacking_conv")
        with threadpool_limits(1):
            layers = _trained(drawn, scored, classes, (width, steps, rate, seed))
        mix, mix_bias, inner, inner_bias, outer, outer_bias = layers
        network = (mix, mix_bias, inner, inner_bias, outer, outer_bias)
        return StackingConv(*network, scored, floor, int(intensity))

    return LearnedFusion(fit, needs_images=intensity)


@dataclass(frozen=True)
class StackingConv:
    """A softmax over the geometric mean plus a network's word.

    Args:
        mix: the first layer, for features as they come.
        mix_bias: of the first layer.
        inner: the second layer.
        inner_bias: of the second layer.
        outer: the third layer.
        outer_bias: of the third layer.
        scored: the labels of the scored classes; others get probability 0.
        floor: probabilities below this are raised to it.
        intensity: 1 where the image is looked at, else 0.
    """

    mix: Float[np.ndarray, "width feature 1 1"]
    mix_bias: PerWidth
    inner: Float[np.ndarray, "width width 3 3"]
    inner_bias: PerWidth
    outer: Float[np.ndarray, "scored width 3 3"]
    outer_bias: PerScored
    scored: Labelled
    floor: float
    intensity: int

    @property
    def needs_images(self) -> bool:
        """Whether the grey value is a channel."""
        return bool(self.intensity)

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Fuse image by image, since a sum may round otherwise in a larger batch."""
        layers = (self.mix, self.mix_bias, self.inner, self.inner_bias)
        tensors = [torch.from_numpy(a) for a in (*layers, self.outer, self.outer_bias)]
        fused: Map = np.zeros(maps.shape[1:], np.float32)
        shades = grey(images) if self.intensity else None
        # Threads inside so small a convolution wait for each other more than they work.
        with torch.inference_mode(), threadpool_limits(1, user_api="openmp"):
            for place in range(len(fused)):
                one = slice(place, place + 1)
                shade = None if shades is None else shades[one]
                logs = torch.from_numpy(_features(maps[:, one], shade, self.floor))
                logits = _logits(logs, tensors, self.scored, maps.shape[2])
                fused[place, self.scored] = logits.softmax(dim=1)[0].numpy()
        return fused


def _features(maps: Maps, shades: Shades | None, floor: float) -> Features:
    members, count, classes, rows, cols = maps.shape
    more = 0 if shades is None else 1
    found: Features = np.empty((count, members * classes + more, rows, cols), np.float32)
    logs = found[:, : members * classes].reshape(count, members, classes, rows, cols)
    np.log(np.maximum(maps.swapaxes(0, 1), np.float32(floor)), out=logs)
    if shades is not None:
        found[:, -1] = shades
    return found


def _logits(features: Tensor, layers: list[Tensor], scored: Labelled, classes: int) -> Tensor:
    mix, mix_bias, inner, inner_bias, outer, outer_bias = layers
    members = features.shape[1] // classes
    logs = features[:, : members * classes].reshape(-1, members, classes, *features.shape[2:])
    pooled = logs.mean(dim=1)[:, torch.from_numpy(scored)]
    hidden = conv2d(features, mix, mix_bias).relu()
    hidden = conv2d(_padded(hidden), inner, inner_bias).relu()
    return pooled + conv2d(_padded(hidden), outer, outer_bias)


def _padded(hidden: Tensor) -> Tensor:
    padded: Tensor = pad(hidden, (1, 1, 1, 1), mode="replicate")
    return padded


def _trained(
    drawn: ImageSample, scored: Labelled, classes: int, how: tuple[int, int, float, int]
) -> list[Array]:
    width, steps, rate, seed = how
    generator = torch.Generator().manual_seed(seed)
    layers = _start(drawn, len(scored), width, generator)
    place = np.full(256, NOT_SCORED)
    place[scored] = np.arange(len(scored))
    features, target = torch.from_numpy(drawn.features), torch.from_numpy(place[drawn.target])
    optimizer = torch.optim.AdamW(layers, lr=rate, weight_decay=1e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps + 1, pct_start=WARM_UP
    )
    for chosen in islice(_batches(len(target), generator), steps):
        logits = _logits(features[chosen].float(), layers, scored, classes)
        loss = cross_entropy(logits, target[chosen], ignore_index=NOT_SCORED)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        cycle.step()
    return [layer.detach().numpy() for layer in layers]


def _batches(images: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.split(torch.randperm(images, generator=generator), BATCH)


def _start(drawn: ImageSample, scored: int, width: int, generator: torch.Generator) -> list[Tensor]:
    """Return layers that say nothing yet; the first is drawn for centred features of spread 1."""
    found = drawn.features
    centre = torch.from_numpy(found.mean(axis=(0, 2, 3), dtype=np.float64)).float()
    spread = torch.from_numpy(found.std(axis=(0, 2, 3), dtype=np.float64)).float() + 1e-3
    mix = torch.randn(width, len(centre), generator=generator) * math.sqrt(2 / len(centre)) / spread
    inner = torch.randn(width, width, 3, 3, generator=generator) * math.sqrt(2 / (9 * width))
    layers = [
        mix[:, :, None, None],
        -(mix @ centre),
        inner,
        torch.zeros(width),
        torch.zeros(scored, width, 3, 3),
        torch.zeros(scored),
    ]
    return [layer.requires_grad_() for layer in layers]
