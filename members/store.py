"""The probability store: maps of one member over one split; no other code knows them on disk.

A Zarr (version 3) array (image, class, row, col), unsharded, chunked by images, next to the
metadata in `store.json` or, by URL, in an object store; of several sizes, a group with an array for
each. Each chunk has a crc32c and one writer. `members.chunks` reads and writes them.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadMaps, BadRun
from evaluation.core.files import atomic_folder
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent, block_images
from evaluation.core.types import Array, Kept, Map
from members.chunks import (
    CHECKSUM_BYTES,
    ArrayLayout,
    ChunkFile,
    DamagedChunk,
    LocalChunks,
    RemoteChunks,
    encode_chunk,
)
from members.codecs import StoreDtype, codec
from members.maps import MapReader, SmallBatch, copy_into
from members.object_store import Unreachable
from members.packed_chunks import PackedChunk, pack_chunk
from members.probabilities import STEPS_UINT8, check_maps
from members.store_metadata import META, Kind, StoreMetadata, TrainingIds
from members.top_chunks import ERROR, TopChunk, choose_top, stream_sums


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
        self._metadata, self._layouts = metadata, _layouts(metadata)
        self._chunks = _chunks(folder, metadata)
        self._checked: set[int] = set()
        self.ids, self.classes = metadata.ids, metadata.classes
        self.kind, self.label = metadata.kind, metadata.label
        self.dtype, self.seen = metadata.dtype, metadata.seen
        self._codec = codec(metadata.dtype)
        self._layout(0)

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
            store = cls.create(partial, **metadata)
            yield store
            store.save_error()
            record(partial, config=config, inputs=input_digests, info=info)

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
            dtype: how values are kept; see `members.codecs`. Worst rounding errors of a
                probability: float16 2.5e-4, uint8 and compact 2e-3, float32 3e-8; of topk, see
                `error`.
            url: where the arrays are put, which nothing else may use; None puts it into the folder.

        Raises:
            BadMaps: ids repeat.
            BadSpec: maps of so few classes cannot be kept like that.
            Unreachable: the object store does not answer, or refuses.
        """
        if len(set(ids)) < len(ids):
            raise BadMaps(f"{folder.name}: ids repeat; expected distinct ids")
        codec(dtype).check_classes(len(classes) if label is None else 1)
        folder.mkdir(parents=True, exist_ok=True)
        metadata = StoreMetadata(tuple(ids), classes, kind, label, dtype, seen, extent, url)
        _chunks(folder, metadata).create(_layouts(metadata))
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
        return self._codec.floor(self.num_classes)

    def trained_on_mask(self) -> Kept | None:
        """Return, per image, whether a model was trained on it; None is undeclared."""
        return None if self.seen is None else self.seen.mask(self.ids)

    def missing_blocks(self) -> list[slice]:
        """List the blocks of images that were not written whole yet."""
        chunks: dict[int, str] = {}
        parts: dict[int, slice] = {}
        for layout in self._layouts:
            for number, block in enumerate(blocks(layout.shape[0], layout.chunk_images)):
                first = layout.start + block.start
                chunks[first] = layout.chunk_name(number)
                parts[first] = slice(first, layout.start + block.stop)
        return [parts[first] for first in self._chunks.missing(chunks)]

    def discard_partial(self) -> None:
        """Remove what a process was writing when it was killed."""
        self._chunks.discard_partial()

    def write(self, block: slice, maps: Map) -> None:
        """Write the maps of one block, a whole chunk.

        Args:
            block: one of `blocks(store.extent)`.
            maps: probabilities (image, class, row, col).

        Raises:
            BadMaps: NaN, values outside 0 to 1, sums that are not 1.
        """
        layout = self._layout(block.start)
        check_maps(maps, layout.dtype, kind=self.kind)
        number = (block.start - layout.start) // layout.chunk_images
        if self._codec.k is not None:
            content = pack_chunk(*choose_top(maps, self._codec.k))
        else:
            if layout.dtype == "uint8":
                maps = np.rint(maps * STEPS_UINT8)
            values = maps.astype(layout.dtype)
            content = pack_chunk(values) if layout.packed else encode_chunk(layout, values)
        self._chunks.write(layout.chunk_name(number), block.start, content)

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
        layout = self._layout(start)
        position, stop, length = start - layout.start, stop - layout.start, layout.chunk_images
        file: ChunkFile | PackedChunk | None = None
        try:
            for out in outs:
                if accumulate_into is not None:
                    copy_into(next(accumulate_into), out)
                rest = out
                while len(rest):
                    end = min(stop, position - position % length + length)
                    file = file or self._open_chunk(layout, position)
                    now, rest = rest[: end - position], rest[end - position :]
                    file.read_into(now, add=accumulate_into is not None)
                    if position + len(now) == end:
                        file.finish()
                        file = None
                    position += len(now)
                yield out
        except (DamagedChunk, OSError) as error:
            raise self._damaged(layout, position, error) from None
        finally:
            if file:
                file.close()

    def stream_top(self, images: slice) -> Iterator[Array]:
        """Read the stored bytes of images that are kept by their largest classes.

        The memory of an image is used again for the next.
        """
        start, stop, _ = images.indices(len(self))
        layout = self._layout(start)
        file: ChunkFile | PackedChunk | None = None
        out = np.empty(layout.shape[1:], np.uint8)
        for position in range(start - layout.start, stop - layout.start):
            try:
                if file is None or not position % layout.chunk_images:
                    file = self._open_chunk(layout, position)
                assert isinstance(file, PackedChunk)
                file.next_bytes(out)
            except (DamagedChunk, OSError) as error:
                raise self._damaged(layout, position, error) from None
            yield out

    @property
    def keeps_top_classes(self) -> bool:
        """Whether a pixel's largest classes alone are kept."""
        return self._codec.k is not None

    def save_error(self) -> None:
        """Write the error of what was written into the metadata, where it depends on the maps."""
        if not self.keeps_top_classes:
            return
        largest, total, values = 0.0, 0.0, 0
        for layout in self._layouts:
            for number, block in enumerate(blocks(layout.shape[0], layout.chunk_images)):
                tail = self._chunks.tail(layout.chunk_name(number), ERROR.size + CHECKSUM_BYTES)
                worst, mean = ERROR.unpack(tail[: ERROR.size])
                pixels = (block.stop - block.start) * layout.shape[2] * layout.shape[3]
                largest, total, values = max(largest, worst), total + mean * pixels, values + pixels
        self._metadata = replace(self._metadata, error=(largest, total / values))
        self._metadata.write(self.folder)

    @property
    def error(self) -> tuple[float, float] | None:
        """Largest and mean error of the probabilities, where it depends on the maps."""
        return self._metadata.error

    def _damaged(self, layout: ArrayLayout, position: int, error: Exception) -> BadRun:
        first = layout.start + position - position % layout.chunk_images
        return BadRun(
            f"{self.folder}: images from {first} on are damaged ({error});"
            " remove the folder and make it again"
        )

    def _layout(self, image: int) -> ArrayLayout:
        """Return the array that holds an image; what is there is checked when first needed."""
        number = bisect.bisect_right(self._layouts, image, key=lambda layout: layout.start) - 1
        layout = self._layouts[number]
        if number not in self._checked:
            with self._damage_named():
                _check_array(self._chunks, layout)
            self._checked.add(number)
        return layout

    def _open_chunk(self, layout: ArrayLayout, position: int) -> ChunkFile | PackedChunk:
        """Open the chunk that holds an image of an array, positioned at the image."""
        number, before = divmod(position, layout.chunk_images)
        first = layout.start + position - before
        opened = self._chunks.open(layout.chunk_name(number), first, layout.chunk_bytes)
        if layout.packed:
            chunk = (PackedChunk if self._codec.k is None else TopChunk)(*opened, layout)
            chunk.skip(before)
            return chunk
        file = ChunkFile(*opened, layout.dtype, layout.chunk_images * layout.image_values)
        file.skip(before * layout.image_values)
        return file

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


def stream_sum(
    members: Sequence[MapReader], images: slice, outs: Sequence[SmallBatch]
) -> Iterator[SmallBatch]:
    """Read the sums over members in small batches; see `MapReader.stream`."""
    stores = [one for one in members if isinstance(one, ProbabilityStore) and one.keeps_top_classes]
    if len(stores) == len(members):
        return stream_sums([store.stream_top(images) for store in stores], outs)
    sums = members[0].stream(images, outs)
    for member in members[1:]:
        sums = member.stream(images, outs, accumulate_into=sums)
    return sums


def _chunks(folder: Path, metadata: StoreMetadata) -> LocalChunks | RemoteChunks:
    return LocalChunks(folder) if metadata.url is None else RemoteChunks(metadata.url)


def _layouts(metadata: StoreMetadata) -> list[ArrayLayout]:
    """Return the array of the images of each size."""
    extent, kept = metadata.extent, codec(metadata.dtype)
    layouts: list[ArrayLayout] = []
    for run, size in extent.slices():
        count = run.stop - run.start
        name = "" if len(extent.runs) == 1 else f"{run.start:06d}"
        shape = (count, kept.channels(metadata.num_channels), *size)
        length = min(block_images(size), count)
        layouts.append(ArrayLayout(name, run.start, shape, length, kept.dtype, kept.packed))
    return layouts


def _check_array(chunks: LocalChunks | RemoteChunks, layout: ArrayLayout) -> None:
    """Compare an array's header and its first chunk, if it has one, with its layout."""
    layout.check_header(chunks.read_header(layout.header_name))
    name = layout.chunk_name(0)
    size = chunks.size_of(name)
    if size is not None:
        try:
            layout.check_chunk_size(size)
        except ValueError as error:
            raise ValueError(f"{chunks.place}/{name} is {error}") from None
