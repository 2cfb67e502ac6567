"""The probability store: maps of one member over one split; no other code knows them on disk.

A Zarr (version 3) array (image, class, row, col), unsharded, chunked by images; beside the
metadata in `store.json` or, by URL, in an object store. Each chunk has a crc32c and one writer.
Zarr writes; chunks are read by `members.chunks`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from zarr.codecs import BytesCodec, Crc32cCodec

from evaluation.core.blocks import BLOCK_IMAGES, blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadMaps, BadRun
from evaluation.core.types import Kept, Map
from members.chunks import (
    CHECKSUM_BYTES,
    STEPS_UINT8,
    ChunkFile,
    DamagedChunk,
    LocalChunks,
    RemoteChunks,
    copy_into,
)
from members.object_store import Unreachable
from members.probabilities import QUANTUM, check_maps
from members.store_metadata import META, Kind, StoreDtype, StoreMetadata, TrainingIds

Few = Float[np.ndarray, "_ class row col"]
"""Maps of some images; their number has no name, since the next may be fewer."""


class ProbabilityStore:
    """Maps of one member over one split, read and written by blocks of images."""

    def __init__(self, folder: Path) -> None:
        """Open a store for reading and writing; see `create` for a new one.

        Raises:
            BadRun: no such store, or one whose metadata cannot be read.
            Unreachable: it lies in an object store that does not answer, or refuses.
        """
        if not (folder / META).is_file():
            raise BadRun(f"{folder} holds no probability store; make it first")
        self.folder = folder
        try:
            self._catalogue = known = StoreMetadata.read(folder)
            self._chunks = LocalChunks(folder) if known.at is None else RemoteChunks(known.at)
            self._check_shape()
        except Unreachable:
            raise
        except Exception as error:  # Zarr raises what malformed metadata make it stumble over
            reason = " ".join(str(error).split())
            raise BadRun(f"{folder} is damaged ({reason}); remove it and make it again") from None
        self.ids, self.classes = known.ids, known.classes
        self.kind, self.label = known.kind, known.label
        self.dtype, self.seen = known.dtype, known.seen

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        ids: Sequence[str],
        classes: Classes,
        shape: tuple[int, int],
        seen: TrainingIds | None,
        kind: Kind = "probabilities",
        label: int | None = None,
        dtype: StoreDtype = "float16",
        at: str | None = None,
    ) -> "ProbabilityStore":
        """Create an empty store.

        Args:
            folder: where; created.
            ids: one an image, distinct.
            classes: what the class axis means.
            shape: rows and columns of an image, in pixels.
            seen: which images the models were trained on; None is *undeclared*.
            kind: what the values are.
            label: for `one_vs_rest`, the store's one class; the class axis has length 1.
            dtype: the type on disk. Worst rounding errors of a probability: float16 2.5e-4,
                uint8 2e-3, float32 3e-8.
            at: the URL for the array, which nothing else has; None puts it into the folder.

        Raises:
            BadMaps: ids repeat.
            Unreachable: the object store does not answer, or refuses.
        """
        if len(set(ids)) < len(ids):
            raise BadMaps(f"{folder.name}: ids repeat; expected distinct ids")
        folder.mkdir(parents=True, exist_ok=True)
        catalogue = StoreMetadata(tuple(ids), classes, kind, label, dtype, seen, at)
        header = {
            "shape": (len(ids), catalogue.depth, *shape),
            "chunks": (min(BLOCK_IMAGES, len(ids)), catalogue.depth, *shape),
            "dtype": dtype,
            "serializer": BytesCodec(),
            "compressors": [Crc32cCodec()],
            "dimension_names": ("image", "class", "row", "col"),
        }
        if at is None:
            LocalChunks.create(folder, **header)
        else:
            RemoteChunks.create(at, **header)
        catalogue.write(folder)
        return cls(folder)

    def __reduce__(self) -> tuple[type["ProbabilityStore"], tuple[Path]]:
        return ProbabilityStore, (self.folder,)  # another process opens it anew

    def _check_shape(self) -> None:
        """Hold the array's header against the other metadata, and against a chunk's weight."""
        known, array = self._catalogue, self._chunks.array
        _, _, rows, cols = array.shape
        length = min(BLOCK_IMAGES, len(known.ids))
        rest = (known.depth, rows, cols)
        expected = (len(known.ids), *rest), (length, *rest), known.dtype
        found = array.shape, array.chunks, str(array.dtype)
        if found != expected:
            raise ValueError(f"an array of {found}, expected {expected}")
        self._weight = int(np.prod(array.chunks, dtype=object)) * array.dtype.itemsize
        self._weight += CHECKSUM_BYTES
        if (one := self._chunks.one()) is not None and one[1] != self._weight:
            raise ValueError(f"{one[0]} weighs {one[1]} bytes, expected {self._weight}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    @property
    def name(self) -> str:
        """What errors call it: the member's folder and the split's."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Images, classes, rows, cols."""
        images, classes, rows, cols = self._chunks.array.shape
        return images, classes, rows, cols

    @property
    def floor(self) -> float:
        """Half the type's quantum: what takes logarithms raises smaller probabilities to it."""
        return QUANTUM[self.dtype] / 2

    def saw(self) -> Kept | None:
        """Tell whether a model behind an image's maps was trained on it; None is undeclared."""
        return None if self.seen is None else self.seen.mask(self.ids)

    def missing(self) -> list[slice]:
        """List the blocks of images that were not written whole yet."""
        return self._chunks.missing(blocks(len(self)))

    def clear(self) -> None:
        """Remove what a process was writing when it was killed."""
        self._chunks.clear()

    def write(self, block: slice, maps: Map) -> None:
        """Write the maps of one block, a whole chunk.

        Args:
            block: one of `blocks(len(store))`.
            maps: probabilities (image, class, row, col).

        Raises:
            BadMaps: NaN, values outside 0 to 1, sums that are not 1.
        """
        check_maps(maps, self.dtype, kind=self.kind)
        if self.dtype == "uint8":
            maps = np.rint(maps * STEPS_UINT8)
        self._chunks.write(block, maps.astype(self.dtype))

    def read(self, images: slice, room: Map | None = None) -> Map:
        """Read maps as float32 probabilities.

        Args:
            images: a slice of images with step 1.
            room: where to put them, contiguous; new memory where it is None.

        Raises:
            BadRun: a chunk that was never written, or whose checksum does not hold.
        """
        length = len(range(*images.indices(len(self))))
        maps: Map = np.empty((length, *self.size[1:]), np.float32) if room is None else room
        for _ in self.stream(images, [maps]):
            pass
        return maps

    def stream(
        self, images: slice, places: Sequence[Few], *, onto: Iterator[Few] | None = None
    ) -> Iterator[Few]:
        """Read maps place after place; see `MapReader`.

        The last place of a chunk is given only when the checksum of the chunk holds.

        Raises:
            BadRun: a chunk that was never written, or whose checksum does not hold.
        """
        at, stop, _ = images.indices(len(self))
        length: int = self._chunks.array.chunks[0]
        file: ChunkFile | None = None
        try:
            for place in places:
                if onto is not None:
                    copy_into(next(onto), place)
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
                f"{self.folder}: images from {at - at % length} on are damaged ({error});"
                " remove the folder and make it again"
            ) from None
        finally:
            if file:
                file.close()

    def _opened(self, image: int) -> ChunkFile:
        """Open the chunk of an image, there."""
        length, *shape = self._chunks.array.chunks
        number, before = divmod(image, length)
        values = int(np.prod(shape))
        file = ChunkFile(*self._chunks.open(number, self._weight), self.dtype, length * values)
        file.skip(before * values)
        return file
