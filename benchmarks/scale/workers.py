"""`postprocess` with a dense CRF by worker processes beside threads: the same bits, how fast.

Maps and images lie in files, so that little is sent; one block of maps stands for all of them.
"""

import contextlib
import hashlib
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.fuse.synthetic import (
    CLASSES,
    COLS,
    ROWS,
    drawn,
)
from benchmarks.scale.synthetic_maps import DrawnMaps
from ensemble.pipeline.bench.timing import compared
from evaluation.core.blocks import BLOCK_IMAGES
from evaluation.core.cluster import on_cluster
from evaluation.core.files import open_array
from evaluation.core.types import Array
from members.maps import ArrayMaps
from postproc.chain import parse_chain
from postproc.postprocess import postprocess

CHAIN = "suppress_background|crf(iterations=5)"
WORKERS = (0, 1, 2, 4)
"""Processes that are timed; 0 is threads in this one."""

THREADS, ONE, TWO = "threads", "1 workers", "2 workers"
WARM_IMAGES = 256

Document = dict[str, Any]


def bench_workers(images: int, rounds: int) -> Document:
    """Label drawn maps by threads and by 1, 2 and 4 worker processes, in turns.

    Workers are started, and have done some blocks, before the clock starts.

    Args:
        images: how many, 64 x 128.
        rounds: how often each side is timed.

    Returns:
        A JSON document: the chain, the images; `sides`, of each the seconds, their `ratio` to one
        worker and whether its labels are `equal` to the threads', bit for bit; `two_over_one`, how
        many times the images a second of one worker process two label, by medians and by minima.
    """
    seconds: dict[str, list[float]] = {}
    labels: dict[str, set[str]] = {}
    with TemporaryDirectory() as place:
        seen, maps = _drawn(Path(place), images)
        for _ in range(rounds):
            for workers in WORKERS:
                name = f"{workers} workers" if workers else THREADS
                with on_cluster(workers=workers) if workers else contextlib.nullcontext():
                    _labels(maps, seen[:WARM_IMAGES])
                    begun = time.perf_counter()
                    labels.setdefault(name, set()).add(_labels(maps, seen))
                    seconds.setdefault(name, []).append(time.perf_counter() - begun)
    found = compared(seconds, ONE)
    equal = {name: digests == labels[THREADS] for name, digests in labels.items()}
    return {
        "chain": CHAIN,
        "images": images,
        "sides": {name: {**one, "equal": equal[name]} for name, one in found.items()},
        "two_over_one": 1 / found[TWO]["ratio"],
        "two_over_one_of_minima": 1 / found[TWO]["ratio_of_minima"],
    }


def _drawn(place: Path, images: int) -> tuple[Array, DrawnMaps]:
    """Draw images, and maps of a block, into files."""
    rng, size = np.random.default_rng(0), (images, 1, ROWS, COLS)
    np.save(place / "images.npy", rng.integers(0, 256, size, dtype=np.uint8))
    np.save(place / "maps.npy", drawn(rng, BLOCK_IMAGES).astype(np.float16))
    block = ArrayMaps("drawn", open_array(place / "maps.npy"))
    return open_array(place / "images.npy"), DrawnMaps(block, images)


def _labels(maps: DrawnMaps, seen: Array) -> str:
    """Label images; return the digest of the labels."""
    chain = parse_chain(CHAIN, classes=CLASSES, ignore=0, floor=maps.floor)
    digest = hashlib.sha256()
    for _, found in postprocess(maps.read, len(seen), chain, images=seen):
        digest.update(found.tobytes())
    return digest.hexdigest()


def workers_text(document: Document) -> str:
    """Write what `bench_workers` returns for people."""
    images = document["images"]
    lines = [f"{document['chain']} on {images} images:"]
    for name, one in document["sides"].items():
        bits = "the threads' bits" if one["equal"] else "OTHER BITS than the threads"
        speed, best = (images / one[key] for key in ("median_s", "minimum_s"))
        lines.append(f"  {name:10}{speed:10.4g} images/s, best {best:.4g}, {bits}")
    by, best = document["two_over_one"], document["two_over_one_of_minima"]
    return "\n".join([*lines, f"  2 workers label {by:.2f} times what 1 does, best {best:.2f}"])
