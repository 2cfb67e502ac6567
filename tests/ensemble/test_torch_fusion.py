"""Fusions as torch operations give the maps that NumPy gives."""

import numpy as np
import pytest
import torch

from ensemble.fusion import TrainingBlock
from ensemble.strategy import build_strategy
from ensemble.torch_fusion import torch_fusion
from evaluation.core.errors import BadSpec

CLASSES, IGNORE = 4, 0
IN_GRAPHS = [
    *("mean", "geometric_mean", "harmonic_mean", "power_mean(exponent=3)", "log_odds"),
    *("max", "min", "median", "greedy", "weighted_mean", "weighted_mean(per_class=true)"),
    *("weighted_mean(weights=[0, 1, 3])", "stacking", "stacking(objective=log_loss)"),
    *("mean(calibrate=temperature)", "mean(calibrate=vector)", "stacking(calibrate=vector)"),
    *("geometric_mean(calibrate=temperature, calibrate_at=members)",),
]
NOT_IN_GRAPHS = [
    *(
        "majority_vote",
        "staple",
        "gate(objective=log_loss)",
        "stacking_boosted(rounds=2)",
        "mean(calibrate=isotonic)",
    ),
    *(
        "stacking(neighbours=1)",
        "stacking_conv(objective=log_loss, width=4, steps=2)",
        "per_class_vote",
    ),
]


@pytest.fixture(scope="module")
def block():
    """Three members, the last of noise; a pixel of zeros but for one class in each."""
    rng = np.random.default_rng(4)
    target = rng.integers(0, CLASSES, (12, 6, 7)).astype(np.uint8)
    true = np.eye(CLASSES)[target].transpose(0, 3, 1, 2)
    scores = [factor * true + rng.normal(size=true.shape) for factor in (2, 1, 0)]
    maps = np.exp(np.stack(scores))
    maps /= maps.sum(axis=2, keepdims=True)
    maps[:, 0, :, 0, 0] = np.eye(CLASSES)[[1, 2, 3]]
    return TrainingBlock(maps.astype(np.float32), target, np.zeros((12, 1, 6, 7), np.uint8))


def fitted(spec, block):
    kinds = ("probabilities",) * len(block.maps)
    strategy = build_strategy(spec, classes=CLASSES, ignore=IGNORE, kinds=kinds, seed=0)
    return strategy.fit([block]) if hasattr(strategy, "fit") else strategy


@pytest.mark.parametrize("spec", IN_GRAPHS)
def test_a_graph_fuses_as_numpy_does(spec, block):
    fusion = fitted(spec, block)
    with torch.inference_mode():
        maps = torch_fusion(fusion)(torch.from_numpy(block.maps)).numpy()
    np.testing.assert_allclose(maps, fusion(block.maps), atol=2e-6)


@pytest.mark.parametrize("spec", NOT_IN_GRAPHS)
def test_what_has_no_form_as_a_graph_is_refused_by_name(spec, block):
    with pytest.raises(BadSpec, match="has no form as a graph"):
        torch_fusion(fitted(spec, block))
