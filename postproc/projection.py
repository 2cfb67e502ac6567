"""Three channels that stand for any number of them, for kernels on colour."""

import numpy as np
from jaxtyping import Float, UInt8

from evaluation.core.types import Images

RGB = 3
AXES = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
"""Directions in RGB, as rows: grey, and two across it."""


def project_to_rgb(images: Images) -> UInt8[np.ndarray, "image rgb row col"]:
    """Project each image on its three principal components, which become grey and two colours.

    Distances between pixels are nearest to those between their channels, scaled by √(3 / number of
    channels), as if there were three: so an image of equal channels, whose components across grey
    are 0, keeps its values. What lies outside of 0 to 255 is clipped.

    Args:
        images: uint8 (image, channel, row, col), any number of channels.

    Returns:
        uint8 (image, 3, row, col).

    Examples:
        >>> grey = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
        >>> bool((project_to_rgb(np.repeat(grey, 5, axis=1)) == grey).all())
        True

    References:
        Pearson, "On Lines and Planes of Closest Fit to Systems of Points in Space", 1901.
    """
    return np.stack([_project(image) for image in images])


def _project(image: UInt8[np.ndarray, "channel row col"]) -> UInt8[np.ndarray, "rgb row col"]:
    channels = image.shape[0]
    pixels = image.reshape(channels, -1).T.astype(np.float32)
    centre = pixels.mean(axis=0)
    directions = _directions(np.cov(pixels, rowvar=False).reshape(channels, channels))
    parts = (pixels - centre) @ directions.T.astype(np.float32)
    scale = np.float32(np.sqrt(RGB / channels))
    rgb = centre.mean() + scale * parts @ AXES[: len(directions)].astype(np.float32)
    levels: UInt8[np.ndarray, "pixel rgb"] = np.rint(rgb).clip(0, 255).astype(np.uint8)
    return levels.T.reshape(RGB, *image.shape[1:])


def _directions(
    covariance: Float[np.ndarray, "channel channel"],
) -> Float[np.ndarray, "direction channel"]:
    """Return the principal directions, the largest variance first, turned towards brighter."""
    _, vectors = np.linalg.eigh(covariance)
    directions = vectors.T[::-1][:RGB]
    signs = np.where(directions.sum(axis=1, keepdims=True) < 0, -1, 1)
    turned: Float[np.ndarray, "direction channel"] = directions * signs
    return turned
