"""Boundary loss: probability weighed by its distance from where the truth has the class."""

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.ground.arrays import Array, Labels, Map
from evaluation.ground.classes import UNLABELLED
from members.losses.kept import IgnoredWeight, Kept, mean_or_zero


class Boundary(nn.Module):
    """Mean over pixels and classes of signed distance times (probability - truth), in pixels."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the weighted mean; 0 where no pixel counts."""
        values, labels, weights = self.kept.pixels(logits, truth)
        classes = logits.shape[1]
        seen = labels.masked_fill(weights == 0, UNLABELLED).byte()
        distances = torch.from_numpy(signed_distances(seen.cpu().numpy(), classes))
        certain = functional.one_hot(labels, classes).movedim(-1, 1)
        excess = distances.to(values.device) * (values.softmax(dim=1) - certain)
        shares = self.kept.classes(logits)
        shares = shares / shares.sum()
        return mean_or_zero((excess * shares[:, None, None]).sum(dim=1), weights)


def signed_distances(truth: Labels, classes: int) -> Map:
    """Return how far each pixel lies from each class, in pixels; negative inside the class.

    Outside it is the distance to the nearest pixel of the class, inside 1 minus the distance to
    the nearest of another; so it is 0 on the rim. Unlabelled pixels belong to no class. A class
    that a picture lacks, or that has the picture to itself, has no boundary there: all 0.

    Args:
        truth: class index per pixel; 255 where it has none.
        classes: how many classes there are.
    """
    shape = (len(truth), classes, *truth.shape[1:])
    found = np.zeros(shape, dtype=np.float32)
    for picture, labels in enumerate(truth):
        present = [label for label in range(classes) if (labels == label).any()]
        if len(present) < 2:
            continue
        outside = {label: _distance_to(labels == label) for label in present}
        for label in present:
            others = np.min([outside[other] for other in present if other != label], axis=0)
            found[picture, label] = np.where(labels == label, 1 - others, outside[label])
    return found


def _distance_to(mask: Array) -> Array:
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def boundary(ignore: int | None, *, ignored_weight: IgnoredWeight = 0.0) -> Boundary:
    """Build a boundary loss, to be added to a loss over regions, such as `dice + 0.1*boundary`.

    The paper leaves out the truth's part, which no gradient sees; with it the loss is 0 for the
    truth and never below. It needs the company: a class without a boundary costs nothing, so alone
    it lets rims go to the ignored class and to classes that the picture lacks. Since distances are
    in pixels, it is a few times larger than a Dice loss on pictures of 64 x 128, and grows with
    their size.

    Args:
        ignore: the ignored class, or None.
        ignored_weight: of the ignored class, for its pixels in the mean and for its own distance
            map: 0 leaves both out, 1 learns it like any other. At 0 its pixels are unlabelled for
            the distances too; above, they are pixels of a class.

    Source: Kervadec et al., "Boundary loss for highly unbalanced segmentation", MIDL 2019.
    """
    return Boundary(Kept(ignore, ignored_weight))
