"""The fully connected conditional random field, by pydensecrf."""

from typing import Annotated

import numpy as np
import pydensecrf.densecrf as dcrf
from jaxtyping import Float, UInt8
from pydantic import Field

from evaluation.ground.arrays import Map, Pictures
from postproc.step import Step

Sigma = Annotated[float, Field(ge=0.1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
OneMap = Float[np.ndarray, "class row col"]
OnePicture = UInt8[np.ndarray, "row col rgb"]
RGB = 3


def crf(
    *,
    iterations: Annotated[int, Field(ge=1)] = 10,
    gaussian_sxy: Sigma = 3.0,
    gaussian_compat: Weight = 3.0,
    bilateral_sxy: Sigma = 30.0,
    bilateral_srgb: Sigma = 13.0,
    bilateral_compat: Weight = 10.0,
    floor: Annotated[float, Field(gt=0, lt=1)] = 2.0**-25,
) -> Step:
    """Draw labels to the edges of the picture: pixels near in place and colour want the same label.

    A grey picture is repeated to three channels, as is usual, so published settings mean the same
    here; one grey level of difference then weighs as three, and two of the lattice's five
    dimensions are wasted. A kernel with compat 0 is left out, and without the bilateral one no
    pictures are needed. The library holds Python's lock, so threads do not make this step faster.

    Args:
        iterations: of mean-field inference.
        gaussian_sxy: reach of the kernel on place alone, in pixels.
        gaussian_compat: its weight.
        bilateral_sxy: reach of the kernel on place and colour, in pixels.
        bilateral_srgb: its reach in colour, in grey levels of 0 to 255.
        bilateral_compat: its weight.
        floor: probabilities below this are raised to it before the logarithm.

    Source: Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
        Potentials", NIPS 2011.
    """

    def infer(map_: OneMap, picture: OnePicture | None) -> OneMap:
        classes, rows, cols = map_.shape
        field = dcrf.DenseCRF2D(cols, rows, classes)
        costs = -np.log(np.maximum(map_, np.float32(floor)), dtype=np.float32)
        field.setUnaryEnergy(np.ascontiguousarray(costs.reshape(classes, -1)))
        if gaussian_compat:
            field.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
        if picture is not None:
            field.addPairwiseBilateral(
                sxy=bilateral_sxy, srgb=bilateral_srgb, rgbim=picture, compat=bilateral_compat
            )
        return np.array(field.inference(iterations), dtype=np.float32).reshape(map_.shape)

    def apply(maps: Map, pictures: Pictures | None) -> Map:
        # One by one, since the library knows single pictures only.
        seen = pictures if bilateral_compat else None
        colours = [None] * len(maps) if seen is None else _rgb(seen)
        return np.stack([infer(*pair) for pair in zip(maps, colours, strict=True)])

    return Step("maps", "maps", apply, needs_pictures=bilateral_compat > 0)


def _rgb(pictures: Pictures) -> UInt8[np.ndarray, "picture row col rgb"]:
    three = np.broadcast_to(pictures, (len(pictures), RGB, *pictures.shape[2:]))
    # A copy in any case: the library takes no read-only arrays, such as memory maps give.
    return np.moveaxis(three, 1, -1).copy(order="C")
