"""What a post-processing step is: one operation on a block of images, of a declared kind.

Options that several steps share.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer
from pydantic import Field

from evaluation.core.errors import BadSpec
from evaluation.core.specs import Spec
from evaluation.core.types import Images

Kind = Literal["maps", "labels"]
Again = Literal["more", "nothing", "merges"]


@dataclass(frozen=True)
class Step:
    """One operation: maps to maps, maps to labels, or labels to labels.

    Args:
        takes: what it works on: maps (image, class, row, col) that sum to 1, or label maps
            (image, row, col), uint8.
        gives: what comes out, of the same images.
        apply: the operation on (maps or labels, images). It treats each image of the block as
            if it were alone, leaves what it is given unchanged, and may run in several threads.
        needs_images: whether it looks at the images; otherwise they may be None.
        again: what it does right after itself: `more`; `nothing`, done twice is done once; or it
            `merges`, and two are one with other options. Chains refuse what has no sense.
    """

    takes: Kind
    gives: Kind
    apply: Callable[[Any, Images | None], Any]
    needs_images: bool = False
    again: Again = "more"

    def __post_init__(self) -> None:
        """Look that labels are not turned back into maps."""
        assert (self.takes, self.gives) != ("labels", "maps")


# The number of images has no name here, since the last block may be shorter.
class FitBlock(NamedTuple):
    """Some images to learn from.

    Args:
        maps: what the steps before gave, of images that the member was not trained on.
        target: class index per pixel; 255 where nothing is to be learned.
    """

    maps: Float[np.ndarray, "_ class row col"]
    target: Integer[np.ndarray, "_ row col"]


@dataclass(frozen=True)
class LearnedStep:
    """A step on maps that must learn first.

    Args:
        gives: what comes out once it has learned.
        fit: takes blocks of images, which it may go through several times, and returns the spec
            of the step that it has become. So what was learned is saved, read and typed as any
            other step is.
        again: see `Step`.
    """

    gives: Kind
    fit: Callable[[Iterable[FitBlock]], Spec]
    takes: Kind = "maps"
    needs_images: bool = False
    again: Again = "more"


Area = Annotated[int, Field(ge=1)]
Only = list[Annotated[int, Field(ge=0)]] | None


def parse_areas(option: str, value: Area | list[Area], classes: int) -> Int[np.ndarray, " class"]:
    """Return an area for each class, given one for all or one a class.

    Raises:
        BadSpec: another number of them than there are classes.
    """
    if isinstance(value, int):
        return np.full(classes, value)
    if len(value) != classes:
        raise BadSpec(
            f"{option} has {len(value)} numbers; expected {classes}, one a class, or one number"
        )
    return np.array(value)


def parse_classes(only: Only, classes: int) -> list[int]:
    """Return the classes that a step works on, lowest first; all of them where none are given.

    Raises:
        BadSpec: a class that there is not, or an empty list.
    """
    if only is None:
        return list(range(classes))
    strange = [label for label in only if label >= classes]
    if strange or not only:
        raise BadSpec(f"only={strange or only}; expected classes from 0 to {classes - 1}")
    return sorted(set(only))
