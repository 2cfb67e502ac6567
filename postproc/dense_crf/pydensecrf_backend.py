"""pydensecrf: the authors' permutohedral lattice, one image at a time."""

import numpy as np
import pydensecrf.densecrf as dcrf

from evaluation.core.types import Array, Images, Map
from postproc.dense_crf.model import RGB, CrfParams, Kernel, unary


def infer(maps: Map, images: Images | None, params: CrfParams) -> Map:
    """Return the mean-field maps of a block of images.

    The library holds Python's lock, so threads do not make it faster.

    Args:
        maps: float32 (image, class, row, col).
        images: uint8 (image, channel, row, col); None where no kernel uses colour.
    """
    result = np.empty(maps.shape, np.float32)
    costs = np.ascontiguousarray(unary(maps, params.floor))
    for index in range(len(maps)):
        field = dcrf.DenseCRF2D(maps.shape[3], maps.shape[2], params.classes)
        field.setUnaryEnergy(costs[index].reshape(params.classes, -1))
        for kernel in params.kernels:
            _add_kernel(field, kernel, None if images is None else images[index])
        q = np.array(field.inference(params.iterations), dtype=np.float32)
        result[index] = q.reshape(maps.shape[1:])
    return result


def _add_kernel(field: dcrf.DenseCRF2D, kernel: Kernel, image: Array | None) -> None:
    compat = kernel.costs if kernel.potts is None else kernel.potts
    if kernel.srgb is None or image is None:
        field.addPairwiseGaussian(sxy=kernel.sxy, compat=compat)
        return
    three = np.broadcast_to(image, (RGB, *image.shape[1:]))
    # Always a copy: the library refuses read-only arrays, such as memory maps.
    colours = np.moveaxis(three, 0, -1).copy(order="C")
    field.addPairwiseBilateral(sxy=kernel.sxy, srgb=kernel.srgb, rgbim=colours, compat=compat)
