"""Options that several steps share."""

from typing import Annotated

import numpy as np
from jaxtyping import Int
from pydantic import Field

from evaluation.ground.errors import BadSpec

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
