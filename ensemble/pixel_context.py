"""What lies around a pixel and under it: features that its own maps do not hold."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import uniform_filter

from ensemble.fusion import TrainingBlock
from evaluation.core.errors import BadData
from evaluation.core.types import Images, Maps

GREY_FEATURES = 2
WHITE = 255

Features = Float[np.ndarray, "image feature row col"]
Shades = Float[np.ndarray, "image row col"]


@dataclass(frozen=True)
class ContextFeatures:
    """Features of pixels, from the maps around them and from the image.

    Args:
        neighbours: radius in px of the square over which the members' mean is averaged; 0 asks for
            no such feature. At the border, the outermost pixels go on.
        intensity: whether the image's grey value is asked for, and its square, so that one class
            may lie between two others in brightness.
        floor: probabilities below this are raised to it before the logarithm.
    """

    neighbours: int
    intensity: bool
    floor: float

    def count(self, classes: int) -> int:
        """Return how many features there are."""
        return classes * (self.neighbours > 0) + GREY_FEATURES * self.intensity

    def __call__(self, maps: Maps, images: Images | None) -> Features:
        """Compute them, whole images at a time.

        Raises:
            BadData: images are asked for and there are none.
        """
        _, count, classes, *pixels = maps.shape
        found: Features = np.empty((count, self.count(classes), *pixels), np.float32)
        if self.neighbours:
            width = 2 * self.neighbours + 1
            around = found[:, :classes]
            uniform_filter(maps.mean(axis=0), (1, 1, width, width), output=around, mode="nearest")
            # Running sums may come out just below 0.
            np.log(np.maximum(around, self.floor, out=around), out=around)
        if self.intensity:
            found[:, -2] = grey(images)
            np.square(found[:, -2], out=found[:, -1])
        return found

    def of(self, block: TrainingBlock) -> Features:
        """Compute those of a block to learn from."""
        return self(block.maps, block.images)


def grey(images: Images | None) -> Shades:
    """Return the mean over channels, from 0 to 1.

    Raises:
        BadData: there are no images.
    """
    if images is None:
        raise BadData("a strategy with intensity=True looks at the images; give them too")
    shades: Shades = images.mean(axis=1, dtype=np.float32) / WHITE
    return shades
