"""Features that a pixel's own maps do not contain: the maps around it, and its grey value."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ensemble.fusion import TrainingBlock, by_pieces
from evaluation.core.errors import BadData
from evaluation.core.types import Array, Images, Map, Maps

GREY_FEATURES = 2

Features = Float[np.ndarray, "image feature row col"]
Grey = Float[np.ndarray, "image row col"]


@dataclass(frozen=True)
class ContextFeatures:
    """Features of pixels, from the maps around them and from the image, in this order.

    Args:
        neighbours: radius in px of the square over which the members' mean is averaged; 0 adds no
            such feature. The border is extended by its last pixel.
        intensity: whether the image's grey value and its square are added; the square lets one
            class lie between two others in brightness.
        floor: lower bound of probabilities before the logarithm.
    """

    neighbours: int
    intensity: bool
    floor: float

    def count(self, classes: int) -> int:
        """Return the number of features."""
        return classes * (self.neighbours > 0) + GREY_FEATURES * self.intensity

    def __call__(self, maps: Maps, images: Images | None) -> Features:
        """Compute them, whole images at a time.

        Raises:
            BadData: images are needed and there are none.
        """
        _, count, classes, *pixels = maps.shape
        features: Features = np.empty((count, self.count(classes), *pixels), np.float32)
        if self.neighbours:
            from scipy.ndimage import uniform_filter

            width = 2 * self.neighbours + 1
            means = features[:, :classes]
            uniform_filter(maps.mean(axis=0), (1, 1, width, width), output=means, mode="nearest")
            # Running sums may come out just below 0.
            np.log(np.maximum(means, self.floor, out=means), out=means)
        if self.intensity:
            features[:, -2] = grey(images)
            np.square(features[:, -2], out=features[:, -1])
        return features

    def compute(self, block: TrainingBlock) -> Features:
        """Compute the features of a block to fit on."""
        return self(block.maps, block.images)


class ContextFusion(ABC):
    """A fusion whose result at a pixel depends on that pixel's maps and its `ContextFeatures`.

    A dataclass with the fields below, which are those of `ContextFeatures`.
    """

    neighbours: int
    intensity: int
    floor: float

    @property
    def needs_images(self) -> bool:
        """Whether the grey value is a feature."""
        return bool(self.intensity)

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Fuse piece by piece."""
        context = ContextFeatures(self.neighbours, self.needs_images, self.floor)
        features = [context(maps, images)] if context.count(maps.shape[2]) else []
        return by_pieces(maps, self._scores, *features)

    @abstractmethod
    def _scores(self, maps: Maps, *context: Array) -> Map:
        """Return non-negative scores of the classes; see `ensemble.fusion.by_pieces`.

        Args:
            maps: a piece of the maps.
            context: the same piece of the context features; nothing where there are none.
        """


def grey(images: Images | None) -> Grey:
    """Return the mean over channels, from 0 to 1.

    Raises:
        BadData: there are no images, or their range is not known.
    """
    if images is None:
        raise BadData("a strategy with intensity=True needs images; give them too")
    if images.dtype.kind == "f":
        raise BadData(
            "a strategy with intensity=True needs images of 8 or 16 bits, these are"
            f" {images.dtype}; leave the option out"
        )
    mean: Grey = images.mean(axis=1, dtype=np.float32) / np.iinfo(images.dtype).max
    return mean
