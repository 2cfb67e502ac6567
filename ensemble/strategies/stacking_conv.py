"""Stacking by a small convolutional network over the maps of all members."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy, pad

from ensemble.decision import (
    INNER_PIXELS,
    DecisionSample,
    Learner,
    Objective,
    fit_decision,
)
from ensemble.fusion import Blocks, Floor, Fusion, LearnedFusion, ScoredLabels, TrainingBlock
from ensemble.pixel_context import Grey, grey
from ensemble.sampling import (
    Features,
    ImageSample,
    PerPixelFeatures,
    PixelSample,
    SamplePixels,
    check_all_scored_occur,
    draw_images,
    take,
    thinned_rows,
)
from ensemble.soft_score import LogScores, Pixels, fit_linear_change
from ensemble.strategies.weighted_mean import mean_and_members
from evaluation.bias_search import Biases
from evaluation.core.classes import UNLABELLED
from evaluation.core.seeds import Seed
from evaluation.core.types import Array, Images, Map, Maps
from evaluation.run_metric import SetMetric

BATCH = 4
WARM_UP = 0.1
NOT_SCORED = -100

PerWidth = Float[np.ndarray, "width"]
PerScored = Float[np.ndarray, "scored"]


def stacking_conv(
    classes: int,
    ignore: int | None,
    metric: SetMetric | None = None,
    *,
    objective: Objective = "metric",
    width: Annotated[int, Field(ge=1, le=1024)] = 16,
    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 600,
    rate: Annotated[float, Field(gt=0, le=1000)] = 5e-3,
    intensity: bool = False,
    sample_pixels: SamplePixels = 1_600_000,
    floor: Floor = 1e-6,
    seed: Seed = 0,
) -> LearnedFusion:
    """Fit a network of three layers on the log-probabilities of all members.

    The first layer mixes members pixel by pixel, the two others cover 5x5 pixels; the border is
    extended by its last pixel. The output is added to the geometric mean, from which it starts. It
    is trained with masked cross-entropy on one core of the CPU.

    By default decisions have a last layer of their own: from that of the log-loss on to the highest
    score. As in `stacking`, the ignored class gets probability 0 everywhere.

    Args:
        ignore: the class whose pixels are left out of the fit.
        metric: what decisions are fitted by; by default the mean IoU of all classes but the ignored
            one.
        objective: what decisions are fitted by, `metric` or `log_loss`; see `ensemble.decision`.
        width: channels between the layers.
        steps: number of batches of 4 images to train on.
        rate: the highest learning rate; it rises first and falls to 0 (one cycle).
        intensity: whether the image's grey value is a channel too.
        sample_pixels: approximate number of pixels of the images that are drawn, kept as float16.
        floor: lower bound of probabilities before the logarithm.
        seed: random seed of the sample of images, the initial weights and the order.

    Examples:
        Members that agree and are right keep their prediction.

        >>> target = np.array([[[0, 1, 1, 0]]])
        >>> maps = np.where(target[:, None] == np.arange(2)[:, None, None], 0.8, 0.2)
        >>> maps = np.stack([maps, maps]).astype(np.float32)
        >>> fusion = stacking_conv(2, None, objective="log_loss", width=2, steps=1).fit(
        ...     [TrainingBlock(maps, target)]
        ... )
        >>> fusion(maps).argmax(axis=1)
        array([[[0, 1, 1, 0]]])
    """

    def features(block: TrainingBlock) -> Features:
        return _features(block.maps, grey(block.images) if intensity else None, floor)

    def fit(blocks: Blocks) -> Fusion:
        sample = draw_images(
            blocks, features, classes=classes, ignore=ignore, pixels=sample_pixels, seed=seed
        )
        scored = check_all_scored_occur(sample.counts, ignore, "stacking_conv")

        def train(part: ImageSample) -> StackingConv:
            with threadpool_limits(1):
                layers = _train(
                    part, scored, classes, width=width, steps=steps, rate=rate, seed=seed
                )
            mix, mix_bias, inner, inner_bias, outer, outer_bias = layers
            network = (mix, mix_bias, inner, inner_bias, outer, outer_bias)
            return StackingConv(*network, scored, floor, int(intensity))

        if objective == "log_loss":
            return train(sample)
        learner = _LastLayerLearner(sample, scored, metric, ignore, train)
        return fit_decision(learner, mean_and_members(("probabilities",) * learner.members))

    return LearnedFusion(fit, needs_images=intensity)


@dataclass(frozen=True)
class StackingConv:
    """A softmax over the geometric mean plus the output of a network.

    Args:
        mix, mix_bias: the first layer, on features that are not centred.
        inner, inner_bias: the second layer.
        outer, outer_bias: the third layer.
        scored: labels of the scored classes; others get probability 0.
        floor: lower bound of probabilities.
    """

    mix: Float[np.ndarray, "width feature 1 1"]
    mix_bias: PerWidth
    inner: Float[np.ndarray, "width width 3 3"]
    inner_bias: PerWidth
    outer: Float[np.ndarray, "scored width 3 3"]
    outer_bias: PerScored
    scored: ScoredLabels
    floor: float
    intensity: int

    @property
    def needs_images(self) -> bool:
        """Whether the grey value is a channel."""
        return bool(self.intensity)

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Fuse image by image, since sums may be rounded differently in a larger batch."""
        layers = (self.mix, self.mix_bias, self.inner, self.inner_bias)
        tensors = [torch.from_numpy(a) for a in (*layers, self.outer, self.outer_bias)]
        fused: Map = np.zeros(maps.shape[1:], np.float32)
        greys = grey(images) if self.intensity else None
        # Threads inside so small a convolution wait for each other more than they work.
        with torch.inference_mode(), threadpool_limits(1, user_api="openmp"):
            for index in range(len(fused)):
                one = slice(index, index + 1)
                one_grey = None if greys is None else greys[one]
                features = torch.from_numpy(_features(maps[:, one], one_grey, self.floor))
                logits = _logits(features, tensors, self.scored, maps.shape[2])
                fused[index, self.scored] = logits.softmax(dim=1)[0].numpy()
        return fused


def _features(maps: Maps, greys: Grey | None, floor: float) -> Features:
    members, count, classes, rows, cols = maps.shape
    extra = 0 if greys is None else 1
    features: Features = np.empty((count, members * classes + extra, rows, cols), np.float32)
    logs = features[:, : members * classes].reshape(count, members, classes, rows, cols)
    np.log(np.maximum(maps.swapaxes(0, 1), np.float32(floor)), out=logs)
    if greys is not None:
        features[:, -1] = greys
    return features


def _logits(features: Tensor, layers: list[Tensor], scored: ScoredLabels, classes: int) -> Tensor:
    outer, outer_bias = layers[4:]
    members = features.shape[1] // classes
    logs = features[:, : members * classes].reshape(-1, members, classes, *features.shape[2:])
    pooled = logs.mean(dim=1)[:, torch.from_numpy(scored)]
    return pooled + conv2d(_hidden(features, layers[:4]), outer, outer_bias)


def _hidden(features: Tensor, layers: list[Tensor]) -> Tensor:
    """Return the input of the last layer, padded."""
    mix, mix_bias, inner, inner_bias = layers
    hidden = conv2d(features, mix, mix_bias).relu()
    hidden = conv2d(_pad(hidden), inner, inner_bias).relu()
    return _pad(hidden)


def _pad(hidden: Tensor) -> Tensor:
    padded: Tensor = pad(hidden, (1, 1, 1, 1), mode="replicate")
    return padded


def _train(
    sample: ImageSample,
    scored: ScoredLabels,
    classes: int,
    *,
    width: int,
    steps: int,
    rate: float,
    seed: int,
) -> list[Array]:
    generator = torch.Generator().manual_seed(seed)
    layers = _initial_layers(sample, len(scored), width, generator)
    index = np.full(256, NOT_SCORED)
    index[scored] = np.arange(len(scored))
    features, target = torch.from_numpy(sample.features), torch.from_numpy(index[sample.target])
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


def _initial_layers(
    sample: ImageSample, scored: int, width: int, generator: torch.Generator
) -> list[Tensor]:
    """Return layers whose output is 0; the first normalises its features."""
    features = sample.features
    centre = torch.from_numpy(features.mean(axis=(0, 2, 3), dtype=np.float64)).float()
    spread = torch.from_numpy(features.std(axis=(0, 2, 3), dtype=np.float64)).float() + 1e-3
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


class _LastLayerLearner(Learner):
    """A network as parameters, of which the metric fits the last layer: a regression.

    Args:
        sample: the images.
        scored: labels of the scored classes.
        train: fits the network by the log-loss.
    """

    def __init__(
        self,
        sample: ImageSample,
        scored: ScoredLabels,
        metric: SetMetric | None,
        ignore: int | None,
        train: Callable[[ImageSample], StackingConv],
    ) -> None:
        self.sample, self.scored, self.train = sample, scored, train
        classes = len(sample.counts)
        self.members = sample.features.shape[1] // classes
        assert sample.group is not None
        image, row, col = np.nonzero(sample.target != UNLABELLED)
        logs = sample.features[image, : self.members * classes, row, col]
        target = sample.target[image, row, col].astype(np.intp)
        every = PixelSample(
            np.exp(logs.reshape(len(logs), self.members, classes), dtype=np.float32),
            target,
            np.full(len(target), 1 / len(target)),
            np.bincount(target, minlength=classes),
            np.empty((len(target), 0)),
            sample.group[image],
            None if sample.fold is None else sample.fold[image],
        )
        kept = thinned_rows(target, INNER_PIXELS)
        self.position = image[kept], row[kept], col[kept]
        general = np.ones(self.members, bool)
        prepared = DecisionSample.of(take(every, kept), metric, ignore, general)
        super().__init__(prepared.pixels, prepared.labels)

    def start(self, rows: Pixels) -> StackingConv:
        """Return the network trained on the images of the rows."""
        images = np.unique(self.position[0][rows])
        sample = self.sample
        part = replace(
            sample,
            features=sample.features[images],
            target=sample.target[images],
            group=None if sample.group is None else sample.group[images],
        )
        return self.train(part)

    def improve(
        self, rows: Pixels, start: StackingConv, anchor: StackingConv, strength: float
    ) -> StackingConv:
        """Fit the last layer by the metric."""
        pixels, patches = self.pixels.take(rows), self._patches(start, rows)
        weights, bias = fit_linear_change(
            pixels, patches, self.logits(start, rows), self.logits(anchor, rows), strength
        )
        return replace(
            start,
            outer=start.outer + weights.reshape(start.outer.shape).astype(np.float32),
            outer_bias=start.outer_bias + bias.astype(np.float32),
        )

    def logits(self, parameters: StackingConv, rows: Pixels) -> LogScores:
        """Return the output of the network."""
        image, row, col = (index[rows] for index in self.position)
        members, classes = self.members, len(self.sample.counts)
        logs = self.sample.features[image, : members * classes, row, col]
        pooled = logs.reshape(-1, members, classes).mean(axis=1, dtype=np.float32)[:, self.scored]
        weights = parameters.outer.reshape(len(self.scored), -1)
        change = self._patches(parameters, rows) @ weights.T + parameters.outer_bias
        return np.ascontiguousarray((pooled + change).T, np.float32)

    def with_bias(self, parameters: StackingConv, bias: Biases) -> StackingConv:
        """Add to the biases of the last layer."""
        return replace(parameters, outer_bias=parameters.outer_bias + bias.astype(np.float32))

    def fusion(self, parameters: StackingConv) -> Fusion:
        """Return the parameters, which are the fusion."""
        return parameters

    def _patches(self, network: StackingConv, rows: Pixels) -> PerPixelFeatures:
        """Return what the last layer sees of each pixel: the squares of 3 x 3 around it."""
        image, row, col = (index[rows] for index in self.position)
        layers = (network.mix, network.mix_bias, network.inner, network.inner_bias)
        tensors = [torch.from_numpy(layer) for layer in layers]
        patches = np.empty((len(rows), len(network.mix), 3, 3), np.float32)
        with torch.inference_mode(), threadpool_limits(1, user_api="openmp"):
            for one in np.unique(image):
                features = torch.from_numpy(self.sample.features[one][None]).float()
                hidden = _hidden(features, tensors)[0].numpy()
                squares = sliding_window_view(hidden, (3, 3), axis=(1, 2))
                here = image == one
                patches[here] = squares[:, row[here], col[here]].swapaxes(0, 1)
        return patches.reshape(len(rows), -1)
