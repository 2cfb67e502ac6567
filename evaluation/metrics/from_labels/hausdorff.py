"""How far edges are apart, but for the farthest twentieth."""

import numpy as np

from evaluation.metrics.from_labels.regions import Distances, by_edges
from evaluation.metrics.measure import Metric

PERCENT = 95


def hausdorff_95() -> Metric:
    """95th percentile Hausdorff distance in pixels; less is better.

    The larger of two percentiles: of the distances from the truth's edge to the guess', and back.
    Of each picture and class, then the mean over pictures. Where only one of the two has the class
    there is no distance; the diagonal of the picture, which none exceeds, stands for it, so that
    leaving a class out is never rewarded. A picture where neither has it is left out.

    Source: Huttenlocher et al., "Comparing Images Using the Hausdorff Distance", PAMI 1993, for
    ranked distances; percentiles as in MONAI's `compute_hausdorff_distance`.
    """

    def larger(to_guess: Distances, to_truth: Distances) -> float:
        return float(max(np.percentile(each, PERCENT) for each in (to_guess, to_truth)))

    return by_edges(larger, one_lacks=lambda seen: float(np.hypot(*seen.truth.shape[1:])))
