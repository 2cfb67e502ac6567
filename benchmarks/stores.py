"""Bytes per pixel of stores, and label maps per second from them, beside one `.npz` per image.

.venv/bin/python -m benchmarks.stores RUN/probabilities/*/validation
.venv/bin/python -m benchmarks.stores --drawn 150x512x683 --images 20
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import cv2
import numpy as np
from numcodecs import blosc

from benchmarks.command import run_command
from ensemble.block_fusion import fuse
from ensemble.cli.options import json_option, log, print_result, rounds_option
from ensemble.pipeline.bench.timing import compared, interleaved, machine
from ensemble.strategies import STRATEGIES
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes, numbered
from evaluation.core.ragged import Extent
from evaluation.core.types import Array, Labels, Map
from members.codecs import MIN_CLASSES, StoreDtype
from members.maps import BlockReader, MapReader
from members.packed_chunks import pack_maps, unpack_maps
from members.probabilities import STEPS_UINT8
from members.store import ProbabilityStore
from members.store_metadata import Kind

BASE: StoreDtype = "float16"
TOPK = "topk(k=4)"
DTYPES: tuple[StoreDtype, ...] = (BASE, "uint8", "compact")
NPZ = "a .npz an image"
SLOW_MB = 200
"""Megabytes per second of the disk that is simulated."""

BLOSC = [("lz4", 1), ("lz4", 9), ("zstd", 1), ("zstd", 5)]
SHUFFLES = {0: "no shuffle", 2: "bit shuffle"}
BIT_PLANES = "bit planes (compact)"


@dataclass(frozen=True)
class Sources:
    """Maps of the members, as stores of each kind and as `.npz` files.

    Args:
        stores: of each dtype, one store per member.
        archives: by member and image.
    """

    stores: dict[StoreDtype, list[ProbabilityStore]]
    archives: list[list[Path]]

    def files(self, name: str) -> list[Path]:
        """Return the files that a contender reads."""
        if name == NPZ:
            return [path for paths in self.archives for path in paths]
        folders = [store.folder / "maps.zarr" for store in self.stores[name]]
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


@click.command("stores")
@click.argument("members", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--drawn", metavar="CxHxW", help="Draw the maps of 5 members instead; without .npz.")
@click.option("--images", type=click.IntRange(1), default=101, show_default=True, help="At most.")
@rounds_option(7)
@json_option
def stores(
    members: tuple[Path, ...], drawn: str | None, images: int, rounds: int, as_json: bool
) -> None:
    """Measure stores of the maps of MEMBERS: stores of one split, whose first size is taken."""
    if bool(members) == bool(drawn):
        raise click.UsageError("expected stores of members, or --drawn")
    readers: Sequence[MapReader] = [ProbabilityStore(path) for path in members]
    if drawn:
        classes, rows, cols = map(int, drawn.split("x"))
        readers = [DrawnMaps(str(m), m, (classes, rows, cols), images) for m in range(5)]
    document = bench_stores(readers, images, rounds, log)
    print_result(format_stores(document), document, as_json=as_json)


@dataclass
class DrawnMaps(BlockReader):
    """Maps like those of a network: logits of an eighth of the size, enlarged, nearly all sure.

    Args:
        name: what errors call them.
        member: a number; members differ in a part of their logits.
        shape: (class, row, col).
        count: number of images.
    """

    name: str
    member: int
    shape: tuple[int, int, int]
    count: int
    kind: Kind = "probabilities"
    floor: float = 2.0**-25
    ids: tuple[str, ...] = field(init=False)
    classes: Classes = field(init=False)

    def __post_init__(self) -> None:
        """Images and classes are named by numbers."""
        self.ids = tuple(map(str, range(self.count)))
        self.classes = numbered(self.shape[0], ignore=None)

    @property
    def extent(self) -> Extent:
        """As many images as are asked for."""
        return Extent.uniform(self.count, self.shape[1:])

    @property
    def num_classes(self) -> int:
        """As asked for."""
        return self.shape[0]

    def trained_on_mask(self) -> None:
        """Nothing is declared."""

    def read(self, images: slice, out: Map | None = None) -> Map:
        """Draw some images."""
        drawn: Map = np.stack([self._draw(image) for image in range(images.start, images.stop)])
        return drawn

    def _draw(self, image: int) -> Array:
        classes, rows, cols = self.shape
        coarse = (classes, -(-rows // 8), -(-cols // 8))
        common = _regions(np.random.default_rng(image), coarse)
        own = np.random.default_rng([image, self.member]).normal(0, 0.7, coarse)
        logits = (common + own).astype(np.float32)
        large = np.stack([cv2.resize(one, (cols, rows)) for one in logits])
        np.exp(large - large.max(axis=0), out=large)
        shares: Array = large / large.sum(axis=0)
        return shares


def _regions(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    """Draw logits of regions: in each, one class is ahead, and a few others are possible."""
    classes, rows, cols = shape
    seeds = rng.integers(0, (rows, cols), (30, 2))
    row, col = np.mgrid[:rows, :cols]
    distances = np.hypot(row[None] - seeds[:, 0, None, None], col[None] - seeds[:, 1, None, None])
    levels = rng.normal(0, 1.5, (30, classes))
    levels[np.arange(30), rng.integers(0, classes, 30)] += 9
    weights = np.exp(-distances)
    weights /= weights.sum(axis=0)
    logits: Array = np.einsum("rc,rhw->chw", levels, weights)
    return logits


def bench_stores(
    members: Sequence[MapReader], images: int, rounds: int, log: Callable[[str], None]
) -> dict[str, Any]:
    """Time the mean of members to labels from copies of their maps, in turns.

    Args:
        members: whose maps are copied.
        images: how many of the first size at most.
        rounds: measurements of each.
        log: receives a line for each part that is measured.

    Returns:
        A JSON document: the machine; of each kind of store `bytes` per pixel (all members), and
        `labels` per second from the page cache, from a disk held to 200 MB/s, and from files that
        the system was asked to drop; `packing`, of ways to pack bytes, share of float16 and speed.
    """
    count = min(images, members[0].extent.runs[0][0])
    size = members[0].extent.runs[0][1]
    with TemporaryDirectory() as folder:
        sources = _copies(members, count, Path(folder))
        log("maps are copied")
        contenders: dict[str, Callable[[], object]] = {
            dtype: partial(label_stores, readers) for dtype, readers in sources.stores.items()
        }
        if sources.archives:
            contenders[NPZ] = partial(_label_archives, sources.archives)
        names = list(contenders)
        labels = {dtype: label_stores(readers) for dtype, readers in sources.stores.items()}
        errors = np.array([store.error for store in sources.stores.get(TOPK, [])])
        weights = {n: sum(path.stat().st_size for path in sources.files(n)) for n in names}
        in_cache = interleaved(contenders, rounds)
        processor = interleaved(contenders, rounds, clock=time.process_time)
        log("the page cache is measured")
        with _slow_disk():
            slow = interleaved(contenders, rounds)
        log("the slow disk is measured")
        dropped = _from_disk(contenders, sources, rounds)
        log("the disk is measured")
        # Of drawn maps, what packing leaves says nothing about networks.
        packing = _packing(members, count, rounds) if sources.archives else {}
    return {
        "machine": machine(),
        "members": len(members),
        "images": count,
        "shape": [members[0].num_classes, *size],
        "bytes_per_pixel": {n: w / (count * size[0] * size[1]) for n, w in weights.items()},
        "bytes_ratio": {n: w / weights[BASE] for n, w in weights.items()},
        "other_labels": {n: float((one != labels[BASE]).mean()) for n, one in labels.items()},
        "topk_error": [float(errors[:, 0].max()), float(errors[:, 1].mean())]
        if len(errors)
        else [],
        "cache": compared(in_cache, BASE),
        "cache, processor time": compared(processor, BASE),
        f"{SLOW_MB} MB/s": compared(slow, BASE),
        "disk": compared(dropped, BASE),
        "disk_mb_a_second": weights[BASE] / 1e6 / min(dropped[BASE]),
        "packing": packing,
    }


def label_stores(readers: Sequence[ProbabilityStore]) -> Labels:
    """Return the labels of the members' mean."""
    rows, cols = readers[0].extent.runs[0][1]
    label_maps: Labels = np.empty((len(readers[0]), rows, cols), np.uint8)

    def write(block: slice, fused: Map) -> None:
        label_maps[block] = argmax(fused)

    fuse(readers, STRATEGIES.build("mean"), write)
    return label_maps


def _label_archives(archives: Sequence[Sequence[Path]]) -> None:
    for paths in zip(*archives, strict=True):
        total: Any = 0.0
        for path in paths:
            DISK.wait(path.stat().st_size)
            with np.load(path) as archive:
                total = total + archive["probabilities"].astype(np.float32)
        argmax((total / len(paths))[None])


def _copies(members: Sequence[MapReader], count: int, folder: Path) -> Sources:
    dtypes = (*DTYPES, *([TOPK] if members[0].num_classes >= MIN_CLASSES else []))
    stores: dict[StoreDtype, list[ProbabilityStore]] = {dtype: [] for dtype in dtypes}
    archives: list[list[Path]] = []
    for number, member in enumerate(members):
        extent = Extent.uniform(count, member.extent.runs[0][1])
        assert member.ids is not None
        assert member.classes is not None
        for dtype in dtypes:
            copy = ProbabilityStore.create(
                folder / dtype / str(number),
                ids=member.ids[:count],
                classes=member.classes,
                extent=extent,
                seen=None,
                dtype=dtype,
            )
            stores[dtype].append(copy)
        archives.append([folder / f"{number}-{image}.npz" for image in range(count)])
        for block in blocks(extent):
            maps = member.read(block)
            for dtype in dtypes:
                stores[dtype][-1].write(block, maps)
            if isinstance(member, ProbabilityStore):
                for path, one in zip(archives[-1][block], maps, strict=True):
                    np.savez_compressed(path, probabilities=one.astype(np.float16))
        for dtype in dtypes:
            stores[dtype][-1].save_error()
    if isinstance(members[0], DrawnMaps):
        archives = []
    return Sources(stores, archives)


class SlowDisk:
    """What is read takes the time of a disk, shared by all threads; without a speed, none."""

    def __init__(self) -> None:
        self.mb_a_second: float | None = None
        self._free_at, self._lock = 0.0, threading.Lock()

    def wait(self, size_bytes: int) -> None:
        """Return once the disk has read so many bytes."""
        if self.mb_a_second is None:
            return
        with self._lock:
            start = max(self._free_at, time.perf_counter())
            self._free_at = start + size_bytes / (self.mb_a_second * 1e6)
            until = self._free_at
        time.sleep(max(0.0, until - time.perf_counter()))


DISK = SlowDisk()


@contextlib.contextmanager
def _slow_disk() -> Iterator[None]:
    """Let chunks and archives take the time of a slow disk."""
    opened = ProbabilityStore._open_chunk

    def wait_and_open(self: ProbabilityStore, layout: Any, position: int) -> Any:
        name = layout.chunk_name(position // layout.chunk_images)
        DISK.wait(self._chunks.size_of(name) or 0)
        return opened(self, layout, position)

    DISK.mb_a_second = SLOW_MB
    ProbabilityStore._open_chunk = wait_and_open  # type: ignore[method-assign]
    try:
        yield
    finally:
        DISK.mb_a_second = None
        ProbabilityStore._open_chunk = opened  # type: ignore[method-assign]


def _from_disk(
    contenders: dict[str, Callable[[], object]], sources: Sources, rounds: int
) -> dict[str, list[float]]:
    """Time contenders in turns, each after the system was asked to drop its files."""
    os.sync()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            for path in sources.files(name):
                file = os.open(path, os.O_RDONLY)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(file)
            start = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _packing(members: Sequence[MapReader], count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Compare ways to pack the bytes of one block of each member, on one thread."""
    blosc.use_threads = False
    few = max(1, min(count, 8_000_000 // math.prod(members[0].block_shape(slice(0, 1)))))
    maps = [member.read(slice(0, few)) for member in members]
    parts = [np.rint(one * STEPS_UINT8).astype(np.uint8) for one in maps]
    values = sum(part.size for part in parts)
    results = {BIT_PLANES: _packed_by(parts, pack_maps, unpack_maps, rounds)}
    for (name, level), shuffle in product(BLOSC, SHUFFLES):
        pack = partial(_blosc, settings=(name.encode(), level, shuffle, 0, 1))
        results[f"{name} {level}, {SHUFFLES[shuffle]}"] = _packed_by(parts, pack, _unblosc, rounds)
    for figures in results.values():
        figures["share_of_float16"] /= 2 * values
        for key in ("pack_mb_a_second", "unpack_mb_a_second"):
            figures[key] = values / 1e6 / figures[key]
    return results


def _blosc(values: Array, settings: tuple[Any, ...]) -> bytes:
    return bytes(blosc.compress(values.reshape(-1), *settings))


def _unblosc(packed: bytes, shape: Any) -> None:
    blosc.decompress(packed, np.empty(shape, np.uint8))


def _packed_by(
    parts: Sequence[Array],
    pack: Callable[[Array], Any],
    unpack: Callable[[Any, Any], object],
    rounds: int,
) -> dict[str, float]:
    """Return bytes, and the best seconds to pack and to unpack."""
    packed = [pack(part) for part in parts]

    def unpack_all() -> None:
        for content, part in zip(packed, parts, strict=True):
            unpack(content, part.shape)

    times = interleaved(
        {"pack": lambda: [pack(part) for part in parts], "unpack": unpack_all}, min(rounds, 3)
    )
    return {
        "share_of_float16": float(sum(map(len, packed))),
        "pack_mb_a_second": min(times["pack"]),
        "unpack_mb_a_second": min(times["unpack"]),
    }


def format_stores(document: dict[str, Any]) -> str:
    """Return what `bench_stores` returns as text."""
    images = document["images"]
    sides = ("cache", "cache, processor time", f"{SLOW_MB} MB/s", "disk")
    title = f"{document['members']} members, {images} images of {document['shape']};"
    lines = [
        f"{title} label maps per second (median), and times the speed of {BASE}:",
        f"{'':18}{'B/pixel':>10}{'ratio':>8}" + "".join(f"{side:>24}" for side in sides),
    ]
    for name, size in document["bytes_per_pixel"].items():
        line = f"{name:18}{size:10.3f}{document['bytes_ratio'][name]:8.3f}"
        for side in sides:
            figures = document[side][name]
            line += f"{images / figures['median_s']:15.1f}{1 / figures['ratio']:8.2f}x"
        lines.append(line)
    for name, share in document["other_labels"].items():
        lines.append(f"{name:18}{share:12.5%} of pixels have another label than from {BASE}")
    if document["topk_error"]:
        largest, mean = document["topk_error"]
        lines.append(f"{TOPK}: largest error {largest:.4f}, mean error {mean:.2e}")
    lines.append(f"the disk gave {document['disk_mb_a_second']:.0f} MB/s of {BASE} at best")
    if not document["packing"]:
        return "\n".join(lines)
    lines.append(f"{'packed by':28}{'of float16':>12}{'pack MB/s':>12}{'unpack MB/s':>12}")
    lines += [
        f"{name:28}{f['share_of_float16']:12.3f}{f['pack_mb_a_second']:12.0f}"
        f"{f['unpack_mb_a_second']:12.0f}"
        for name, f in document["packing"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(stores, "benchmarks.stores")
