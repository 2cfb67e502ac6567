"""Zarr arrays from strangers: known codecs, chunks no larger than the array, packed or not."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from evaluation.ground.arrays import Array
from evaluation.ground.claims import DOCUMENT_BYTES
from evaluation.ground.errors import BadMaps
from evaluation.ground.files import read_json
from evaluation.ground.links import refuse_links_out
from members.foreign.bounded import FREE_BYTES, bounded

ZARR_FILES = ("zarr.json", ".zarray")
DOCUMENTS = (*ZARR_FILES, ".zattrs")
CODECS = frozenset(
    ("blosc", "bytes", "crc32", "crc32c", "gzip", "lz4", "shuffle", "transpose", "zlib", "zstd")
) | {"sharding_indexed"}
"""Of those that numcodecs registers, none that unpickles or makes objects."""


@dataclass(frozen=True)
class ZarrMaps:
    """A Zarr array that is read like one of NumPy.

    Args:
        path: of the array.
        array: opened.
    """

    path: Path
    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its values."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def ids(self) -> list[Any] | None:
        """Its attribute `ids`, where it is a list."""
        ids = self.array.attrs.get("ids")
        return ids if isinstance(ids, list) else None

    def __getitem__(self, places: Array) -> Array:
        """Read some pictures.

        Raises:
            BadMaps: a chunk that is damaged.
        """
        try:
            return np.asarray(self.array.oindex[places])
        except Exception as error:  # Zarr and each codec raise what they stumble over
            raise BadMaps(f"{self.path} is damaged ({_line(error)}); write it again") from None


def is_zarr(path: Path) -> bool:
    """Tell whether a folder says that it is a Zarr array."""
    return any((path / name).is_file() for name in ZARR_FILES)


def open_zarr(path: Path) -> ZarrMaps:
    """Open an array; nothing of its chunks is read yet.

    Raises:
        BadMaps: no array, a codec that is not known, or chunks larger than what they are part of.
        BadData: a link in it leads out.
    """
    refuse_links_out(path)
    refuse_heavy([path / name for name in DOCUMENTS], DOCUMENT_BYTES)
    document = read_json(next(path / name for name in ZARR_FILES if (path / name).is_file()))
    strange = sorted(set(_codecs(document)) - CODECS)
    if strange:
        raise BadMaps(
            f"{path} is packed by {strange[0]!r}; expected {', '.join(sorted(CODECS))}: write it"
            " again with Zarr's defaults"
        )
    try:
        opened = ZarrMaps(path, bounded(zarr.open_array(path, mode="r")))
        sides = opened.array.shards or opened.array.chunks
    except Exception as error:  # Zarr raises what malformed metadata make it stumble over
        raise BadMaps(
            f"{path} is no readable Zarr array ({_line(error)}); write it again"
        ) from None
    size, chunk = opened.dtype.itemsize, math.prod(sides)
    inside = math.prod(map(min, sides, opened.shape))
    if chunk * size > max(inside * size, FREE_BYTES):
        raise BadMaps(
            f"{path} claims chunks of {chunk} values, of {math.prod(opened.shape)} in all; write it"
            " again with chunks of a few pictures"
        )
    refuse_heavy(path.rglob("*"), 2 * chunk * size + FREE_BYTES)
    return opened


def refuse_heavy(files: Iterable[Path], most: int) -> None:
    """Refuse files that would be read whole and weigh more than they can have to.

    Raises:
        BadMaps: there is one.
    """
    for file in files:
        if file.is_file() and file.stat().st_size > most:
            raise BadMaps(
                f"{file} weighs {file.stat().st_size} bytes; expected {most} at most: write it"
                " again with chunks of a few pictures"
            )


def _codecs(document: Any) -> Iterator[str]:
    """Name the codecs of an array in version 2 or 3, those inside of shards too."""
    if not isinstance(document, dict):
        return
    for key in ("codecs", "index_codecs", "compressor", "filters"):
        found = document.get(key) or []
        for codec in found if isinstance(found, list) else [found]:
            inside = codec if isinstance(codec, dict) else {"name": codec}
            yield str(inside.get("id", inside.get("name")))
            yield from _codecs(inside.get("configuration"))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
