"""Peak memory of `ens fuse`, in a fresh process each, and on ten times the maps."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.fuse.synthetic import (
    CLASSES,
    COLS,
    ROWS,
    Size,
    drawn,
)
from evaluation.core.blocks import BLOCK_IMAGES, blocks
from evaluation.core.errors import BadRun

MORE = 10
INTERVAL_S = 0.005
STATUS = Path("/proc/self/status")
START = "from ensemble.cli import main; main()"
VERBS = {
    "mean": "fuse --maps a.npy --maps b.npy --strategy mean --out fused.npy",
    "stacking": "fuse --maps a.npy --maps b.npy --strategy stacking --fit-maps a.npy"
    " --fit-maps b.npy --fit-target target.npy --out fused.npy",
}


def peak(size: Size, folder: Path) -> dict[str, Any]:
    """Compare the memory for ten times as many images, of two members in files.

    Args:
        size: how much.
        folder: where the files are written, 5 MB for each of its images.

    Raises:
        BadRun: a system that does not tell the memory of a process.
    """
    if not STATUS.is_file():
        raise BadRun(f"peak memory is read from {STATUS}, which is not here; leave peak out")
    measured = [_peaks_mb(folder, count) for count in (size.images, MORE * size.images)]
    sides = {
        name: {"mb_fewer": fewer[name], "mb_more": more[name], "ratio": more[name] / fewer[name]}
        for fewer, more in [measured]
        for name in VERBS
    }
    return {"sides": sides, "members": 2, "fewer": size.images, "more": MORE * size.images}


def _peaks_mb(folder: Path, images: int) -> dict[str, float]:
    with TemporaryDirectory(dir=folder) as place:
        write_inputs(Path(place), images)
        return {name: anonymous_mb(verb.split(), Path(place)) for name, verb in VERBS.items()}


def write_inputs(folder: Path, images: int) -> None:
    """Write two members' maps, `a.npy` and `b.npy`, and `target.npy`, block by block."""
    rng = np.random.default_rng(0)
    block = drawn(rng, BLOCK_IMAGES)
    for name in ("a", "b"):
        shape = (images, CLASSES, ROWS, COLS)
        maps = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
        for part in blocks(images):
            maps[part] = block[: part.stop - part.start]
        maps.flush()
    target = rng.integers(0, CLASSES, (images, ROWS, COLS), dtype=np.uint8)
    np.save(folder / "target.npy", target)


def anonymous_mb(arguments: Sequence[str], folder: Path) -> float:
    """Run `ens` and return the highest anonymous resident memory seen, in MB.

    Raises:
        BadRun: the command failed.
    """
    try:
        return peak_mb([sys.executable, "-c", START, *arguments], folder)
    except BadRun:
        raise BadRun(f"`ens {' '.join(arguments)}` failed while its memory was measured") from None


def peak_mb(command: Sequence[str], folder: Path) -> float:
    """Run a command and return the highest anonymous resident memory seen, in MB.

    Pages of mapped files stand in the resident size too, as long as nobody else needs the room;
    they are not counted.

    Args:
        command: with its arguments.
        folder: that it works in.

    Raises:
        BadRun: the command failed, or a system that does not tell the memory of a process.
    """
    if not STATUS.is_file():
        raise BadRun(f"peak memory is read from {STATUS}, which is not here")
    highest = 0.0
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = [line for line in status.read_text().splitlines() if "RssAnon" in line]
            highest = max([highest, *(int(line.split()[1]) / 1000 for line in lines)])
            time.sleep(INTERVAL_S)
    if process.returncode:
        raise BadRun(f"{command[0]} failed while its memory was measured")
    return highest
