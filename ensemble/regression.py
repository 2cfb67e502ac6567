"""Multinomial logistic regression with a prior on the weights, and its softmax on maps."""

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
"""Worked on at a time: their features are still in the cache when the gradient needs them."""

Features = Float[np.ndarray, "pixel feature"]
Weights = Float[np.ndarray, "class feature"]
Bias = Float[np.ndarray, "class"]
LinearFeatures = Float[np.ndarray, "image member feature row col"]
LinearWeights = Float[np.ndarray, "class member feature"]
Offset = Float[np.ndarray, "parameter"]


def regression(
    features: Features,
    target: PixelTarget,
    weight: PerPixel,
    *,
    prior: Weights,
    l2: float,
) -> tuple[Weights, Bias]:
    """Minimise the mean log-loss plus `l2 / 2` times the squared distance from the prior weights.

    Members resemble each other, so their features are strongly correlated and plain descent crawls
    through a narrow valley. The search uses coordinates in which the features are uncorrelated; the
    problem is convex, so the start does not matter for the result.

    Args:
        features: one row per pixel, float64; centred in place.
        target: class index per pixel.
        weight: weight of each pixel; they sum to 1.
        prior: the weights that the penalty pulls to, and the start.
        l2: strength of the penalty; the bias is not penalised.

    Returns:
        Weights and bias: the logits of a pixel are `weights @ features + bias`.
    """
    with one_blas_thread():
        return _minimise(features, target, weight, prior, l2)


def softmax_scores(features: LinearFeatures, weights: LinearWeights, bias: Bias) -> Map:
    """Return the exponentials of `weights @ features + bias`; the largest of a pixel is 1."""
    images, *_, rows, cols = features.shape
    logits = weights.reshape(len(bias), -1) @ features.reshape(images, -1, rows * cols)
    logits += bias[:, None]
    logits -= logits.max(axis=1, keepdims=True)
    scores: Map = np.exp(logits, out=logits).reshape(images, -1, rows, cols)
    return scores


def _minimise(
    features: Features, target: PixelTarget, weight: PerPixel, prior: Weights, l2: float
) -> tuple[Weights, Bias]:
    centre = weight @ features
    features -= centre
    axes = directions(features, weight, l2)
    classes, num_features = prior.shape
    true = target == np.arange(classes)[:, None]

    def unpack(offset: Offset) -> tuple[Weights, Bias]:
        return offset[:-classes].reshape(classes, num_features) @ axes.T, offset[-classes:]

    def loss(offset: Offset) -> tuple[float, Offset]:
        away, bias = unpack(offset)
        value, by_weights, by_bias = _log_loss(features, true, weight, prior + away, bias)
        gradient = (by_weights + l2 * away) @ axes
        penalty = l2 / 2 * float((away**2).sum())
        return value + penalty, np.concatenate([gradient.ravel(), by_bias])

    result = minimize(
        loss,
        np.zeros(classes * (num_features + 1)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": STEPS, "gtol": GRADIENT_TOLERANCE, "ftol": LOSS_TOLERANCE},
    )
    away, bias = unpack(result.x)
    return prior + away, bias - (prior + away) @ centre


def directions(
    features: Features, weight: PerPixel, l2: float
) -> Float[np.ndarray, "feature feature"]:
    """Return a matrix whose columns are steps of about equal effect on the loss.

    Args:
        features: centred.
        weight: weight of each pixel; they sum to 1.
        l2: strength of the penalty on the weights.
    """
    spread = features.T @ (features * weight[:, None])
    # With two equal members the matrix would otherwise be singular.
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
    """Return the mean log-loss in nats, and its gradients by weights and bias."""
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
