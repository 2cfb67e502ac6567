"""Novelty by a one-class SVM: how far an image is from what most images look like."""

import numpy as np
from jaxtyping import Float

from evaluation.core.types import Kept
from members.data.cleaning.near_duplicates import Thumbnails

# A fifth of the images may lie outside: outliers are not rare, and only the ranking is used.
NU = 0.2
MAX_COMPONENTS = 100
MIN_IMAGES = 10

Scores = Float[np.ndarray, "image"]
Features = Float[np.ndarray, "image component"]


def features(thumbnails: Thumbnails, reference: Kept) -> Features:
    """Return principal components of the standardised pixels of grey thumbnails.

    Args:
        thumbnails: see `near_duplicates.thumbnails_and_hashes`.
        reference: the images that determine scales and components; with fewer than ten, the only
            feature of every image is 0.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    if reference.sum() < MIN_IMAGES:
        return np.zeros((len(thumbnails), 1), np.float32)
    pixels = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    count = min(MAX_COMPONENTS, int(reference.sum()), pixels.shape[1])
    reduced = make_pipeline(StandardScaler(), PCA(count, svd_solver="covariance_eigh"))
    # Threads that wait for each other on a busy machine make it many times slower.
    with threadpool_limits(1):
        reduced.fit(pixels[reference])
        return np.asarray(reduced.transform(pixels), np.float32)


def novelty(image_features: Features, reference: Kept) -> Scores:
    """Score images by a one-class SVM: higher is more novel.

    Above 0 lies outside the distribution that was learned; 1 is like none of the images at all.

    Args:
        image_features: see `features`.
        reference: the images that the SVM learns from; with fewer than ten all score 0.

    References:
        Schoelkopf et al., "Estimating the Support of a High-Dimensional Distribution", Neural
        Computation 2001, as implemented in scikit-learn.
    """
    from sklearn.svm import OneClassSVM

    if reference.sum() < MIN_IMAGES:
        return np.zeros(len(image_features))
    svm = OneClassSVM(nu=NU, gamma="scale").fit(image_features[reference])
    return np.asarray(-svm.decision_function(image_features) / svm.offset_, np.float64)


def most_novel(scores: Scores, among: Kept, count: int) -> list[int]:
    """Return the indices of the `count` highest scores among some images, highest first.

    Examples:
        >>> most_novel(np.array([0.1, 0.9, 0.5]), np.array([True, False, True]), 1)
        [2]
    """
    indices = np.flatnonzero(among)
    return [int(index) for index in indices[np.argsort(-scores[indices], kind="stable")][:count]]
