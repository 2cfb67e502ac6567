"""Multinomial logistic regression, held to given weights instead of to zero."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import logsumexp

from ensemble.blas import one_blas_thread
from ensemble.sample import PerPixel, PixelTruth

STEPS = 1000
GRADIENT_TOLERANCE = 1e-6
LOSS_TOLERANCE = 1e-11
RIDGE = 1e-8

Features = Float[np.ndarray, "pixel feature"]
Weights = Float[np.ndarray, "class feature"]
Bias = Float[np.ndarray, "class"]
Moved = Float[np.ndarray, "parameter"]


def regression(
    features: Features,
    truth: PixelTruth,
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
        truth: class index a pixel.
        weight: how much each pixel counts; they sum to 1.
        around: the weights that the penalty pulls to, and the start.
        l2: strength of the penalty; the bias is free.

    Returns:
        Weights and bias: the logits of a pixel are `weights @ features + bias`.
    """
    with one_blas_thread():
        return _minimum(features, truth, weight, around, l2)


def _minimum(
    features: Features, truth: PixelTruth, weight: PerPixel, around: Weights, l2: float
) -> tuple[Weights, Bias]:
    centre = weight @ features
    features -= centre
    steps = _steps(features, weight, l2)
    count, depth = around.shape
    true = truth[:, None] == np.arange(count)

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
    true: Bool[np.ndarray, "pixel class"],
    weight: PerPixel,
    weights: Weights,
    bias: Bias,
) -> tuple[float, Weights, Bias]:
    """Return the mean log-loss in nats, and its slope by weights and bias."""
    logs = features @ weights.T + bias
    logs -= logsumexp(logs, axis=1, keepdims=True)
    value = -float(weight @ logs[true])
    excess = (np.exp(logs) - true) * weight[:, None]
    return value, excess.T @ features, excess.sum(axis=0)
