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
    {
        "flips": "members.tta:flips",
        "turns": "members.tta:turns",
        "scales": "members.tta:scales",
        "crops": "members.tta:crops",
    },
)

Transform = Callable[[Tensor], Tensor]
Predictor = Callable[[Tensor], Tensor]
"""From images (image, channel, row, col) to probabilities (image, class, row, col)."""

MIN_PROBABILITY = 1e-12
WHOLE = 0.999
"""Share above which a view shows a pixel whole, up to rounding."""


@dataclass(frozen=True)
class View:
    """A transform of images, and the inverse for probability maps.

    Args:
        apply: from images to the view.
        invert: from maps of the view to maps of the images.
        partial: whether the view shows only a part; the maps are then 0 elsewhere.
    """

    apply: Transform
    invert: Transform
    partial: bool = False


Views = Callable[[Tensor], list[View]]
"""From images, of which only the size counts, to their views, the images themselves first."""


def with_tta(predictor: Predictor, spec: str | None, merge: Merge) -> Predictor:
    """Return a predictor that predicts every view of the images and merges the maps.

    Args:
        predictor: predicts images without augmentation.
        spec: `flips`, `turns`, `scales`, `crops` or several, such as `flips+scales` (every scale in
            every flip); None for no augmentation.
        merge: mean, geometric mean or maximum of the probabilities of the views that show a pixel;
            the last two are renormalised.
    """
    if spec is None:
        return predictor
    kinds: list[Views] = [VIEWS.build(name) for name in _split(spec)]

    def predict(images: Tensor) -> Tensor:
        views = [View(lambda x: x, lambda x: x)]
        for kind in kinds:
            views = [
                _compose(first, second) for first in views for second in kind(first.apply(images))
            ]
        maps, shares = [], []
        for view in views:
            predicted = predictor(view.apply(images))
            maps.append(view.invert(predicted))
            if view.partial:
                shares.append(view.invert(torch.ones_like(predicted[:1, :1])))
            else:
                shares.append(torch.ones_like(maps[-1][:1, :1]))
        if any(view.partial for view in views):
            return _merged_parts(torch.stack(maps), torch.stack(shares), merge)
        return _merged(maps, merge)

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


def turns() -> Views:
    """Predict images as they are and turned by 90, 180 and 270 degrees, counterclockwise.

    For images without an upper side, such as those from above or of tissue, and members that were
    trained on any orientation. Images need not be square. `flips+turns` are all eight orientations.

    References:
        `numpy.rot90` in the plane of rows and columns; `ttach.Rotate90`, ttach 0.0.3.

    Examples:
        >>> images = torch.tensor([[[[1, 2]]]])
        >>> [view.apply(images).tolist() for view in turns()(images)][:2]
        [[[[[1, 2]]]], [[[[2], [1]]]]]
    """

    def views(_: Tensor) -> list[View]:
        return [View(_turner(quarters), _turner(-quarters)) for quarters in range(4)]

    return views


def crops(*, share: Annotated[float, Field(gt=0, lt=1)] = 0.75) -> Views:
    """Predict images as they are, and five crops of them: the corners and the centre.

    Crops are predicted at their own size, so that the network sees a pixel beside other borders;
    each pixel takes the merge of the views that show it. After `scales(factors=[2])` crops are
    those of the larger image.

    Args:
        share: of the rows and columns of the image that a crop has.

    References:
        The crops of torchvision's `five_crop`, put back as by MONAI's `sliding_window_inference`
        with `mode="constant"`.

    Examples:
        >>> images = torch.zeros(1, 1, 8, 4)
        >>> [tuple(view.apply(images).shape[2:]) for view in crops(share=0.5)(images)][:2]
        [(8, 4), (4, 2)]
    """

    def views(images: Tensor) -> list[View]:
        rows, cols = images.shape[2:]
        height, width = (max(1, round(side * share)) for side in (rows, cols))
        down, right = rows - height, cols - width
        starts = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        whole = View(lambda x: x, lambda x: x)
        return [whole, *(_crop(start, (height, width), (rows, cols)) for start in starts)]

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
        lambda x: second.apply(first.apply(x)),
        lambda maps: first.invert(second.invert(maps)),
        partial=first.partial or second.partial,
    )


def _turner(quarters: int) -> Transform:
    return lambda values: torch.rot90(values, quarters, (2, 3))


def _crop(start: tuple[int, int], size: tuple[int, int], whole: tuple[int, int]) -> View:
    (top, left), (height, width) = start, size
    below, beside = whole[0] - top - height, whole[1] - left - width
    return View(
        lambda x: x[:, :, top : top + height, left : left + width],
        lambda maps: functional.pad(maps, (left, beside, top, below)),
        partial=True,
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


def _merged_parts(maps: Tensor, shares: Tensor, merge: Merge) -> Tensor:
    """Merge maps of views that are 0 where they show nothing.

    Args:
        maps: probabilities (view, image, class, row, col).
        shares: how much of a pixel its view shows, below 1 where a resized part ends.
        merge: how.
    """
    if merge == "mean":
        return maps.sum(dim=0) / shares.sum(dim=0)
    shown = shares > WHOLE
    if merge == "max":
        merged = torch.where(shown, maps, 0).amax(dim=0)
    else:
        logs = torch.where(shown, maps.clamp_min(MIN_PROBABILITY).log(), 0)
        merged = (logs.sum(dim=0) / shown.sum(dim=0)).exp()
    return merged / merged.sum(dim=1, keepdim=True)
