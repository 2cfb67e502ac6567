"""Peak memory of `ens fuse`, `postprocess` and `score` on plain files, for N and 10 N pictures.

    .venv/bin/python benchmarks/memory.py [N]

Anonymous memory is what counts: pages of mapped files stand in the resident size too, as long as
nobody else needs the room.
"""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

CLASSES, ROWS, COLS = 5, 64, 128
MORE = 10


def make(folder: Path, pictures: int) -> None:
    """Write two members' maps, truth and pictures, block by block."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        shape = (pictures, CLASSES, ROWS, COLS)
        maps = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
        block = rng.random((64, *shape[1:]), dtype=np.float32)
        block /= block.sum(axis=1, keepdims=True)
        for start in range(0, pictures, 64):
            maps[start : start + 64] = block[: pictures - start]
        maps.flush()
    truth = rng.integers(0, CLASSES, (pictures, ROWS, COLS), dtype=np.uint8)
    np.save(folder / "truth.npy", truth)


def peak_anonymous_mb(arguments: list[str], folder: Path) -> float:
    """Run `ens` and return the highest anonymous resident memory seen, in MB."""
    command = [str(Path(sys.executable).parent / "ens"), *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    peak = 0.0

    def watch() -> None:
        nonlocal peak
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = [line for line in status.read_text().splitlines() if "RssAnon" in line]
            peak = max([peak, *(int(line.split()[1]) / 1000 for line in lines)])
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    watcher.join()
    assert process.returncode == 0, command
    return peak


VERBS = {
    "fuse mean": "fuse --maps a.npy --maps b.npy --strategy mean --out fused.npy",
    "fuse stacking": "fuse --maps a.npy --maps b.npy --strategy stacking --fit-maps a.npy "
    "--fit-maps b.npy --fit-truth truth.npy --out stacked.npy",
    "postprocess": "postprocess --maps fused.npy --chain suppress_background|mode_filter "
    "--out labels.npy",
    "score": "score --truth truth.npy --guess labels.npy --classes 5",
}


def main() -> None:
    """Print the table."""
    pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    found: dict[str, list[float]] = {name: [] for name in VERBS}
    for count in (pictures, MORE * pictures):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), count)
            for name, arguments in VERBS.items():
                found[name].append(peak_anonymous_mb(arguments.split(), Path(folder)))
    print(f"| verb | MB, {pictures} pictures | MB, {MORE * pictures} pictures | ratio |")
    print("|---|---|---|---|")
    for name, (few, many) in found.items():
        print(f"| {name} | {few:.0f} | {many:.0f} | {many / few:.2f} |")


if __name__ == "__main__":
    main()
