"""Values that keep their kind: text is no number, true is not 1, and 1e1 is the integer 10."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError

KINDS = {bool: "boolean", int: "integer", float: "number"}
BOOLEAN_WORDS = ("true", "false")
"""Bare words of a spec that are read as booleans."""


def check_kind(given: Any, read: Any) -> None:
    """Refuse a value that pydantic has turned into another kind.

    Pydantic's own strict mode would also refuse a list for a tuple, and 10.0 for an integer.

    Args:
        given: as a user wrote it.
        read: what pydantic made of it.

    Raises:
        PydanticCustomError: a number from text or a boolean, or a boolean from something else.

    Examples:
        >>> check_kind([10.0, "a", "true"], (10, "a", True))
        >>> check_kind("10", 10)
        Traceback (most recent call last):
            ...
        pydantic_core._pydantic_core.PydanticCustomError: a valid integer
    """
    if isinstance(given, Mapping) and isinstance(read, Mapping):
        given, read = list(given.values()), list(read.values())
    if isinstance(given, list | tuple) and isinstance(read, list | tuple):
        for value, part in zip(given, read, strict=True):
            check_kind(value, part)
    elif isinstance(read, bool):
        if not isinstance(given, bool) and given not in BOOLEAN_WORDS:
            raise PydanticCustomError("kind", "a valid boolean")
    elif isinstance(read, int | float) and isinstance(given, bool | str):
        raise PydanticCustomError("kind", f"a valid {KINDS[type(read)]}")


class StrictModel(BaseModel):
    """A model that knows its keys, and whose values keep their kind and are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _check_kind(cls, given: Any, validate: Callable[[Any], Any]) -> Any:
        read = validate(given)
        check_kind(given, read)
        return read


def read_sides(value: Any) -> Any:
    """Read `256x256`, `256` or a list of rows and columns; for a field before its validation.

    Examples:
        >>> read_sides("64x128"), read_sides(256)
        ([64, 128], [256, 256])
    """
    if isinstance(value, str | int) and not isinstance(value, bool):
        sides = str(value).lower().split("x")
        if not all(side.isdecimal() for side in sides) or len(sides) > 2:
            raise PydanticCustomError("size", "rows and columns, such as 256x256")
        value = [int(sides[0]), int(sides[-1])]
    if value is not None and min(value, default=0) < 1:
        raise PydanticCustomError("size", "rows and columns of at least 1, such as 256x256")
    return value
