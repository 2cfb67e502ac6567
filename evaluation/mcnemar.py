"""McNemar's test: do two label maps have the same share of correct pixels?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from evaluation.confusion import LazyLabels, scored_pixels
from evaluation.core.blocks import map_blocks
from evaluation.core.ragged import extent_of
from evaluation.core.types import Groups
from evaluation.scores import nan_to_none

Discordant = Int64[np.ndarray, "image 3"]
"""For each image: pixels that only the first has right, only the second has, and all scored."""


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two label maps of the same images.

    Args:
        only_before: scored pixels that only the first prediction has right.
        only_after: those that only the second has.
        pixels: all scored pixels.
        groups: number of groups of images with a scored pixel.
        p_pixels: exact two-sided p-value as if pixels were independent, which neighbours are not:
            it is small for any difference between large images.
        p_groups: p-value over groups of images, whose differences of accuracy are compared with
            their spread; NaN where no group has a difference.
    """

    only_before: int
    only_after: int
    pixels: int
    groups: int
    p_pixels: float
    p_groups: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; None for NaN."""
        return asdict(self) | {"p_groups": nan_to_none(self.p_groups)}


def mcnemar(discordant: Discordant, groups: Groups) -> McNemar:
    """Test whether two predictions are correct equally often.

    Only pixels that one of the two has right say anything. Over pixels, the number that only the
    first has right is compared with a fair coin's. Over groups, with d the difference of a group's
    two numbers divided by its scored pixels, (sum d)^2 / sum d^2 has a chi-squared distribution
    with one degree of freedom where groups are many; it is at most the number of groups.

    Args:
        discordant: see `count_discordant`.
        groups: the group of each image.

    References:
        McNemar, "Note on the Sampling Error of the Difference between Correlated Proportions or
        Percentages", Psychometrika 1947; exact as `mcnemar` of statsmodels 0.15. Over groups:
        Durkalski et al., "Analysis of Clustered Matched-Pair Data", Statistics in Medicine 2003.

    Examples:
        >>> result = mcnemar(np.array([[1, 4, 20], [0, 3, 20]]), np.arange(2))
        >>> result.only_before, result.only_after, round(result.p_pixels, 3)
        (1, 7, 0.07)
    """
    from scipy.special import bdtr, chdtrc  # slow to import; scipy.stats is slower still

    names, index = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(names), 3), np.int64)
    np.add.at(sums, index, discordant)
    sums = sums[sums[:, 2] > 0]
    before, after, pixels = (int(total) for total in sums.sum(axis=0))
    differences = (sums[:, 0] - sums[:, 1]) / sums[:, 2]
    spread = float(np.square(differences).sum())
    p_groups = np.nan
    if spread > 0:
        p_groups = float(chdtrc(1, differences.sum() ** 2 / spread))
    p_pixels = min(1.0, 2 * float(bdtr(min(before, after), before + after, 0.5)))
    return McNemar(before, after, pixels, len(sums), p_pixels, p_groups)


def count_discordant(
    target: LazyLabels, before: LazyLabels, after: LazyLabels, *, ignore: int | None
) -> Discordant:
    """Count the scored pixels of each image that only one of two predictions has right.

    Args:
        target: class index per pixel, (image, row, col); 255 where unlabelled.
        before: predicted class index per pixel, of the same images.
        after: the same of the second prediction.
        ignore: pixels of this true class are left out too.
    """

    def count(block: slice) -> Discordant:
        true = np.asarray(target[block])
        scored = scored_pixels(true, ignore)
        first, second = ((np.asarray(labels[block]) == true) & scored for labels in (before, after))
        kinds = [first & ~second, second & ~first, scored]
        return np.stack([kind.sum(axis=(1, 2)) for kind in kinds], axis=1)

    none = np.zeros((0, 3), np.int64)
    return np.concatenate([none, *map_blocks(count, extent_of(target))])
