"""How a store keeps its values: `--store-dtype` by name, and what each loses.

A codec quantises probabilities, and may pack what it has quantised without loss.
"""

import functools
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from evaluation.core.errors import BadSpec, shorten, unknown
from evaluation.core.specs import parse_spec
from members.probabilities import QUANTUM, STEPS_UINT8

PLAIN = {"float16": 2.0, "uint8": 1.0, "float32": 4.0}
"""Bytes of a value, by codec."""

COMPACT, TOPK = "compact", "topk"
KNOWN = (*PLAIN, COMPACT, f"{TOPK}(k=4)")
TOP_CLASSES, MOST_TOP_CLASSES = 4, 8
MIN_CLASSES = 16
"""Of maps that are kept by their largest classes: of fewer, `compact` loses less."""

PACKED_SHARE = 0.5
"""Bytes that packing leaves of each, at most, of maps of the networks that were measured; what
`ens plan` counts with. See docs/decisions/0022-smaller-stores.md."""


@dataclass(frozen=True)
class Codec:
    """What a store's values are on disk.

    Args:
        name: as in `--store-dtype` and `store.json`.
        dtype: of the values: floating point, or uint8 for probabilities scaled by 255.
        packed: whether chunks are packed by `members.packed_chunks`.
        k: how many of a pixel's classes are kept, the largest; None keeps all.
    """

    name: str
    dtype: str
    packed: bool = False
    k: int | None = None

    def channels(self, classes: int) -> int:
        """Return the length of the class axis of the stored array: two planes per kept class."""
        return classes if self.k is None else 2 * self.k

    def floor(self, classes: int) -> float:
        """Return half the smallest probability that differs from zero."""
        quantum = QUANTUM[self.dtype]
        if self.k is not None:
            quantum = 1 / (STEPS_UINT8 * (classes - 1))
        return quantum / 2

    def value_bytes(self, classes: int) -> float:
        """Return the bytes that a probability takes, or may take where they are packed."""
        size = PLAIN[self.dtype] * self.channels(classes) / classes
        return size * PACKED_SHARE if self.packed else size

    def check_classes(self, classes: int) -> None:
        """Check that maps of so many classes can be kept.

        Raises:
            BadSpec: too few classes.
        """
        if self.k is not None and classes < MIN_CLASSES:
            raise BadSpec(
                f"store dtype {self.name} got maps of {classes} classes; expected {MIN_CLASSES} or"
                f" more: take {COMPACT}"
            )


@functools.cache
def codec(name: str) -> Codec:
    """Return the codec of a name.

    Raises:
        BadSpec: unknown, or an option out of range.

    Examples:
        >>> codec("compact").dtype, codec("float16").packed, codec("topk").name
        ('uint8', False, 'topk(k=4)')
    """
    spec = parse_spec(name)
    if spec.name == TOPK and not spec.arguments and set(spec.options) <= {"k"}:
        k = spec.options.get("k", TOP_CLASSES)
        if type(k) is not int or not 1 <= k <= MOST_TOP_CLASSES:
            raise BadSpec(
                f"store dtype {TOPK} got k={shorten(k)}; expected 1 to {MOST_TOP_CLASSES}"
            )
        return Codec(f"{TOPK}(k={k})", "uint8", packed=True, k=k)
    if name == COMPACT:
        return Codec(name, "uint8", packed=True)
    if name in PLAIN:
        return Codec(name, name)
    raise BadSpec(unknown("store dtype", name, KNOWN))


def _known(name: str) -> str:
    try:
        return codec(name).name
    except BadSpec:
        expected = f"{', '.join(KNOWN)} (k from 1 to {MOST_TOP_CLASSES})"
        raise PydanticCustomError("store_dtype", expected) from None


StoreDtype = Annotated[str, AfterValidator(_known)]
"""The name of a codec."""
