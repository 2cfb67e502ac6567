"""Fusions as torch operations, for graphs that run outside of `ens`.

Only fusions of one pixel's maps are here, and only those without a search or a tree.
"""

from collections.abc import Callable
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor

from ensemble.calibration.calibrated import Calibrated, CalibratedMembers
from ensemble.calibration.calibrators import Temperature, Vector
from ensemble.decision import Decided
from ensemble.fusion import SMALLEST, Fusion
from ensemble.strategies.means import (
    MIN_LOG_ODDS_GAP,
    GeometricMean,
    HarmonicMean,
    LogOdds,
    Mean,
    PowerMean,
)
from ensemble.strategies.order_statistics import OrderStatistic
from ensemble.strategies.stacking import Stacking
from ensemble.strategies.weighted_mean import WeightedMean
from evaluation.core.errors import BadSpec

TorchFusion = Callable[[Tensor], Tensor]
"""From maps of all members, (member, image, class, row, col), to the fused map."""

CLASS_AXIS = 1


@singledispatch
def torch_fusion(fusion: Fusion) -> TorchFusion:
    """Return a fusion that computes the same in torch.

    Args:
        fusion: fitted, as `ensemble.fitted_json.load_fitted` returns it.

    Raises:
        BadSpec: it has no such form.

    Examples:
        >>> from ensemble.strategies.means import power_mean
        >>> maps = torch.tensor([[0.9, 0.1], [0.5, 0.5]])[:, None, :, None, None]
        >>> torch_fusion(power_mean(exponent=2))(maps).ravel().round(decimals=2)
        tensor([0.8000, 0.2000])
    """
    raise BadSpec(
        f"{type(fusion).__name__} has no form as a graph; known are means, weighted_mean, greedy,"
        " max, min, median, and stacking without neighbours and intensity"
    )


def as_shares(scores: Tensor) -> Tensor:
    """Divide by the sum over classes."""
    return scores / scores.sum(dim=CLASS_AXIS, keepdim=True)


@torch_fusion.register
def _(fusion: Mean) -> TorchFusion:
    return lambda maps: as_shares(maps.sum(dim=0))


@torch_fusion.register
def _(fusion: GeometricMean) -> TorchFusion:
    return lambda maps: as_shares(maps.clamp_min(fusion.floor).log().mean(dim=0).exp())


@torch_fusion.register
def _(fusion: HarmonicMean) -> TorchFusion:
    return lambda maps: as_shares(maps.clamp_min(fusion.floor).reciprocal().sum(dim=0).reciprocal())


@torch_fusion.register
def _(fusion: PowerMean) -> TorchFusion:
    return lambda maps: as_shares(maps.pow(fusion.exponent).sum(dim=0))


@torch_fusion.register
def _(fusion: LogOdds) -> TorchFusion:
    floor = max(fusion.floor, MIN_LOG_ODDS_GAP)

    def fuse(maps: Tensor) -> Tensor:
        clipped = maps.clamp(floor, 1 - floor)
        return as_shares((clipped.log() - (1 - clipped).log()).mean(dim=0).sigmoid())

    return fuse


@torch_fusion.register
def _(fusion: OrderStatistic) -> TorchFusion:
    def fuse(maps: Tensor) -> Tensor:
        if fusion.which == "max":
            scores = maps.amax(dim=0)
        elif fusion.which == "min":
            scores = maps.amin(dim=0)
        else:
            ordered = maps.sort(dim=0).values
            low, high = (len(maps) - 1) // 2, len(maps) // 2
            scores = (ordered[low] + ordered[high]) / 2
        return as_shares(_or_mean(scores, maps))

    return fuse


@torch_fusion.register
def _(fusion: WeightedMean) -> TorchFusion:
    weights = torch.from_numpy(np.asarray(fusion.weights, np.float32))
    weights = weights.reshape(len(weights), -1)
    factors = weights[:, None, :, None, None]
    used = weights.any(dim=1).nonzero().ravel().tolist()

    def fuse(maps: Tensor) -> Tensor:
        return as_shares(_or_mean((maps * factors).sum(dim=0), maps[used]))

    return fuse


@torch_fusion.register
def _(fusion: Stacking) -> TorchFusion:
    if fusion.neighbours or fusion.intensity:
        raise BadSpec(
            "stacking with neighbours or intensity has no form as a graph; fuse without them"
        )
    weights = torch.from_numpy(np.asarray(fusion.weights, np.float32)).flatten(1)
    bias = torch.from_numpy(np.asarray(fusion.bias, np.float32))[:, None, None]
    scored = fusion.scored.tolist()

    def fuse(maps: Tensor) -> Tensor:
        logs = maps.clamp_min(fusion.floor).log().transpose(0, 1).flatten(1, 2)
        logits = torch.nn.functional.conv2d(logs, weights[:, :, None, None]) + bias
        return _spread(logits.softmax(dim=CLASS_AXIS), scored, maps.shape[2])

    return fuse


@torch_fusion.register
def _(fusion: Decided) -> TorchFusion:
    return torch_fusion(fusion.decision)


@torch_fusion.register
def _(fusion: Calibrated) -> TorchFusion:
    inner, calibrator = torch_fusion(fusion.inner), torch_fusion(fusion.calibrator)
    return lambda maps: calibrator(inner(maps)[None])


@torch_fusion.register
def _(fusion: CalibratedMembers) -> TorchFusion:
    inner = torch_fusion(fusion.inner)
    calibrators = [torch_fusion(one) for one in fusion.calibrators]
    return lambda maps: inner(
        torch.stack([one(maps[k : k + 1]) for k, one in enumerate(calibrators)])
    )


@torch_fusion.register
def _(fusion: Temperature) -> TorchFusion:
    return lambda maps: (maps[0].log() / fusion.temperature).softmax(dim=CLASS_AXIS)


@torch_fusion.register
def _(fusion: Vector) -> TorchFusion:
    scale, bias = (
        torch.from_numpy(np.asarray(values, np.float32))[:, None, None]
        for values in (fusion.scale, fusion.bias)
    )
    scored = fusion.scored.tolist()

    def calibrate(maps: Tensor) -> Tensor:
        probs = maps[0]
        shares = probs[:, scored]
        total = shares.sum(dim=CLASS_AXIS, keepdim=True)
        shares = shares / total.clamp_min(SMALLEST)
        odds = (shares.clamp_min(fusion.floor).log() * scale + bias).softmax(dim=CLASS_AXIS)
        kept = torch.ones(probs.shape[1])
        kept[scored] = 0
        changed = _spread(odds * total, scored, probs.shape[1])
        return as_shares(probs * kept[:, None, None] + changed)

    return calibrate


def _or_mean(scores: Tensor, maps: Tensor) -> Tensor:
    """Take the sum over members where no class has a score."""
    empty = scores.amax(dim=CLASS_AXIS, keepdim=True) < SMALLEST
    return torch.where(empty, maps.sum(dim=0), scores)


def _spread(values: Tensor, scored: list[int], classes: int) -> Tensor:
    """Put the values of the scored classes among all classes, the others 0."""
    place = torch.zeros(classes, len(scored))
    place[scored, range(len(scored))] = 1
    return torch.nn.functional.conv2d(values, place[:, :, None, None])
