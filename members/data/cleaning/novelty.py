"""Novelty by a one-class SVM: how far an image lies from what most images look like."""

import numpy as np
from jaxtyping import Float

from evaluation.core.types import Kept
from members.data.cleaning.near_duplicates import Thumbnails

# A fifth of the images may lie outside: outliers are not rare, and only the ranking is used.
NU = 0.2
COMPONENTS = 100
FEWEST = 10

Scores = Float[np.ndarray, "image"]
Features = Float[np.ndarray, "image component"]


def features(thumbnails: Thumbnails, known: Kept) -> Features:
    """Return principal components of the standardised pixels of thumbnails.

    Args:
        thumbnails: grey, of one size.
        known: the images whose spread decides scales and components; fewer than ten are too few,
            and every image is described by a single 0.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    if known.sum() < FEWEST:
        return np.zeros((len(thumbnails), 1), np.float32)
    pixels = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    count = min(COMPONENTS, int(known.sum()), pixels.shape[1])
    reduced = make_pipeline(StandardScaler(), PCA(count, svd_solver="covariance_eigh"))
    # Threads that wait for each other on a busy machine make it many times slower.
    with threadpool_limits(1):
        reduced.fit(pixels[known])
        return np.asarray(reduced.transform(pixels), np.float32)


def novelty(described: Features, known: Kept) -> Scores:
    """Score images by a one-class SVM: the higher, the stranger.

    Above 0 lies outside of what it learned; 1 is like none of the images at all.

    Args:
        described: see `features`.
        known: the images that the machine learns from; with fewer than ten all score 0.

    Source: Schoelkopf et al., "Estimating the Support of a High-Dimensional Distribution", Neural
    Computation 2001, as scikit-learn has it.
    """
    from sklearn.svm import OneClassSVM

    if known.sum() < FEWEST:
        return np.zeros(len(described))
    machine = OneClassSVM(nu=NU, gamma="scale").fit(described[known])
    return np.asarray(-machine.decision_function(described) / machine.offset_, np.float64)


def strangest(scores: Scores, among: Kept, count: int) -> list[int]:
    """Return the places of the `count` highest scores among some images, highest first."""
    places = np.flatnonzero(among)
    return [int(place) for place in places[np.argsort(-scores[places], kind="stable")][:count]]
