"""Sides of square windows that have a middle."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MAX_SIZE = 255


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise PydanticCustomError("odd", "an odd number of pixels")
    return size


OddSize = Annotated[int, Field(ge=1, le=MAX_SIZE), AfterValidator(_odd)]
