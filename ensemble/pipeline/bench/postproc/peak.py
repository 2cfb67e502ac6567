"""How much memory a chain takes, measured in a process of its own.

The process is fresh, since what an earlier chain has freed may hide what this one needs; and it
imports little, since a large library's memory would hide a small step's. The high-water mark is
the kernel's own `VmHWM`: `ru_maxrss` begins at what the parent process held when it started the
child (610 MB were seen for an empty one), and `tracemalloc` sees what NumPy allocates but not what
compiled kernels do.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from evaluation.ground.arrays import Map, Pictures
from postproc.chain import Chain, parse_chain

STATUS = Path("/proc/self/status")
PEAK = "VmHWM:"
KIB, MB = 1024, 1e6


def peak_memory(
    chains: Sequence[Chain], maps: Map, pictures: Pictures, folder: Path
) -> list[float | None]:
    """Return the highest resident memory of a process that labels one block by each chain, in MB.

    That is what one thread takes, libraries included: `ens postprocess` works block by block, so
    it does not grow with the number of pictures.

    Args:
        chains: fitted ones.
        maps: of a block of pictures.
        pictures: the same pictures.
        folder: where the block is laid for the processes.

    Returns:
        A number a chain; None where the system tells no high-water mark (it is Linux's).
    """
    if not STATUS.is_file():
        return [None] * len(chains)
    np.save(folder / "maps.npy", maps)
    np.save(folder / "pictures.npy", pictures)
    asked = [
        (str(chain), chain.classes, chain.around.ignore, chain.around.floor, folder)
        for chain in chains
    ]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(_peak_mb, *zip(*asked, strict=True)))


def _peak_mb(text: str, classes: int, ignore: int | None, floor: float, folder: Path) -> float:
    chain = parse_chain(text, classes=classes, ignore=ignore, floor=floor)
    maps, pictures = np.load(folder / "maps.npy"), np.load(folder / "pictures.npy")
    chain(maps, pictures)
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(PEAK))
    return int(line.split()[1]) * KIB / MB
