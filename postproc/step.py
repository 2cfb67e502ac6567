"""What a post-processing step is: one operation on a block of pictures, of a declared kind.

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
from evaluation.core.types import Pictures

Kind = Literal["maps", "labels"]
Again = Literal["more", "nothing", "merges"]


@dataclass(frozen=True)
class Step:
    """One operation: maps to maps, maps to labels, or labels to labels.

    Args:
        takes: what it works on: maps (picture, class, row, col) that sum to 1, or label maps
            (picture, row, col), uint8.
        gives: what comes out, of the same pictures.
        apply: the operation on (maps or labels, pictures). It treats each picture of the block as
            if it were alone, leaves what it is given unchanged, and may run in several threads.
        needs_pictures: whether it looks at the pictures; otherwise they may be None.
        again: what it does right after itself: `more`; `nothing`, done twice is done once; or it
            `merges`, and two are one with other options. Chains refuse what has no sense.
    """

    takes: Kind
    gives: Kind
    apply: Callable[[Any, Pictures | None], Any]
    needs_pictures: bool = False
    again: Again = "more"

    def __post_init__(self) -> None:
        """Look that labels are not turned back into maps."""
        assert (self.takes, self.gives) != ("labels", "maps")


# The number of pictures has no name here, since the last block may be shorter.
class FitBlock(NamedTuple):
    """Some pictures to learn from.

    Args:
        maps: what the steps before gave, of pictures that the member was not trained on.
        truth: class index per pixel; 255 where nothing is to be learned.
    """

    maps: Float[np.ndarray, "_ class row col"]
    truth: Integer[np.ndarray, "_ row col"]


@dataclass(frozen=True)
class Learned:
    """A step on maps that must learn first.

    Args:
        gives: what comes out once it has learned.
        fit: takes blocks of pictures, which it may go through several times, and returns the spec
            of the step that it has become. So what was learned is saved, read and typed as any
            other step is.
        again: see `Step`.
    """

    gives: Kind
    fit: Callable[[Iterable[FitBlock]], Spec]
    takes: Kind = "maps"
    needs_pictures: bool = False
    again: Again = "more"


Area = Annotated[int, Field(ge=1)]
Only = list[Annotated[int, Field(ge=0)]] | None


def areas(option: str, value: Area | list[Area], classes: int) -> Int[np.ndarray, " class"]:
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


def chosen(only: Only, classes: int) -> list[int]:
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
