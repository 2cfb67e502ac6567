"""Losses on shapes and edges: boundary loss and SSIM loss."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Array, Labels, Map
from members.losses.pixel_weights import IgnoredWeight, PixelWeights, mean_or_zero


class Boundary(nn.Module):
    """Mean over pixels and classes of signed distance times (probability - target), in pixels.

    OpenCV computes the distances, so a step with this loss is not recorded on a GPU.
    """

    works_on_host = True

    def __init__(self, pixel_weights: PixelWeights) -> None:
        super().__init__()
        self.pixel_weights = pixel_weights

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted mean; 0 where no pixel counts."""
        values, labels, weights = self.pixel_weights.mask(logits, target)
        classes = logits.shape[1]
        valid = labels.masked_fill(weights == 0, UNLABELLED).byte()
        distances = torch.from_numpy(signed_distances(valid.cpu().numpy(), classes))
        one_hot = functional.one_hot(labels, classes).movedim(-1, 1)
        excess = distances.to(values.device) * (values.softmax(dim=1) - one_hot)
        return _mean_over_pixels_and_classes(excess, weights, self.pixel_weights)


def signed_distances(target: Labels, classes: int) -> Map:
    """Return the distance of each pixel from each class, in pixels; negative inside the class.

    Outside it is the distance to the nearest pixel of the class, inside 1 minus the distance to
    the nearest pixel of another, so it is 0 on the inner rim. Unlabelled pixels belong to no class.
    All 0 for a class that is absent from an image, or the only one in it.

    Args:
        target: class index per pixel; 255 where unlabelled.
        classes: number of classes.
    """
    distances = np.zeros((len(target), classes, *target.shape[1:]), dtype=np.float32)
    for image, labels in enumerate(target):
        present = [label for label in range(classes) if (labels == label).any()]
        if len(present) < 2:
            continue
        outside = {label: _distance_to(labels == label) for label in present}
        for label in present:
            others = np.min([outside[other] for other in present if other != label], axis=0)
            distances[image, label] = np.where(labels == label, 1 - others, outside[label])
    return distances


def _distance_to(mask: Array) -> Array:
    import cv2  # the other losses do not need it

    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _mean_over_pixels_and_classes(
    losses: Tensor, weights: Tensor, pixel_weights: PixelWeights
) -> Tensor:
    of_classes = pixel_weights.of_classes(losses)
    of_classes = of_classes / of_classes.sum()
    return mean_or_zero((losses * of_classes[:, None, None]).sum(dim=1), weights)


def boundary(ignore: int | None, *, ignored_weight: IgnoredWeight = 0.0) -> Boundary:
    """Build a boundary loss, to be added to a region loss, as in `dice + 0.1*boundary`.

    Unlike the paper's it includes the target's own, constant part, so that it is 0 for the target
    and never negative. It should not be used alone: a class without a boundary costs nothing, so it
    would give rims to the ignored class and to classes absent from the image. Distances are in
    pixels, so on images of 64 x 128 it is a few times larger than a Dice loss, and it grows with
    the image size.

    Args:
        ignored_weight: weight of the ignored class, for its pixels and for its own distance map.
            At 0 its pixels count as unlabelled in the distances too.

    References:
        Kervadec et al., "Boundary loss for highly unbalanced segmentation", MIDL 2019.

    Examples:
        >>> target = torch.tensor([[[0, 0, 1]]]).byte()
        >>> logits = torch.tensor([[0.0, 100, 0], [100, 0, 100]]).reshape(1, 2, 1, 3)
        >>> boundary(None)(logits, target)  # pixel 0 is 2 px from class 1, 1 px inside class 0
        tensor(0.5000)
    """
    return Boundary(PixelWeights(ignore, ignored_weight))


RADIUS_PX = 5  # a window of 11 pixels and its deviation, as in Wang et al.
SIGMA_PX = 1.5
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # C1 and C2 for values from 0 to 1


class StructuralDissimilarity(nn.Module):
    """One minus the mean SSIM of probabilities and one-hot target, class by class."""

    def __init__(self, pixel_weights: PixelWeights) -> None:
        super().__init__()
        self.pixel_weights = pixel_weights

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over pixels and classes; 0 where no pixel counts."""
        values, labels, weights = self.pixel_weights.mask(logits, target)
        one_hot = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).float()
        losses = 1 - structural_similarity(values.softmax(dim=1), one_hot, weights)
        return _mean_over_pixels_and_classes(losses, weights, self.pixel_weights)


def structural_similarity(pred: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the SSIM around each pixel.

    Means, variances and covariance in a window are weighted by Gaussian times pixel weight and
    normalised, so that pixels of weight 0 and beyond the edge have no influence.

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
    # The target is 0 or 1, so it is its own square.
    variances = square_mean - pred_mean**2 + target_mean - target_mean**2
    luminance = (2 * pred_mean * target_mean + LUMINANCE) / (
        pred_mean**2 + target_mean**2 + LUMINANCE
    )
    return luminance * (2 * covariance + CONTRAST) / (variances + CONTRAST)


def _blur(size: int, like: Tensor) -> Tensor:
    """Return the Gaussian window as a banded matrix: on a CPU a product beats a convolution."""
    index = torch.arange(size, device=like.device, dtype=like.dtype)
    distance = (index[:, None] - index).abs()
    window = torch.exp(-0.5 * (distance / SIGMA_PX) ** 2) / (SIGMA_PX * math.sqrt(2 * math.pi))
    return window * (distance <= RADIUS_PX)


def ssim(ignore: int | None, *, ignored_weight: IgnoredWeight = 0.0) -> StructuralDissimilarity:
    """Build an SSIM loss; it compares edges and texture and complements a loss per pixel.

    Args:
        ignored_weight: weight of the ignored class, for its pixels and for its own similarity.

    References:
        Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity",
        2004; as a segmentation loss by Qin et al., "BASNet", CVPR 2019.

    Examples:
        >>> target = torch.tensor([[[0, 1, 1]]]).byte()
        >>> logits = 100.0 * functional.one_hot(target.long(), 2).movedim(-1, 1)
        >>> ssim(None)(logits, target) < 1e-6
        tensor(True)
    """
    return StructuralDissimilarity(PixelWeights(ignore, ignored_weight))
