"""Smoother maps."""

from typing import Annotated

from pydantic import Field
from scipy import ndimage

from evaluation.ground.arrays import Map, Pictures
from postproc.step import Step

ROW_COL = (2, 3)


def blur(*, sigma: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0) -> Step:
    """Smooth the probabilities of each class with a Gaussian; they still sum to 1.

    Beyond the border the map goes on mirrored, its last pixel repeated, so that no probability
    flows in or out.

    Args:
        sigma: the Gaussian's standard deviation, in pixels; cut at four of them.
    """

    def apply(maps: Map, _: Pictures | None) -> Map:
        smooth: Map = ndimage.gaussian_filter(maps, sigma, axes=ROW_COL, mode="reflect")
        return smooth

    return Step("maps", "maps", apply)
