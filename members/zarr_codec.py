"""The codec of packed chunks for Zarr itself, which finds it by its entry point."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec

from members.chunks import BIT_PLANES
from members.packed_chunks import pack_maps, unpack_maps


@dataclass(frozen=True)
class BitPlanes(ArrayBytesCodec):  # type: ignore[type-arg, unused-ignore]
    """Maps (image, class, row, col) of bytes, packed without loss; see bit_planes.h."""

    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: Any) -> "BitPlanes":
        """Return the codec; it has no configuration."""
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """Return what an array's header says."""
        return {"name": BIT_PLANES}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Raise: Zarr asks for the size of shards, which packed chunks cannot be part of."""
        raise NotImplementedError("the size of packed maps depends on their values")

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        packed = np.asarray(chunk_bytes.as_array_like()).view(np.uint8)
        values = unpack_maps(packed, chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(values)

    async def _encode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        packed = pack_maps(np.asarray(chunk_array.as_ndarray_like()))
        return chunk_spec.prototype.buffer.from_array_like(packed)
