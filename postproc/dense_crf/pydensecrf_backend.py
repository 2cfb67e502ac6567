"""pydensecrf: the reference implementation, on a permutohedral lattice; one image at a time."""

import numpy as np
import pydensecrf.densecrf as dcrf

from evaluation.core.types import Array, Images, Map
from postproc.dense_crf.model import Kernel, Model, unary

RGB = 3


def infer(maps: Map, images: Images | None, model: Model) -> Map:
    """Return the mean-field maps of a block of images.

    The library holds Python's lock, so threads do not make it faster.

    Args:
        maps: float32 (image, class, row, col).
        images: uint8 (image, channel, row, col); None where no kernel looks at colour.
        model: the field.
    """
    result = np.empty(maps.shape, np.float32)
    costs = np.ascontiguousarray(unary(maps, model.floor))
    for number in range(len(maps)):
        field = dcrf.DenseCRF2D(maps.shape[3], maps.shape[2], model.classes)
        field.setUnaryEnergy(costs[number].reshape(model.classes, -1))
        for kernel in model.kernels:
            _add(field, kernel, None if images is None else images[number])
        q = np.array(field.inference(model.iterations), dtype=np.float32)
        result[number] = q.reshape(maps.shape[1:])
    return result


def _add(field: dcrf.DenseCRF2D, kernel: Kernel, image: Array | None) -> None:
    compat = kernel.costs if kernel.potts is None else kernel.potts
    if kernel.srgb is None or image is None:
        field.addPairwiseGaussian(sxy=kernel.sxy, compat=compat)
        return
    three = np.broadcast_to(image, (RGB, *image.shape[1:]))
    # A copy in any case: the library takes no read-only arrays, such as memory maps give.
    colours = np.moveaxis(three, 0, -1).copy(order="C")
    field.addPairwiseBilateral(sxy=kernel.sxy, srgb=kernel.srgb, rgbim=colours, compat=compat)
