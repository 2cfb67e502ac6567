"""Multinomial logistic regression, held to given weights instead of to zero.

Scores of classes from many features of a pixel: a linear map, then a softmax.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

from ensemble.blas import one_blas_thread
from ensemble.sampling import PerPixel, PixelTarget
from evaluation.core.types import Map

STEPS = 1000
GRADIENT_TOLERANCE = 1e-6
LOSS_TOLERANCE = 1e-11
RIDGE = 1e-8

PIECE_PIXELS = 1 << 12
"""Worked on at a time: their features are still in the cache when the slope needs them again."""

Features = Float[np.ndarray, "pixel feature"]
Weights = Float[np.ndarray, "class feature"]
Bias = Float[np.ndarray, "class"]
Moved = Float[np.ndarray, "parameter"]


def regression(
    features: Features,
    target: PixelTarget,
    weight: PerPixel,
    *,
    around: Weights,
    l2: float,
) -> tuple[Weights, Bias]:
    """Minimise the mean log-loss plus `l2 / 2` times the squared distance from `around`.

    Members resemble each other, so their features are strongly correlated and plain descent crawls
    through a narrow valley. It goes in coordinates in which the features are uncorrelated; the
    problem is convex, so where it starts does not matter for where it ends.

    Args:
        features: one row a pixel, float64; centred in place.
        target: class index a pixel.
        weight: how much each pixel counts; they sum to 1.
        around: the weights that the penalty pulls to, and the start.
        l2: strength of the penalty; the bias is free.

    Returns:
        Weights and bias: the logits of a pixel are `weights @ features + bias`.
    """
    with one_blas_thread():
        return _minimum(features, target, weight, around, l2)


def _minimum(
    features: Features, target: PixelTarget, weight: PerPixel, around: Weights, l2: float
) -> tuple[Weights, Bias]:
    centre = weight @ features
    features -= centre
    steps = _steps(features, weight, l2)
    count, depth = around.shape
    true = target == np.arange(count)[:, None]

    def unpacked(moved: Moved) -> tuple[Weights, Bias]:
        return moved[:-count].reshape(count, depth) @ steps.T, moved[-count:]

    def loss(moved: Moved) -> tuple[float, Moved]:
        away, bias = unpacked(moved)
        value, by_weights, by_bias = _log_loss(features, true, weight, around + away, bias)
        slope = (by_weights + l2 * away) @ steps
        return value + l2 / 2 * float((away**2).sum()), np.concatenate([slope.ravel(), by_bias])

    found = minimize(
        loss,
        np.zeros(count * (depth + 1)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": STEPS, "gtol": GRADIENT_TOLERANCE, "ftol": LOSS_TOLERANCE},
    )
    away, bias = unpacked(found.x)
    return around + away, bias - (around + away) @ centre


def _steps(features: Features, weight: PerPixel, l2: float) -> Float[np.ndarray, "feature feature"]:
    """Return a matrix whose columns are steps of about equal effect on the loss."""
    spread = features.T @ (features * weight[:, None])
    # Two members that are the same would leave no inverse.
    spread.flat[:: len(spread) + 1] += l2 + RIDGE * (1 + np.trace(spread) / len(spread))
    root = cholesky(spread, lower=True)
    inverse: Float[np.ndarray, "feature feature"] = solve_triangular(
        root, np.eye(len(spread)), lower=True
    ).T
    return inverse


def _log_loss(
    features: Features,
    true: Bool[np.ndarray, "class pixel"],
    weight: PerPixel,
    weights: Weights,
    bias: Bias,
) -> tuple[float, Weights, Bias]:
    """Return the mean log-loss in nats, and its slope by weights and bias."""
    value, by_weights, by_bias = 0.0, np.zeros_like(weights), np.zeros_like(bias)
    for first in range(0, len(features), PIECE_PIXELS):
        piece = slice(first, first + PIECE_PIXELS)
        logs = weights @ features[piece].T + bias[:, None]
        logs -= logs.max(axis=0)
        odds = np.exp(logs)
        sums = odds.sum(axis=0)
        value += float(weight[piece] @ (np.log(sums) - (logs * true[:, piece]).sum(axis=0)))
        excess = (odds / sums - true[:, piece]) * weight[piece]
        by_weights += excess @ features[piece]
        by_bias += excess.sum(axis=1)
    return value, by_weights, by_bias


LinearFeatures = Float[np.ndarray, "image member feature row col"]
LinearWeights = Float[np.ndarray, "class member feature"]


def softmax_scores(features: LinearFeatures, weights: LinearWeights, bias: Bias) -> Map:
    """Return the exponentials of `weights @ features + bias`; the largest of a pixel is 1."""
    images, *_, rows, cols = features.shape
    found = weights.reshape(len(bias), -1) @ features.reshape(images, -1, rows * cols)
    found += bias[:, None]
    found -= found.max(axis=1, keepdims=True)
    scores: Map = np.exp(found, out=found).reshape(images, -1, rows, cols)
    return scores
