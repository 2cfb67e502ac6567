"""Images a second and peak memory by number of images, and what 100 million would take.

What 100 million images would take on a cluster, by what few of them take here.
"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.fuse.peak import peak_mb
from benchmarks.fuse.synthetic import CLASSES, COLS, ROWS
from benchmarks.scale.scan import RESULT
from benchmarks.scale.synthetic_maps import write_stores
from benchmarks.scale.workers import bench_workers, workers_text
from ensemble.pipeline.bench.timing import machine
from evaluation.core.blocks import BLOCK_IMAGES
from members.store_metadata import StoreDtype

IMAGES, CORES = 100_000_000, 1_000
COUNT_BYTES = CLASSES * CLASSES * np.dtype(np.int32).itemsize
ONE_BYTE = ("uint8",)


def cost_model(sides: dict[str, dict[str, Any]], members: int) -> dict[str, int | float]:
    """Extrapolate from the largest walk over stores, or over drawn maps where there is none.

    It takes time and bytes to be proportional to images, which the walks show as far as they
    go, and cores of a cluster to be as fast as this machine's when all of them work. A disk's and
    a network's time is not in it: `gigabytes_a_second` says what they would have to give.

    Args:
        sides: see `bench_scale`.
        members: how many are fused.

    Returns:
        `images`; `map_bytes_per_image`, over all members; `cpu_ms_per_image`; then of all:
        `terabytes_of_maps`, `terabytes_of_target`, `core_hours`, `hours_on_1000_cores`,
        `gigabytes_a_second` that 1,000 cores would read; `blocks`, a task each; `store_files`, a
        chunk and a marker for each block and member; `gigabytes_of_counts` a candidate.
    """
    stored = [side for side in sides.values() if side["source"] != "drawn"]
    side = max(stored or list(sides.values()), key=lambda one: one["images"])
    values = CLASSES * ROWS * COLS
    map_bytes = members * values * (1 if side["source"] in ONE_BYTE else 2)
    core_hours = IMAGES * side["cpu_ms_per_image"] / 1000 / 3600
    blocks = -(-IMAGES // BLOCK_IMAGES)
    return {
        "images": IMAGES,
        "map_bytes_per_image": map_bytes,
        "cpu_ms_per_image": side["cpu_ms_per_image"],
        "terabytes_of_maps": IMAGES * map_bytes / 1e12,
        "terabytes_of_target": IMAGES * ROWS * COLS / 1e12,
        "core_hours": core_hours,
        "hours_on_1000_cores": core_hours / CORES,
        "gigabytes_a_second": IMAGES * map_bytes / 1e9 / (core_hours / CORES * 3600),
        "blocks": blocks,
        "store_files": 2 * members * blocks,
        "gigabytes_of_counts": IMAGES * COUNT_BYTES / 1e9,
    }


START = "from benchmarks.scale.scan import main; main()"
DRAWN = "drawn"
DTYPES: tuple[StoreDtype, ...] = ("uint8", "float16")

Document = dict[str, Any]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """How much is walked, how often.

    Args:
        members: how many are fused.
        drawn: numbers of images whose maps are made block by block.
        stored: numbers of images whose maps lie on disk.
        rounds: how often each is walked, in turns.
        on_workers: how many images worker processes label; 0 for none.
    """

    members: int
    drawn: tuple[int, ...]
    stored: tuple[int, ...]
    rounds: int
    on_workers: int = 0


@dataclass(frozen=True)
class _Side:
    source: str
    images: int
    folder: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.source} {self.images}"


def bench_scale(sizes: Sizes, log: Log) -> Document:
    """Walk from maps to scores at each size, every walk in a fresh process.

    Args:
        sizes: how much, how often.
        log: receives a line for what is done.

    Returns:
        A JSON document: the machine, the sizes; `sides`, of each source and size the images and
        CPU seconds an image and the peak of anonymous memory; `spread`, by source, the largest
        over the smallest of each; `model`, see `cost_model`; `workers`, see `bench_workers`.

    Raises:
        BadRun: a system that does not tell the memory of a process.
    """
    with TemporaryDirectory() as place:
        sides = _laid_out(sizes, Path(place), log)
        walks: dict[str, list[Document]] = {side.name: [] for side in sides}
        for number in range(sizes.rounds):
            # Who begins changes, so that all see the same good and bad moments of the machine.
            first = number % len(sides)
            for side in sides[first:] + sides[:first]:
                walks[side.name].append(_walk(side, sizes.members, Path(place)))
            log(f"round {number + 1} of {sizes.rounds} is walked")
    found = {side.name: _figures(side, walks[side.name]) for side in sides}
    by_workers = bench_workers(sizes.on_workers, sizes.rounds) if sizes.on_workers else None
    return {
        "machine": machine(),
        **vars(sizes),
        "sides": found,
        "spread": {
            source: _spread(found, source) for source in dict.fromkeys(s.source for s in sides)
        },
        "model": cost_model(found, sizes.members),
        "workers": by_workers,
    }


def _laid_out(sizes: Sizes, place: Path, log: Log) -> list[_Side]:
    sides = [_Side(DRAWN, images) for images in sizes.drawn]
    for dtype in DTYPES:
        for images in sizes.stored:
            folder = place / f"{dtype}-{images}"
            write_stores(folder, sizes.members, images, dtype)
            log(f"{sizes.members} stores of {images} images are written, {dtype}")
            sides.append(_Side(dtype, images, folder))
    return sides


def _walk(side: _Side, members: int, place: Path) -> Document:
    stores = [] if side.folder is None else [str(side.folder)]
    words = [str(members), str(side.images), *stores]
    memory = peak_mb([sys.executable, "-c", START, *words], place)
    return {**json.loads((place / RESULT).read_text(encoding="utf-8")), "peak_mb": memory}


def _figures(side: _Side, walks: Sequence[Document]) -> Document:
    """Return medians, and of speed the best, since what others do on the machine only slows."""
    speeds = [side.images / walk["wall_s"] for walk in walks]
    return {
        "source": side.source,
        "images": side.images,
        "images_a_second": statistics.median(speeds),
        "images_a_second_best": max(speeds),
        "cpu_ms_per_image": 1000 * min(walk["cpu_s"] for walk in walks) / side.images,
        "peak_mb": statistics.median(walk["peak_mb"] for walk in walks),
        "miou": walks[0]["miou"],
    }


def _spread(found: dict[str, Document], source: str) -> dict[str, float]:
    own = [figures for figures in found.values() if figures["source"] == source]
    keys = ("images_a_second", "images_a_second_best", "cpu_ms_per_image", "peak_mb")
    return {key: max(f[key] for f in own) / min(f[key] for f in own) for key in keys}


def as_text(document: Document) -> str:
    """Write what `bench_scale` returns for people."""
    heads = ("images_a_second", "images_a_second_best", "cpu_ms_per_image", "peak_mb")
    words = ("images/s", "best", "CPU ms each", "peak MB")
    lines = [f"{'':24}" + "".join(f"{word:>13}" for word in words)]
    rows = {**document["sides"]}
    rows |= {f"spread, {source}": found for source, found in document["spread"].items()}
    for name, found in rows.items():
        lines.append(f"{name:24}" + "".join(f"{found[head]:13.4g}" for head in heads))
    model = document["model"]
    lines += ["", f"{model['images']:,} images of {document['members']} members would take:"]
    lines += [f"  {name.replace('_', ' '):40}{model[name]:12.4g}" for name in list(model)[1:]]
    if document["workers"]:
        lines += ["", workers_text(document["workers"])]
    return "\n".join(lines)
