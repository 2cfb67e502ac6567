"""What a post-processing step is, and the options that several steps share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec
from evaluation.core.specs import Spec
from evaluation.core.types import Images

Kind = Literal["maps", "labels"]
WhenRepeated = Literal["allowed", "redundant", "mergeable"]


@dataclass(frozen=True)
class Step:
    """One operation: maps to maps, maps to labels, or labels to labels.

    Args:
        input: probability maps (image, class, row, col) that sum to 1, or label maps
            (image, row, col), uint8.
        output: the same for the result.
        apply: the operation on (maps or labels, images). It treats every image of the block
            independently, does not modify its input, and may run in several threads.
        needs_images: whether it reads the images; otherwise they may be None.
        any_channels: whether these may have any number of channels, not 1 or 3 alone.
        when_repeated: the step right after itself is `allowed`; `redundant`, since the second
            changes nothing; or `mergeable`, since one step with other options does the work of
            both. Chains refuse the last two.
    """

    input: Kind
    output: Kind
    apply: Callable[[Any, Images | None], Any]
    needs_images: bool = False
    any_channels: bool = False
    when_repeated: WhenRepeated = "allowed"

    def __post_init__(self) -> None:
        """Check that labels are not turned back into maps."""
        assert (self.input, self.output) != ("labels", "maps")


class ImageNeed(NamedTuple):
    """The step that needs images most: with 1 or 3 channels, or with any number."""

    step: str
    any_channels: bool


# The image axis has no name here, since the last block may be shorter.
class FitBlock(NamedTuple):
    """A block of images to fit a step on.

    Args:
        maps: output of the preceding steps, for images that the member was not trained on.
        target: class index per pixel; 255 where there is no label.
    """

    maps: Float[np.ndarray, "_ class row col"]
    target: Integer[np.ndarray, "_ row col"]


@dataclass(frozen=True)
class LearnedStep:
    """A step on maps that must be fitted first.

    Args:
        output: what the fitted step returns.
        fit: takes blocks of images, which it may iterate several times, and returns the spec of
            the fitted step, so that what was learned is saved and read like any other spec.
        when_repeated: see `Step`.
    """

    output: Kind
    fit: Callable[[Iterable[FitBlock]], Spec]
    input: Kind = "maps"
    needs_images: bool = False
    any_channels: bool = False
    when_repeated: WhenRepeated = "allowed"


Area = Annotated[int, Field(ge=1, le=2**31 - 1)]
Label = Annotated[int, Field(ge=0, lt=UNLABELLED)]
Only = list[Label] | None


def parse_classes(only: Only, classes: int) -> list[int]:
    """Return the classes that a step works on in ascending order; None means all.

    Raises:
        BadSpec: an unknown class, or an empty list.
    """
    if only is None:
        return list(range(classes))
    unknown = [label for label in only if label >= classes]
    if unknown or not only:
        raise BadSpec(f"only={unknown or only}; expected classes from 0 to {classes - 1}")
    return sorted(set(only))


def background_class(label: Label | None, ignore: int | None, classes: int) -> int:
    """Return the class that stands for the background: the one named, else the ignored one.

    Raises:
        BadSpec: neither is there, or no such class.
    """
    label = ignore if label is None else label
    if label is None:
        raise BadSpec("no class is ignored; write background=INDEX")
    if label >= classes:
        raise BadSpec(f"background={label}; expected a class from 0 to {classes - 1}")
    return label
