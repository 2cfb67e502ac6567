"""Test-time augmentation: an image is predicted in several views, and the maps are merged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from evaluation.core.errors import BadSpec
from evaluation.core.specs import Table, parse_sum

VIEWS = Table(
    "test-time augmentation",
    {"flips": "members.tta:flips", "scales": "members.tta:scales"},
)

Merge = Literal["mean", "geometric_mean", "max"]
SMALLEST = 1e-12


@dataclass(frozen=True)
class View:
    """A way to show images, and the way back.

    Args:
        there: from images (image, channel, row, col) to what the network sees.
        back: from the network's probabilities (image, class, row, col) to those of the images.
    """

    there: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


Probabilities = Callable[[Tensor], Tensor]
"""From images (image, channel, row, col) to probabilities (image, class, row, col)."""


def with_tta(probabilities: Probabilities, spec: str | None, merge: Merge) -> Probabilities:
    """Return what predicts every view of the images and merges the maps.

    Args:
        probabilities: predicts images as they are.
        spec: `flips`, `scales` or both, such as `flips+scales`, which shows every scale in every
            flip; None for images as they are alone.
        merge: the mean of the views' probabilities, their geometric mean, or their maximum; the
            last two divided by their sum.
    """
    if spec is None:
        return probabilities
    kinds = [VIEWS.build(one) for one in _named(spec)]

    def predict(images: Tensor) -> Tensor:
        views = [View(lambda x: x, lambda x: x)]
        for kind in kinds:
            views = [_both(first, second) for first in views for second in kind(images)]
        return _merged([v.back(probabilities(v.there(images))) for v in views], merge)

    return predict


def check_test_time(spec: str | None) -> None:
    """Refuse what `with_tta` would refuse.

    Raises:
        BadSpec: an unknown name or option, or weights.
    """
    for one in _named(spec) if spec is not None else []:
        VIEWS.check(one)


def flips(*, vertical: bool = False) -> Callable[[Tensor], list[View]]:
    """Show images as they are and mirrored, left and right changing sides.

    Args:
        vertical: upside down as well; for members that were trained so.
    """
    sides: list[list[int]] = [[], [-1]]
    if vertical:
        sides += [[-2], [-2, -1]]

    def views(_: Tensor) -> list[View]:
        mirrors = [lambda x, axes=axes: x.flip(axes) for axes in sides]
        return [View(mirror, mirror) for mirror in mirrors]

    return views


def scales(
    *, factors: list[Annotated[float, Field(gt=0, le=4)]] | None = None
) -> Callable[[Tensor], list[View]]:
    """Show images as they are, smaller and larger (bilinear, both ways).

    Args:
        factors: of height and width, besides 1; .75 and 1.25 where none are given.
    """
    chosen = [1.0, *(factors if factors is not None else [0.75, 1.25])]

    def views(images: Tensor) -> list[View]:
        rows, cols = images.shape[2:]
        sizes = [(max(1, round(rows * f)), max(1, round(cols * f))) for f in chosen]
        return [View(_resizer(size), _resizer((rows, cols))) for size in sizes]

    return views


def _named(spec: str) -> list[str]:
    terms = parse_sum(spec)
    if any(weight != 1 for weight, _ in terms):
        raise BadSpec(f"test-time augmentation {spec!r}; expected names joined by +, no weights")
    return [str(one) for _, one in terms]


def _both(first: View, second: View) -> View:
    return View(lambda x: second.there(first.there(x)), lambda x: first.back(second.back(x)))


def _resizer(size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    def resize(values: Tensor) -> Tensor:
        if values.shape[2:] == size:
            return values
        return functional.interpolate(values.float(), size, mode="bilinear", antialias=False)

    return resize


def _merged(views: Sequence[Tensor], merge: Merge) -> Tensor:
    stacked = torch.stack(list(views))
    if merge == "mean":
        return stacked.mean(dim=0)
    if merge == "max":
        merged = stacked.amax(dim=0)
    else:
        merged = stacked.clamp_min(SMALLEST).log().mean(dim=0).exp()
    return merged / merged.sum(dim=1, keepdim=True)
