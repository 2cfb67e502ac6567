"""The probability store: maps of one member over one split; no other code knows them on disk.

A Zarr (version 3) array (picture, class, row, col), unsharded, chunked by pictures. Each chunk has
a crc32c and one writer; a marker file says that it was written whole, since a chunk that was never
written reads as zeros in Zarr. Metadata lie in `store.json` beside the array. Zarr writes; chunks
are read by `members.chunks`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from jaxtyping import Float
from zarr.codecs import BytesCodec, Crc32cCodec

from evaluation.ground.arrays import Kept, Map
from evaluation.ground.blocks import BLOCK_PICTURES, blocks
from evaluation.ground.classes import Classes
from evaluation.ground.errors import BadMaps, BadRun
from evaluation.ground.files import read_json, write_json
from members.chunks import CHECKSUM_BYTES, STEPS_UINT8, ChunkFile, DamagedChunk, put

StoreDtype = Literal["float16", "uint8", "float32"]
Kind = Literal["probabilities", "one_vs_rest", "logits"]

Few = Float[np.ndarray, "_ class row col"]
"""Maps of some pictures; their number has no name, since the next may be fewer."""

MAPS, META, DONE = "maps.zarr", "store.json", "done"

# The smallest step above zero in each type (float32: of a softmax); logarithms floor at half.
QUANTUM = {"float16": 2.0**-24, "uint8": 1 / STEPS_UINT8, "float32": 2.0**-24}


def sum_tolerance(dtype: str, classes: int) -> float:
    """Return how far the sum of a pixel's probabilities may lie from 1 in this type."""
    if dtype == "uint8":
        return classes / (2 * STEPS_UINT8) + 1e-3
    return 5e-3 if dtype == "float16" else 1e-4


def check_maps(maps: Map, dtype: str, *, kind: str = "probabilities") -> None:
    """Refuse maps that hold NaN, leave 0 to 1, or do not sum to 1.

    Args:
        maps: (picture, class, row, col), already scaled to probabilities.
        dtype: the type they were stored in, which says how far a sum may be off.
        kind: sums are looked at for `probabilities` only.

    Raises:
        BadMaps: the first thing found.
    """
    if not np.isfinite(maps).all():
        count = int((~np.isfinite(maps)).sum())
        first = int((~np.isfinite(maps)).reshape(len(maps), -1).any(axis=1).argmax())
        raise BadMaps(
            f"{count} values are NaN or infinite (first in picture {first} of {len(maps)} looked"
            " at); expected probabilities from 0 to 1: predict again, in float32 if they overflowed"
        )
    low, high = float(maps.min()), float(maps.max())
    if low < 0 or high > 1 + 1e-3:
        raise BadMaps(f"values go from {low:.3g} to {high:.3g}; expected probabilities from 0 to 1")
    if kind == "probabilities":
        sums = maps.sum(axis=1)
        worst = sums.flat[np.abs(sums - 1).argmax()]
        if abs(worst - 1) > sum_tolerance(dtype, maps.shape[1]):
            raise BadMaps(f"a pixel's classes sum to {worst:.4g}; expected 1")


@dataclass(frozen=True)
class Seen:
    """Which pictures the models behind the maps were trained on.

    Args:
        models: ids of the training pictures of each model.
        model: for each picture of the store, the index of the one model that made its maps;
            None where each picture's maps come from all models together.
    """

    models: tuple[frozenset[str], ...]
    model: tuple[int, ...] | None = None

    def mask(self, ids: Sequence[str]) -> Kept:
        """Tell for each picture whether a model behind its maps was trained on it."""
        if self.model is None:
            everything = frozenset().union(*self.models)
            return np.array([name in everything for name in ids], dtype=bool)
        pairs = zip(ids, self.model, strict=True)
        return np.array([name in self.models[model] for name, model in pairs], dtype=bool)


class ProbabilityStore:
    """Maps of one member over one split, read and written by blocks of pictures."""

    def __init__(self, folder: Path) -> None:
        """Open a store for reading and writing; see `create` for a new one.

        Raises:
            BadRun: no such store.
            BadData: its metadata cannot be read.
        """
        if not (folder / META).is_file():
            raise BadRun(f"{folder} holds no probability store; make it first")
        self.folder = folder
        meta = read_json(folder / META)
        try:
            self.ids: tuple[str, ...] = tuple(meta["ids"])
            self.classes = Classes.from_document(meta["classes"])
            self.kind: Kind = meta["kind"]
            self.label: int | None = meta["label"]
            self.dtype: StoreDtype = meta["dtype"]
            seen = meta["seen"]
            self.seen = seen and Seen(
                tuple(frozenset(ids) for ids in seen["models"]),
                None if seen["model"] is None else tuple(seen["model"]),
            )
            self._array: Any = zarr.open_array(folder / MAPS, mode="r+")
            self._check_shape()
        except Exception as error:  # Zarr raises what malformed metadata make it stumble over
            reason = " ".join(str(error).split())
            raise BadRun(f"{folder} is damaged ({reason}); remove it and make it again") from None
        # Zarr leaves chunks of zeros out, which would then look like lost ones.
        self._array = self._array.with_config({"write_empty_chunks": True})

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        ids: Sequence[str],
        classes: Classes,
        shape: tuple[int, int],
        seen: Seen | None,
        kind: Kind = "probabilities",
        label: int | None = None,
        dtype: StoreDtype = "float16",
    ) -> "ProbabilityStore":
        """Create an empty store.

        Args:
            folder: where; created.
            ids: one a picture, distinct.
            classes: what the class axis means.
            shape: rows and columns of a picture, in pixels.
            seen: which pictures the models were trained on; None is *undeclared*.
            kind: what the values are.
            label: for `one_vs_rest`, the store's one class; the class axis has length 1.
            dtype: the type on disk. Worst rounding errors of a probability: float16 2.5e-4,
                uint8 2e-3, float32 3e-8.
        """
        if len(set(ids)) < len(ids):
            raise BadMaps(f"{folder.name}: ids repeat; expected distinct ids")
        folder.mkdir(parents=True, exist_ok=True)
        depth = len(classes) if label is None else 1
        zarr.create_array(
            folder / MAPS,
            shape=(len(ids), depth, *shape),
            chunks=(min(BLOCK_PICTURES, len(ids)), depth, *shape),
            dtype=dtype,
            serializer=BytesCodec(),
            compressors=[Crc32cCodec()],
            dimension_names=("picture", "class", "row", "col"),
            overwrite=True,
        )
        (folder / DONE).mkdir(exist_ok=True)
        write_json(
            folder / META,
            {
                "ids": list(ids),
                "classes": classes.document(),
                "kind": kind,
                "label": label,
                "dtype": dtype,
                "seen": seen
                and {
                    "models": [sorted(model) for model in seen.models],
                    "model": seen.model and list(seen.model),
                },
            },
        )
        return cls(folder)

    def __reduce__(self) -> tuple[type["ProbabilityStore"], tuple[Path]]:
        return ProbabilityStore, (self.folder,)  # another process opens it anew

    def _check_shape(self) -> None:
        """Hold the array's header against the other metadata, and against a chunk's weight."""
        _, _, rows, cols = self._array.shape
        depth = len(self.classes) if self.label is None else 1
        length = min(BLOCK_PICTURES, len(self.ids))
        expected = (len(self.ids), depth, rows, cols), (length, depth, rows, cols), self.dtype
        found = self._array.shape, self._array.chunks, str(self._array.dtype)
        if found != expected:
            raise ValueError(f"an array of {found}, expected {expected}")
        chunk = next((self.folder / MAPS / "c").glob("*/0/0/0"), None)
        weight = length * depth * rows * cols * self._array.dtype.itemsize + CHECKSUM_BYTES
        if chunk is not None and chunk.stat().st_size != weight:
            raise ValueError(f"{chunk} weighs {chunk.stat().st_size} bytes, expected {weight}")

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.ids)

    @property
    def name(self) -> str:
        """What errors call it: the member's folder and the split's."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Pictures, classes, rows, cols."""
        pictures, classes, rows, cols = self._array.shape
        return pictures, classes, rows, cols

    @property
    def floor(self) -> float:
        """Half the type's quantum: what takes logarithms raises smaller probabilities to it."""
        return QUANTUM[self.dtype] / 2

    def saw(self) -> Kept | None:
        """Tell whether a model behind a picture's maps was trained on it; None is undeclared."""
        return None if self.seen is None else self.seen.mask(self.ids)

    def missing(self) -> list[slice]:
        """List the blocks of pictures that were not written whole yet."""
        done = self.folder / DONE
        return [b for b in blocks(len(self)) if not (done / str(b.start)).exists()]

    def clear(self) -> None:
        """Remove chunks that a process was writing when it was killed; Zarr would leave them."""
        for left in (self.folder / MAPS).rglob("*.partial"):
            left.unlink()

    def write(self, block: slice, maps: Map) -> None:
        """Write the maps of one block, a whole chunk.

        Args:
            block: one of `blocks(len(store))`.
            maps: probabilities (picture, class, row, col).

        Raises:
            BadMaps: NaN, values outside 0 to 1, sums that are not 1.
        """
        check_maps(maps, self.dtype, kind=self.kind)
        if self.dtype == "uint8":
            maps = np.rint(maps * STEPS_UINT8)
        self._array[block] = maps.astype(self.dtype)
        (self.folder / DONE / str(block.start)).touch()

    def read(self, pictures: slice, room: Map | None = None) -> Map:
        """Read maps as float32 probabilities.

        Args:
            pictures: a slice of pictures with step 1.
            room: where to put them, contiguous; new memory where it is None.

        Raises:
            BadRun: a chunk that was never written, or whose checksum does not hold.
        """
        length = len(range(*pictures.indices(len(self))))
        maps: Map = np.empty((length, *self.size[1:]), np.float32) if room is None else room
        for _ in self.stream(pictures, [maps]):
            pass
        return maps

    def stream(
        self, pictures: slice, places: Sequence[Few], *, onto: Iterator[Few] | None = None
    ) -> Iterator[Few]:
        """Read maps place after place; see `MapReader`.

        The last place of a chunk is given only when the checksum of the chunk holds.

        Raises:
            BadRun: a chunk that was never written, or whose checksum does not hold.
        """
        at, stop, _ = pictures.indices(len(self))
        length: int = self._array.chunks[0]
        file: ChunkFile | None = None
        try:
            for place in places:
                if onto is not None:
                    put(next(onto), place)
                rest = place
                while len(rest):
                    end = min(stop, at - at % length + length)
                    file = file or self._opened(at)
                    now, rest = rest[: end - at], rest[end - at :]
                    file.read_into(now, add=onto is not None)
                    if at + len(now) == end:
                        file.finish()
                        file = None
                    at += len(now)
                yield place
        except (DamagedChunk, OSError) as error:
            raise BadRun(
                f"{self.folder}: pictures from {at - at % length} on are damaged ({error});"
                " remove the folder and make it again"
            ) from None
        finally:
            if file:
                file.close()

    def _opened(self, picture: int) -> ChunkFile:
        """Open the chunk of a picture, there."""
        length, *shape = self._array.chunks
        number, before = divmod(picture, length)
        if not (self.folder / DONE / str(picture - before)).exists():
            raise BadRun(
                f"{self.folder}: pictures from {picture - before} on are missing; run again"
            )
        values = int(np.prod(shape))
        path = self.folder.joinpath(MAPS, "c", str(number), "0", "0", "0")
        file = ChunkFile(path, self.dtype, length * values)
        file.skip(before * values)
        return file
