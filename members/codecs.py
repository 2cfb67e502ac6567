"""How a store keeps its values: `--store-dtype` by name, and what each loses.

A codec quantises probabilities, and may pack what it has quantised without loss.
"""

import functools
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from evaluation.core.errors import BadSpec, unknown
from members.probabilities import QUANTUM

COMPACT = "compact"
PLAIN = ("float16", "uint8", "float32")
KNOWN = (*PLAIN, COMPACT)

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
    """

    name: str
    dtype: str
    packed: bool = False

    @property
    def floor(self) -> float:
        """Half the smallest probability that is told from zero."""
        return QUANTUM[self.dtype] / 2

    @property
    def value_bytes(self) -> float:
        """Bytes that a probability takes, or may take where they are packed."""
        size = {"float16": 2.0, "uint8": 1.0, "float32": 4.0}[self.dtype]
        return size * PACKED_SHARE if self.packed else size


@functools.cache
def codec(name: str) -> Codec:
    """Return the codec of a name.

    Raises:
        BadSpec: unknown.

    Examples:
        >>> codec("compact").dtype, codec("float16").packed
        ('uint8', False)
    """
    if name == COMPACT:
        return Codec(name, "uint8", packed=True)
    if name in PLAIN:
        return Codec(name, name)
    raise BadSpec(unknown("store dtype", name, KNOWN))


def _known(name: str) -> str:
    try:
        return codec(name).name
    except BadSpec:
        raise PydanticCustomError("store_dtype", ", ".join(KNOWN)) from None


StoreDtype = Annotated[str, AfterValidator(_known)]
"""The name of a codec."""
