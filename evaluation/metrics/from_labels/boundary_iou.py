"""IoU of the bands along the edges of regions."""

from typing import Annotated

import numpy as np
from pydantic import Field

from evaluation.ground.arrays import Array
from evaluation.iou import mean_over_present, shares
from evaluation.metrics.from_labels.regions import Masks, regions
from evaluation.metrics.measure import Measured, Metric, Seen


def boundary_iou(*, width: Annotated[float, Field(gt=0, le=1)] = 0.02) -> Metric:
    """Intersection over union of what lies in a region and near its edge.

    Large regions have most pixels far inside, where IoU hides what happens at their edges. Pixels
    are added up over the pictures, as for IoU; a class in neither truth nor guess is left out.

    Args:
        width: of the band inside each region, as a part of the picture's diagonal; at least 1 px.
            The border of the picture is an edge too.

    Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation",
    CVPR 2021, and `mask_to_boundary` of its code: erosions by 3 x 3.
    """

    def terms(seen: Seen) -> Array:
        diagonal = float(np.hypot(*seen.truth.shape[1:]))
        pixels = max(1, round(width * diagonal))
        truth, guess = (_band(mask, pixels) for mask in regions(seen))
        both, either = ((mask).sum(axis=(2, 3)) for mask in (truth & guess, truth | guess))
        return np.stack([both, either], axis=1)

    def value(sums: Array) -> Measured:
        found = shares(sums[..., 0, :].astype(np.float64), sums[..., 1, :])
        return Measured(mean_over_present(found), found)

    return Metric("labels", terms, value)


def _band(mask: Masks, pixels: int) -> Masks:
    from scipy import ndimage

    size = (1, 1, 2 * pixels + 1, 2 * pixels + 1)
    inner = ndimage.minimum_filter(mask.view(np.uint8), size, mode="constant", cval=0)
    band: Masks = mask & (inner == 0)
    return band
