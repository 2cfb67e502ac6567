"""Where an ensemble is unsure: entropy of its mean, and how much of it is members' quarrel."""

import numpy as np
from jaxtyping import Float

from ensemble.fusion import CLASS_AXIS
from evaluation.ground.arrays import Map, Maps

PerPixel = Float[np.ndarray, "*members picture row col"]


def entropy(maps: Map | Maps) -> PerPixel:
    """Return the entropy of each pixel's classes in nats, 0 to log(classes).

    Args:
        maps: probabilities; divided by their sum, since stored ones are rounded.
    """
    from scipy.special import entr

    shares = maps / maps.sum(axis=CLASS_AXIS, keepdims=True)
    nats: PerPixel = entr(shares).sum(axis=CLASS_AXIS)
    return nats


def uncertainty(maps: Maps) -> tuple[PerPixel, PerPixel]:
    """Return, for each pixel, the entropy of the members' mean and the mutual information.

    Mutual information is the entropy of the mean minus the mean of the members' entropies: 0 where
    all say the same, however unsure; log 2 where two members are each sure of another class.

    Args:
        maps: probabilities.

    Source: Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning",
    arXiv 1112.5745, with members in the place of draws from a posterior.
    """
    shares = maps / maps.sum(axis=CLASS_AXIS, keepdims=True)
    whole = entropy(shares.mean(axis=0))
    # Rounding may leave a little less than nothing.
    return whole, np.maximum(whole - entropy(shares).mean(axis=0), 0)
