"""`postprocess` with a dense CRF by worker processes, compared with threads: speed and labels."""

import contextlib
import hashlib
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.scale.scan import RepeatedMaps
from benchmarks.synthetic import CLASSES, COLS, ROWS, draw_maps
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
"""Numbers of processes; 0 is threads in this process."""

THREADS, ONE, TWO = "threads", "1 workers", "2 workers"
WARM_IMAGES = 256


def bench_workers(images: int, rounds: int) -> dict[str, Any]:
    """Label synthetic maps by threads and by 1, 2 and 4 worker processes, in turns.

    Workers are started, and have processed some blocks, before the clock starts. Maps and images
    are in files, so that little is sent; one block of maps stands for all of them.

    Args:
        images: number of images, 64 x 128.
        rounds: measurements per contender.

    Returns:
        A JSON document: the chain, the images; `sides`, of each the seconds, their `ratio` to one
        worker and whether its labels are `equal` to the threads', bit for bit; `two_over_one`, how
        many times the images per second of one worker two workers label, by medians and by minima.
    """
    seconds: dict[str, list[float]] = {}
    digests: dict[str, set[str]] = {}
    with TemporaryDirectory() as folder:
        inputs, maps = _write_inputs(Path(folder), images)
        for _ in range(rounds):
            for workers in WORKERS:
                name = f"{workers} workers" if workers else THREADS
                with on_cluster(workers=workers) if workers else contextlib.nullcontext():
                    _label_digest(maps, inputs[:WARM_IMAGES])
                    started = time.perf_counter()
                    digests.setdefault(name, set()).add(_label_digest(maps, inputs))
                    seconds.setdefault(name, []).append(time.perf_counter() - started)
    sides = compared(seconds, ONE)
    return {
        "chain": CHAIN,
        "images": images,
        "sides": {
            name: {**side, "equal": digests[name] == digests[THREADS]}
            for name, side in sides.items()
        },
        "two_over_one": 1 / sides[TWO]["ratio"],
        "two_over_one_of_minima": 1 / sides[TWO]["ratio_of_minima"],
    }


def _write_inputs(folder: Path, images: int) -> tuple[Array, RepeatedMaps]:
    rng, size = np.random.default_rng(0), (images, 1, ROWS, COLS)
    np.save(folder / "images.npy", rng.integers(0, 256, size, dtype=np.uint8))
    np.save(folder / "maps.npy", draw_maps(rng, BLOCK_IMAGES).astype(np.float16))
    block = ArrayMaps("synthetic", open_array(folder / "maps.npy"))
    return open_array(folder / "images.npy"), RepeatedMaps(block, images)


def _label_digest(maps: RepeatedMaps, images: Array) -> str:
    chain = parse_chain(CHAIN, classes=CLASSES, ignore=0, floor=maps.floor)
    digest = hashlib.sha256()
    for _, labels in postprocess(maps, chain, images=images):
        digest.update(labels.tobytes())
    return digest.hexdigest()


def format_workers(document: dict[str, Any]) -> str:
    """Return what `bench_workers` returns as text."""
    images = document["images"]
    lines = [f"{document['chain']} on {images} images:"]
    for name, side in document["sides"].items():
        labels = "same labels as threads" if side["equal"] else "OTHER LABELS than threads"
        median, best = (images / side[key] for key in ("median_s", "minimum_s"))
        lines.append(f"  {name:10}{median:10.4g} images/s, best {best:.4g}, {labels}")
    ratio, best = document["two_over_one"], document["two_over_one_of_minima"]
    return "\n".join([*lines, f"  2 workers are {ratio:.2f} times as fast as 1, best {best:.2f}"])
