"""Test-time augmentation: predict an image in several views and merge the probability maps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from evaluation.core.errors import BadSpec
from evaluation.core.specs import Table, parse_sum
from members.recipe import Merge

VIEWS = Table(
    "test-time augmentation",
    {"flips": "members.tta:flips", "scales": "members.tta:scales"},
)

Transform = Callable[[Tensor], Tensor]
Predictor = Callable[[Tensor], Tensor]
"""From images (image, channel, row, col) to probabilities (image, class, row, col)."""

MIN_PROBABILITY = 1e-12


@dataclass(frozen=True)
class View:
    """A transform of images, and the inverse for probability maps."""

    apply: Transform
    invert: Transform


Views = Callable[[Tensor], list[View]]
"""From images to their views, the images themselves first."""


def with_tta(predictor: Predictor, spec: str | None, merge: Merge) -> Predictor:
    """Return a predictor that predicts every view of the images and merges the maps.

    Args:
        predictor: predicts images without augmentation.
        spec: `flips`, `scales` or both, such as `flips+scales` (every scale in every flip); None
            for no augmentation.
        merge: mean, geometric mean or maximum of the views' probabilities; the last two are
            renormalised.
    """
    if spec is None:
        return predictor
    kinds: list[Views] = [VIEWS.build(name) for name in _split(spec)]

    def predict(images: Tensor) -> Tensor:
        views = [View(lambda x: x, lambda x: x)]
        for kind in kinds:
            views = [_compose(first, second) for first in views for second in kind(images)]
        return _merged([view.invert(predictor(view.apply(images))) for view in views], merge)

    return predict


def check_tta(spec: str | None) -> None:
    """Check that `with_tta` accepts the spec.

    Raises:
        BadSpec: an unknown name or option, or weights.
    """
    for name in _split(spec) if spec is not None else []:
        VIEWS.check(name)


def flips(*, vertical: bool = False) -> Views:
    """Predict images as they are and mirrored left to right.

    Args:
        vertical: also upside down; for members that were trained with vertical flips.

    Examples:
        >>> images = torch.tensor([[[[1, 2]]]])
        >>> [view.apply(images).tolist() for view in flips()(images)]
        [[[[[1, 2]]]], [[[[2, 1]]]]]
    """
    flipped_axes: list[list[int]] = [[], [-1]]
    if vertical:
        flipped_axes += [[-2], [-2, -1]]

    def views(_: Tensor) -> list[View]:
        mirrors = [lambda x, axes=axes: x.flip(axes) for axes in flipped_axes]
        return [View(mirror, mirror) for mirror in mirrors]

    return views


def scales(*, factors: list[Annotated[float, Field(gt=0, le=4)]] | None = None) -> Views:
    """Predict images as they are, smaller and larger (bilinear interpolation in both directions).

    Args:
        factors: of height and width, besides 1; by default 0.75 and 1.25.

    Examples:
        >>> images = torch.zeros(1, 1, 8, 4)
        >>> [tuple(view.apply(images).shape[2:]) for view in scales(factors=[0.5])(images)]
        [(8, 4), (4, 2)]
    """
    all_factors = [1.0, *(factors if factors is not None else [0.75, 1.25])]

    def views(images: Tensor) -> list[View]:
        rows, cols = images.shape[2:]
        sizes = [(max(1, round(rows * f)), max(1, round(cols * f))) for f in all_factors]
        return [View(_resizer(size), _resizer((rows, cols))) for size in sizes]

    return views


def _split(spec: str) -> list[str]:
    terms = parse_sum(spec)
    if any(weight != 1 for weight, _ in terms):
        raise BadSpec(f"test-time augmentation {spec!r}; expected names joined by +, no weights")
    return [str(name) for _, name in terms]


def _compose(first: View, second: View) -> View:
    return View(
        lambda x: second.apply(first.apply(x)), lambda maps: first.invert(second.invert(maps))
    )


def _resizer(size: tuple[int, int]) -> Transform:
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
        merged = stacked.clamp_min(MIN_PROBABILITY).log().mean(dim=0).exp()
    return merged / merged.sum(dim=1, keepdim=True)
