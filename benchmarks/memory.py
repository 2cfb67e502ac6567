"""Peak memory of `ens postprocess` and `ens score` on plain files, for N and 10 N images.

    .venv/bin/python -m benchmarks.memory [N]

That of `ens fuse` is measured by `python -m benchmarks.fuse --part peak`.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.synthetic import CLASSES, COLS, ROWS, draw_maps
from evaluation.core.blocks import BLOCK_IMAGES, blocks
from evaluation.core.errors import BadRun

FACTOR = 10
"""The larger number of images is this many times the smaller one."""

INTERVAL_S = 0.005
STATUS = Path("/proc/self/status")
START = "from ensemble.cli import main; main()"
COMMANDS = {
    "postprocess": "postprocess --maps a.npy --chain suppress_background|mode_filter "
    "--out labels.npy",
    "score": "score --target target.npy --pred labels.npy --classes 5",
}


def main() -> None:
    """Print the table."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    few, many = (command_peaks(COMMANDS, count) for count in (images, FACTOR * images))
    print(f"| command | MB, {images} images | MB, {FACTOR * images} images | ratio |")
    print("|---|---|---|---|")
    for name in COMMANDS:
        print(f"| {name} | {few[name]:.0f} | {many[name]:.0f} | {many[name] / few[name]:.2f} |")


def command_peaks(commands: Mapping[str, str], images: int) -> dict[str, float]:
    """Run `ens` commands on synthetic files, each in a fresh process; return their peaks in MB.

    Args:
        commands: arguments of `ens` by name; they read `a.npy` and `b.npy`, maps of two members,
            and `target.npy`.
        images: number of images; each takes 340 KB of disk.
    """
    with TemporaryDirectory() as folder:
        _write_inputs(Path(folder), images)
        return {name: ens_peak_mb(line.split(), Path(folder)) for name, line in commands.items()}


def ens_peak_mb(arguments: Sequence[str], folder: Path) -> float:
    """Return the peak memory of an `ens` command; see `peak_mb`."""
    command = [sys.executable, "-c", START, *arguments]
    return peak_mb(command, folder, name=" ".join(["ens", *arguments]))


def peak_mb(command: Sequence[str], folder: Path, *, name: str = "") -> float:
    """Run a command; return the highest anonymous resident memory seen, in MB.

    Pages of mapped files are resident too while memory is free; they are not counted.

    Args:
        command: program with its arguments.
        folder: working folder.
        name: name in errors; by default that of the program.

    Raises:
        BadRun: the command failed, or the system does not report the memory of processes.
    """
    if not STATUS.is_file():
        raise BadRun(f"peak memory is read from {STATUS}, which does not exist on this system")
    peak = 0.0
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = [line for line in status.read_text().splitlines() if "RssAnon" in line]
            peak = max([peak, *(int(line.split()[1]) / 1000 for line in lines)])
            time.sleep(INTERVAL_S)
    if process.returncode:
        raise BadRun(f"`{name or command[0]}` failed while its memory was measured")
    return peak


def _write_inputs(folder: Path, images: int) -> None:
    rng = np.random.default_rng(0)
    block = draw_maps(rng, BLOCK_IMAGES)
    for name in ("a", "b"):
        shape = (images, CLASSES, ROWS, COLS)
        maps = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
        for part in blocks(images):
            maps[part] = block[: part.stop - part.start]
        maps.flush()
    target = rng.integers(0, CLASSES, (images, ROWS, COLS), dtype=np.uint8)
    np.save(folder / "target.npy", target)


if __name__ == "__main__":
    main()
