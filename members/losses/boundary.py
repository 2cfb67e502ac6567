"""Boundary loss: probability weighed by its distance from where the target has the class.

SSIM loss: structural dissimilarity of probabilities and target, window by window.
"""

import math

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Array, Labels, Map
from members.losses.pixel_weights import IgnoredWeight, PixelWeights, mean_or_zero


class Boundary(nn.Module):
    """Mean over pixels and classes of signed distance times (probability - target), in pixels."""

    def __init__(self, kept: PixelWeights) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted mean; 0 where no pixel counts."""
        values, labels, weights = self.kept.pixels(logits, target)
        classes = logits.shape[1]
        seen = labels.masked_fill(weights == 0, UNLABELLED).byte()
        distances = torch.from_numpy(signed_distances(seen.cpu().numpy(), classes))
        certain = functional.one_hot(labels, classes).movedim(-1, 1)
        excess = distances.to(values.device) * (values.softmax(dim=1) - certain)
        shares = self.kept.classes(logits)
        shares = shares / shares.sum()
        return mean_or_zero((excess * shares[:, None, None]).sum(dim=1), weights)


def signed_distances(target: Labels, classes: int) -> Map:
    """Return how far each pixel lies from each class, in pixels; negative inside the class.

    Outside it is the distance to the nearest pixel of the class, inside 1 minus the distance to
    the nearest of another; so it is 0 on the rim. Unlabelled pixels belong to no class. A class
    that an image lacks, or that has the image to itself, has no boundary there: all 0.

    Args:
        target: class index per pixel; 255 where it has none.
        classes: how many classes there are.
    """
    shape = (len(target), classes, *target.shape[1:])
    found = np.zeros(shape, dtype=np.float32)
    for image, labels in enumerate(target):
        present = [label for label in range(classes) if (labels == label).any()]
        if len(present) < 2:
            continue
        outside = {label: _distance_to(labels == label) for label in present}
        for label in present:
            others = np.min([outside[other] for other in present if other != label], axis=0)
            found[image, label] = np.where(labels == label, 1 - others, outside[label])
    return found


def _distance_to(mask: Array) -> Array:
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def boundary(ignore: int | None, *, ignored_weight: IgnoredWeight = 0.0) -> Boundary:
    """Build a boundary loss, to be added to a loss over regions, such as `dice + 0.1*boundary`.

    The paper leaves out the target's part, which no gradient sees; with it the loss is 0 for the
    target and never below. It needs the company: a class without a boundary costs nothing, so alone
    it lets rims go to the ignored class and to classes that the image lacks. Since distances are
    in pixels, it is a few times larger than a Dice loss on images of 64 x 128, and grows with
    their size.

    Args:
        ignore: the ignored class, or None.
        ignored_weight: of the ignored class, for its pixels in the mean and for its own distance
            map: 0 leaves both out, 1 learns it like any other. At 0 its pixels are unlabelled for
            the distances too; above, they are pixels of a class.

    Source: Kervadec et al., "Boundary loss for highly unbalanced segmentation", MIDL 2019.
    """
    return Boundary(PixelWeights(ignore, ignored_weight))


RADIUS_PX = 5  # the window of 11 pixels and its deviation are Wang's
SIGMA_PX = 1.5
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # C1 and C2 for values from 0 to 1


class StructuralDissimilarity(nn.Module):
    """One minus the mean SSIM of probabilities and one-hot target, class by class."""

    def __init__(self, kept: PixelWeights) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over pixels and classes; 0 where no pixel counts."""
        values, labels, weights = self.kept.pixels(logits, target)
        certain = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
        losses = 1 - structural_similarity(values.softmax(dim=1), certain, weights)
        shares = self.kept.classes(logits)
        shares = shares / shares.sum()
        return mean_or_zero((losses * shares[:, None, None]).sum(dim=1), weights)


def structural_similarity(pred: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the SSIM around each pixel.

    Means, variances and covariance in a window are weighted by Gaussian times pixel weight and
    divided by the sum of both, so that pixels of weight 0 and those beyond the edge do not exist.

    Args:
        pred: values from 0 to 1, (image, class, row, col).
        target: 0 or 1, same shape.
        weights: of the pixels, (image, row, col).
    """
    along_rows, along_cols = (_blur(size, pred) for size in pred.shape[-2:])

    def blurred(values: Tensor) -> Tensor:
        return along_rows @ (values @ along_cols)

    weights = weights[:, None]
    total = blurred(weights).clamp_min(torch.finfo(pred.dtype).tiny)
    weighted = weights * pred
    pred_mean, square_mean, target_mean, product_mean = (
        blurred(part) / total
        for part in (weighted, weighted * pred, weights * target, weighted * target)
    )
    covariance = product_mean - pred_mean * target_mean
    variances = (
        square_mean - pred_mean**2 + target_mean - target_mean**2
    )  # target is its own square
    luminance = (2 * pred_mean * target_mean + LUMINANCE) / (
        pred_mean**2 + target_mean**2 + LUMINANCE
    )
    return luminance * (2 * covariance + CONTRAST) / (variances + CONTRAST)


def _blur(size: int, like: Tensor) -> Tensor:
    """Return the Gaussian window as a banded matrix: on a CPU a product beats a convolution."""
    place = torch.arange(size, device=like.device, dtype=like.dtype)
    apart = (place[:, None] - place).abs()
    window = torch.exp(-0.5 * (apart / SIGMA_PX) ** 2) / (SIGMA_PX * math.sqrt(2 * math.pi))
    return window * (apart <= RADIUS_PX)


def ssim(ignore: int | None, *, ignored_weight: IgnoredWeight = 0.0) -> StructuralDissimilarity:
    """Build an SSIM loss; it looks at edges and texture, and so stands beside a loss over pixels.

    Args:
        ignore: the ignored class, or None.
        ignored_weight: of the ignored class, for its pixels in windows and mean and for its own
            similarity: 0 leaves both out, 1 learns it like any other.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity",
        2004; as a loss of segmentation by Qin et al., "BASNet", CVPR 2019.
    """
    return StructuralDissimilarity(PixelWeights(ignore, ignored_weight))
