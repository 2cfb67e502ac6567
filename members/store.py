"""The probability store: maps of one member over one split; no other code knows them on disk.

A Zarr (version 3) array (image, class, row, col), unsharded, chunked by images, next to the
metadata in `store.json` or, by URL, in an object store. Each chunk has a crc32c and one writer.
Zarr writes; chunks are read by `members.chunks`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.blocks import BLOCK_IMAGES, blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadMaps, BadRun
from evaluation.core.files import atomic_folder
from evaluation.core.provenance import record
from evaluation.core.types import Kept, Map
from members.chunks import (
    CHECKSUM_BYTES,
    ChunkFile,
    DamagedChunk,
    LocalChunks,
    RemoteChunks,
    copy_into,
)
from members.maps import MapReader, MapsSize, SmallBatch
from members.object_store import Unreachable
from members.probabilities import QUANTUM, STEPS_UINT8, check_maps
from members.store_metadata import META, Kind, StoreDtype, StoreMetadata, TrainingIds


class ProbabilityStore(MapReader):
    """Maps of one member over one split, read and written by blocks of images.

    Opens a store that exists; see `create` and `writing` for new ones.

    Raises:
        BadRun: no such store, or one whose metadata cannot be read.
        Unreachable: it is in an object store that does not answer, or refuses.
    """

    ids: tuple[str, ...]
    classes: Classes

    def __init__(self, folder: Path) -> None:
        if not (folder / META).is_file():
            raise BadRun(f"{folder} holds no probability store; make it first")
        self.folder, self.name = folder, f"{folder.parent.name}/{folder.name}"
        try:
            metadata = StoreMetadata.read(folder)
            self._chunks = (
                LocalChunks(folder) if metadata.url is None else RemoteChunks(metadata.url)
            )
            self._chunk_bytes = _check_array(self._chunks, metadata)
        except (Unreachable, ImportError):
            raise
        except Exception as error:  # Zarr raises anything on malformed metadata
            reason = " ".join(str(error).split())
            raise BadRun(f"{folder} is damaged ({reason}); remove it and make it again") from None
        self.ids, self.classes = metadata.ids, metadata.classes
        self.kind, self.label = metadata.kind, metadata.label
        self.dtype, self.seen = metadata.dtype, metadata.seen

    @classmethod
    @contextmanager
    def writing(
        cls,
        folder: Path,
        *,
        config: Mapping[str, Any],
        input_digests: Mapping[str, str],
        info: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> Iterator["ProbabilityStore"]:
        """Give an empty store to fill; on a clean exit it gets its provenance, then its name.

        After an error nothing is left in `folder`, or what was there before.

        Args:
            folder: of the store; an older store there is replaced.
            config: what was asked for: specs, seed, options; JSON values.
            input_digests: digest of each input, by name.
            info: further facts that are no part of the result's identity; JSON values.
            metadata: `ids`, `classes`, `shape`, `seen` and so on; see `create`.

        Examples:
            >>> import tempfile
            >>> from evaluation.core.classes import numbered
            >>> folder = Path(tempfile.mkdtemp()) / "unet" / "oof"
            >>> about = {"ids": ["a"], "classes": numbered(2, ignore=None), "seen": None}
            >>> maps = np.full((1, 2, 4, 4), 0.5, np.float32)
            >>> with ProbabilityStore.writing(
            ...     folder, config={"member": "unet"}, input_digests={}, shape=(4, 4), **about
            ... ) as store:
            ...     store.write(slice(0, 1), maps)
            >>> ProbabilityStore(folder).size
            (1, 2, 4, 4)
        """
        with atomic_folder(folder) as partial:
            yield cls.create(partial, **metadata)
            record(partial, asked=config, inputs=input_digests, info=info)

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
        url: str | None = None,
    ) -> "ProbabilityStore":
        """Create an empty store.

        Args:
            folder: of the store; created.
            ids: one per image, distinct.
            classes: what the class axis means.
            shape: rows and columns of an image, in pixels.
            seen: which images the models were trained on; None is *undeclared*.
            kind: what the values are.
            label: for `one_vs_rest`, the store's one class; the class axis has length 1.
            dtype: the type on disk. Worst rounding errors of a probability: float16 2.5e-4,
                uint8 2e-3, float32 3e-8.
            url: where the array is put, which nothing else may use; None puts it into the folder.

        Raises:
            BadMaps: ids repeat.
            Unreachable: the object store does not answer, or refuses.
        """
        from zarr.codecs import BytesCodec, Crc32cCodec

        if len(set(ids)) < len(ids):
            raise BadMaps(f"{folder.name}: ids repeat; expected distinct ids")
        folder.mkdir(parents=True, exist_ok=True)
        metadata = StoreMetadata(tuple(ids), classes, kind, label, dtype, seen, url)
        header = {
            "shape": (len(ids), metadata.num_channels, *shape),
            "chunks": (min(BLOCK_IMAGES, len(ids)), metadata.num_channels, *shape),
            "dtype": dtype,
            "serializer": BytesCodec(),
            "compressors": [Crc32cCodec()],
            "dimension_names": ("image", "class", "row", "col"),
        }
        if url is None:
            LocalChunks.create(folder, **header)
        else:
            RemoteChunks.create(url, **header)
        metadata.write(folder)
        return cls(folder)

    def __reduce__(self) -> tuple[type["ProbabilityStore"], tuple[Path]]:
        return ProbabilityStore, (self.folder,)  # another process reopens it

    @property
    def size(self) -> MapsSize:
        """Images, classes, rows, cols."""
        images, classes, rows, cols = self._chunks.array.shape
        return images, classes, rows, cols

    @property
    def floor(self) -> float:
        """Half the type's quantum."""
        return QUANTUM[self.dtype] / 2

    def trained_on_mask(self) -> Kept | None:
        """Return, per image, whether a model was trained on it; None is undeclared."""
        return None if self.seen is None else self.seen.mask(self.ids)

    def missing_blocks(self) -> list[slice]:
        """List the blocks of images that were not written whole yet."""
        return self._chunks.missing_blocks(blocks(len(self)))

    def discard_partial(self) -> None:
        """Remove what a process was writing when it was killed."""
        self._chunks.discard_partial()

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

    def stream(
        self,
        images: slice,
        outs: Sequence[SmallBatch],
        *,
        accumulate_into: Iterator[SmallBatch] | None = None,
    ) -> Iterator[SmallBatch]:
        """Read images in small batches; see `MapReader.stream`.

        The last batch of a chunk is given only once the chunk's checksum is verified.

        Raises:
            BadRun: a chunk that was never written, or whose checksum does not match.
        """
        position, stop, _ = images.indices(len(self))
        length: int = self._chunks.array.chunks[0]
        file: ChunkFile | None = None
        try:
            for out in outs:
                if accumulate_into is not None:
                    copy_into(next(accumulate_into), out)
                rest = out
                while len(rest):
                    end = min(stop, position - position % length + length)
                    file = file or self._open_chunk(position)
                    now, rest = rest[: end - position], rest[end - position :]
                    file.read_into(now, add=accumulate_into is not None)
                    if position + len(now) == end:
                        file.finish()
                        file = None
                    position += len(now)
                yield out
        except (DamagedChunk, OSError) as error:
            first = position - position % length
            raise BadRun(
                f"{self.folder}: images from {first} on are damaged ({error});"
                " remove the folder and make it again"
            ) from None
        finally:
            if file:
                file.close()

    def _open_chunk(self, image: int) -> ChunkFile:
        """Open the chunk that holds an image, positioned at the image."""
        length, *shape = self._chunks.array.chunks
        number, before = divmod(image, length)
        values = int(np.prod(shape))
        opened = self._chunks.open(number, self._chunk_bytes)
        file = ChunkFile(*opened, self.dtype, length * values)
        file.skip(before * values)
        return file


def _check_array(chunks: LocalChunks | RemoteChunks, metadata: StoreMetadata) -> int:
    """Compare the array's header with the metadata and with a chunk; return bytes per chunk."""
    array, images, channels = chunks.array, len(metadata.ids), metadata.num_channels
    _, _, rows, cols = array.shape
    shape, chunk = ((n, channels, rows, cols) for n in (images, min(BLOCK_IMAGES, images)))
    actual, expected = (
        (array.shape, array.chunks, str(array.dtype)),
        (shape, chunk, metadata.dtype),
    )
    if actual != expected:
        raise ValueError(f"an array of {actual}, expected {expected}")
    size: int = math.prod(chunk) * array.dtype.itemsize + CHECKSUM_BYTES
    sample = chunks.sample_chunk()
    if sample is not None and sample[1] != size:
        raise ValueError(f"{sample[0]} is {sample[1]} bytes, expected {size}")
    return size
