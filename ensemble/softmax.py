"""Scores of classes from many features of a pixel: a linear map, then a softmax."""

import numpy as np
from jaxtyping import Float

from evaluation.ground.arrays import Map

Features = Float[np.ndarray, "picture member feature row col"]
Weights = Float[np.ndarray, "class member feature"]
Bias = Float[np.ndarray, "class"]


def softmax_scores(features: Features, weights: Weights, bias: Bias) -> Map:
    """Return the exponentials of `weights @ features + bias`; the largest of a pixel is 1."""
    pictures, *_, rows, cols = features.shape
    found = weights.reshape(len(bias), -1) @ features.reshape(pictures, -1, rows * cols)
    found += bias[:, None]
    found -= found.max(axis=1, keepdims=True)
    scores: Map = np.exp(found, out=found).reshape(pictures, -1, rows, cols)
    return scores
