"""Throughput of `postprocess` with a dense CRF by worker processes, against threads, in turns.

    .venv/bin/python benchmarks/workers.py [ROUNDS]

The workers are started and have unpacked everything before the clock starts.
"""

import os
import sys
import tempfile
import time

import numpy as np

from evaluation.ground.cluster import on_cluster
from postproc.chain import parse_chain
from postproc.postprocess import postprocess

PICTURES, CLASSES, SIZE = 2048, 5, (128, 128)
CHAIN = "suppress_background|crf(iterations=5)"


class DrawnMaps:
    """Maps made where they are read, as if from a store."""

    def read(self, block):
        """Return the maps of a block, the same each time."""
        rng = np.random.default_rng(block.start)
        maps = rng.random((block.stop - block.start, CLASSES, *SIZE), np.float32)
        return maps / maps.sum(axis=1, keepdims=True)


def seconds(pictures, threads=None):
    chain = parse_chain(CHAIN, classes=CLASSES, ignore=0)
    begun = time.perf_counter()
    read = DrawnMaps().read
    for _ in postprocess(read, len(pictures), chain, pictures=pictures, threads=threads):
        pass
    return time.perf_counter() - begun


def main(rounds):
    drawn = np.random.default_rng(0).integers(0, 256, (PICTURES, 1, *SIZE), dtype=np.uint8)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/pictures.npy", drawn)
        pictures = np.load(f"{folder}/pictures.npy", mmap_mode="r")
        for _ in range(rounds):
            for workers in (1, 2):
                with on_cluster(workers=workers):
                    seconds(pictures[:128])
                    found.setdefault(f"{workers} processes", []).append(seconds(pictures))
                found.setdefault(f"{workers} threads", []).append(seconds(pictures, workers))
    for name, taken in found.items():
        print(f"{name:12} {PICTURES / min(taken):8.1f} pictures/s, seconds {np.round(taken, 2)}")
    for kind in ("processes", "threads"):
        print(f"2 {kind}: {min(found[f'1 {kind}']) / min(found[f'2 {kind}']):.2f} times one")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
