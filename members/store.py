"""The probability store: maps of one member over one split; no other code knows them on disk.

A Zarr (version 3) array (image, class, row, col) for the images of each size, unsharded, chunked by
images, next to the metadata in `store.json` or, by URL, in an object store. Each chunk has a crc32c
and one writer. Zarr writes; chunks are read by `members.chunks`.
"""

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadMaps, BadRun
from evaluation.core.files import atomic_folder
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent, Size, block_images
from evaluation.core.types import Kept, Map
from members.chunks import (
    CHECKSUM_BYTES,
    ChunkFile,
    DamagedChunk,
    LocalChunks,
    RemoteChunks,
    copy_into,
)
from members.maps import MapReader, SmallBatch
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
        with self._damage_named():
            metadata = StoreMetadata.read(folder)
            if len(metadata.ids) != len(metadata.extent):
                raise ValueError(f"{len(metadata.ids)} ids for {len(metadata.extent)} images")
        self._metadata = metadata
        self._runs = list(metadata.extent.slices())
        self._parts: dict[int, _StorePart] = {}
        self.ids, self.classes = metadata.ids, metadata.classes
        self.kind, self.label = metadata.kind, metadata.label
        self.dtype, self.seen = metadata.dtype, metadata.seen
        self._part(0)

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
            metadata: `ids`, `classes`, `extent`, `seen` and so on; see `create`.

        Examples:
            >>> import tempfile
            >>> from evaluation.core.classes import numbered
            >>> folder = Path(tempfile.mkdtemp()) / "unet" / "oof"
            >>> about = {"ids": ["a"], "classes": numbered(2, ignore=None), "seen": None}
            >>> maps = np.full((1, 2, 4, 4), 0.5, np.float32)
            >>> about["extent"] = Extent.uniform(1, (4, 4))
            >>> with ProbabilityStore.writing(
            ...     folder, config={"member": "unet"}, input_digests={}, **about
            ... ) as store:
            ...     store.write(slice(0, 1), maps)
            >>> len(ProbabilityStore(folder))
            1
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
        extent: Extent,
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
            extent: number and sizes of the images.
            seen: which images the models were trained on; None is *undeclared*.
            kind: what the values are.
            label: for `one_vs_rest`, the store's one class; the class axis has length 1.
            dtype: the type on disk. Worst rounding errors of a probability: float16 2.5e-4,
                uint8 2e-3, float32 3e-8.
            url: where the arrays are put, which nothing else may use; None puts it into the folder.

        Raises:
            BadMaps: ids repeat.
            Unreachable: the object store does not answer, or refuses.
        """
        from zarr.codecs import BytesCodec, Crc32cCodec

        if len(set(ids)) < len(ids):
            raise BadMaps(f"{folder.name}: ids repeat; expected distinct ids")
        folder.mkdir(parents=True, exist_ok=True)
        metadata = StoreMetadata(tuple(ids), classes, kind, label, dtype, seen, extent, url)
        for run, size in extent.slices():
            count = run.stop - run.start
            header = {
                "shape": (count, metadata.num_channels, *size),
                "chunks": (min(block_images(size), count), metadata.num_channels, *size),
                "dtype": dtype,
                "serializer": BytesCodec(),
                "compressors": [Crc32cCodec()],
                "dimension_names": ("image", "class", "row", "col"),
            }
            if url is None:
                LocalChunks.create(_part_folder(folder, extent, run), **header)
            else:
                RemoteChunks.create(_part_url(url, extent, run), **header)
        metadata.write(folder)
        return cls(folder)

    def __reduce__(self) -> tuple[type["ProbabilityStore"], tuple[Path]]:
        return ProbabilityStore, (self.folder,)  # another process reopens it

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return self._metadata.extent

    @property
    def num_classes(self) -> int:
        """Length of the class axis; 1 for a specialist."""
        return self._metadata.num_channels

    @property
    def floor(self) -> float:
        """Half the type's quantum."""
        return QUANTUM[self.dtype] / 2

    def trained_on_mask(self) -> Kept | None:
        """Return, per image, whether a model was trained on it; None is undeclared."""
        return None if self.seen is None else self.seen.mask(self.ids)

    def missing_blocks(self) -> list[slice]:
        """List the blocks of images that were not written whole yet."""
        missing = []
        for part in self._all_parts():
            inside = part.chunks.missing_blocks(blocks(part.count, part.chunk_images))
            missing += [slice(part.start + b.start, part.start + b.stop) for b in inside]
        return missing

    def discard_partial(self) -> None:
        """Remove what a process was writing when it was killed."""
        for part in self._all_parts():
            part.chunks.discard_partial()

    def write(self, block: slice, maps: Map) -> None:
        """Write the maps of one block, a whole chunk.

        Args:
            block: one of `blocks(store.extent)`.
            maps: probabilities (image, class, row, col).

        Raises:
            BadMaps: NaN, values outside 0 to 1, sums that are not 1.
        """
        check_maps(maps, self.dtype, kind=self.kind)
        if self.dtype == "uint8":
            maps = np.rint(maps * STEPS_UINT8)
        part = self._part(block.start)
        inside = slice(block.start - part.start, block.stop - part.start)
        part.chunks.write(inside, maps.astype(self.dtype))

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
        start, stop, _ = images.indices(len(self))
        part = self._part(start)
        position, stop, length = start - part.start, stop - part.start, part.chunk_images
        file: ChunkFile | None = None
        try:
            for out in outs:
                if accumulate_into is not None:
                    copy_into(next(accumulate_into), out)
                rest = out
                while len(rest):
                    end = min(stop, position - position % length + length)
                    file = file or part.open_chunk(position, self.dtype)
                    now, rest = rest[: end - position], rest[end - position :]
                    file.read_into(now, add=accumulate_into is not None)
                    if position + len(now) == end:
                        file.finish()
                        file = None
                    position += len(now)
                yield out
        except (DamagedChunk, OSError) as error:
            first = part.start + position - position % length
            raise BadRun(
                f"{self.folder}: images from {first} on are damaged ({error});"
                " remove the folder and make it again"
            ) from None
        finally:
            if file:
                file.close()

    def _part(self, image: int) -> "_StorePart":
        """Return the array that holds an image; each is opened when it is first needed."""
        number = bisect.bisect_right(self._runs, image, key=lambda run: run[0].start) - 1
        if number not in self._parts:
            with self._damage_named():
                run, size = self._runs[number]
                self._parts[number] = _StorePart.open(self.folder, self._metadata, run, size)
        return self._parts[number]

    def _all_parts(self) -> Iterator["_StorePart"]:
        return (self._part(run.start) for run, _ in self._runs)

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (Unreachable, ImportError):
            raise
        except Exception as error:  # Zarr raises anything on malformed metadata
            reason = " ".join(str(error).split())
            raise BadRun(
                f"{self.folder} is damaged ({reason}); remove it and make it again"
            ) from None


@dataclass(frozen=True)
class _StorePart:
    """The array of images of one size.

    Args:
        start: first image.
        count: number of images.
        chunks: of the array.
        chunk_bytes: size of a chunk, checksum included.
    """

    start: int
    count: int
    chunks: LocalChunks | RemoteChunks
    chunk_bytes: int

    @classmethod
    def open(cls, folder: Path, metadata: StoreMetadata, run: slice, size: Size) -> "_StorePart":
        """Open an array, and compare its header with the metadata and with a chunk."""
        chunks: LocalChunks | RemoteChunks = (
            LocalChunks(_part_folder(folder, metadata.extent, run))
            if metadata.url is None
            else RemoteChunks(_part_url(metadata.url, metadata.extent, run))
        )
        array, count, channels = chunks.array, run.stop - run.start, metadata.num_channels
        chunk = (min(block_images(size), count), channels, *size)
        actual = array.shape, array.chunks, str(array.dtype)
        expected = (count, channels, *size), chunk, metadata.dtype
        if actual != expected:
            raise ValueError(f"an array of {actual}, expected {expected}")
        chunk_bytes: int = math.prod(chunk) * array.dtype.itemsize + CHECKSUM_BYTES
        sample = chunks.sample_chunk()
        if sample is not None and sample[1] != chunk_bytes:
            raise ValueError(f"{sample[0]} is {sample[1]} bytes, expected {chunk_bytes}")
        return cls(run.start, count, chunks, chunk_bytes)

    @property
    def chunk_images(self) -> int:
        """Images per chunk."""
        return int(self.chunks.array.chunks[0])

    def open_chunk(self, image: int, dtype: str) -> ChunkFile:
        """Open the chunk that holds an image, positioned at the image."""
        length, *shape = self.chunks.array.chunks
        number, before = divmod(image, length)
        values = int(np.prod(shape))
        opened = self.chunks.open(number, self.chunk_bytes)
        file = ChunkFile(*opened, dtype, length * values)
        file.skip(before * values)
        return file


def _part_folder(folder: Path, extent: Extent, run: slice) -> Path:
    """Return where the array of one size is: the store's folder, if all images have that size."""
    return folder if len(extent.runs) == 1 else folder / "sizes" / f"{run.start:06d}"


def _part_url(url: str, extent: Extent, run: slice) -> str:
    return url if len(extent.runs) == 1 else f"{url}/sizes/{run.start:06d}"
