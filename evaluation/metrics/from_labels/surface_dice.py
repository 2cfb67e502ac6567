"""Share of the edges that lie where the other's edge is, give or take some pixels."""

from typing import Annotated

from pydantic import Field

from evaluation.metrics.from_labels.regions import Distances, by_edges
from evaluation.metrics.measure import Metric


def surface_dice(*, tolerance_px: Annotated[float, Field(ge=0)] = 1.0) -> Metric:
    """Edge pixels within a tolerance of the other's edge, over all edge pixels of both.

    Of each picture and class, then the mean over pictures. 0 where only one of the two has the
    class; a picture where neither has it is left out.

    Args:
        tolerance_px: distance up to which an edge pixel counts as met.

    Source: Nikolov et al., "Clinically Applicable Segmentation of Head and Neck Anatomy for
    Radiotherapy", Journal of Medical Internet Research 2021; with pixels for surface elements, as
    in MONAI's `compute_surface_dice`.
    """

    def share(to_guess: Distances, to_truth: Distances) -> float:
        met = (to_guess <= tolerance_px).sum() + (to_truth <= tolerance_px).sum()
        return float(met / (len(to_guess) + len(to_truth)))

    return by_edges(share, one_lacks=lambda _: 0.0)
