"""What a chain costs: processor time of one core, and memory.

How much memory a chain takes, measured in a process of its own.

The process is fresh, since what an earlier chain has freed may hide what this one needs; and it
imports little, since a large library's memory would hide a small step's. The high-water mark is
the kernel's own `VmHWM`: `ru_maxrss` begins at what the parent process held when it started the
child (610 MB were seen for an empty one), and `tracemalloc` sees what NumPy allocates but not what
compiled kernels do.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.pipeline.bench.timing import compared, in_turns
from evaluation.core.arrays import evenly_spaced
from evaluation.core.blocks import blocks
from evaluation.core.types import Array, Images, Map
from members.data.dataset import DataSet
from members.maps import MapReader
from postproc.chain import Chain, parse_chain

STATUS = Path("/proc/self/status")
PEAK = "VmHWM:"
KIB, MB = 1024, 1e6


def peak_memory(
    chains: Sequence[Chain], maps: Map, images: Images, folder: Path
) -> list[float | None]:
    """Return the highest resident memory of a process that labels one block by each chain, in MB.

    That is what one thread takes, libraries included: `ens postprocess` works block by block, so
    it does not grow with the number of images.

    Args:
        chains: fitted ones.
        maps: of a block of images.
        images: the same images.
        folder: where the block is laid for the processes.

    Returns:
        A number a chain; None where the system tells no high-water mark (it is Linux's).
    """
    if not STATUS.is_file():
        return [None] * len(chains)
    np.save(folder / "maps.npy", maps)
    np.save(folder / "images.npy", images)
    asked = [
        (str(chain), chain.classes, chain.around.ignore, chain.around.floor, folder)
        for chain in chains
    ]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(_peak_mb, *zip(*asked, strict=True)))


def _peak_mb(text: str, classes: int, ignore: int | None, floor: float, folder: Path) -> float:
    chain = parse_chain(text, classes=classes, ignore=ignore, floor=floor)
    maps, images = np.load(folder / "maps.npy"), np.load(folder / "images.npy")
    chain(maps, images)
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(PEAK))
    return int(line.split()[1]) * KIB / MB


TIMED_BLOCKS = 4
"""Blocks of images that are timed, spread over the split; memory is that of the first."""

Block = tuple[Array, Array]
"""Maps and images of a block; the last one may be shorter."""


def costs(
    chains: Mapping[str, Chain], maps: MapReader, data: DataSet, rounds: int
) -> dict[str, dict[str, float | None]]:
    """Time chains in turns on maps in memory, and measure each one's memory.

    What is timed is processor time, of all threads together: a chain that took two cores would not
    look twice as fast, and other work on the machine is not counted in. Reading maps is left out.

    Args:
        chains: fitted ones by name, the one to compare with first.
        maps: of a split.
        data: its images.
        rounds: how often each is timed.

    Returns:
        By name: `images_per_s` of one core (median), `times_as_long` as the first one (ratio of
        medians), `times_as_long_of_minima`, `peak_mb` and `peak_mb_over_plain`, the first one.
    """
    every = blocks(len(data))
    timed = [every[place] for place in evenly_spaced(len(every), TIMED_BLOCKS)]
    cases = [(maps.read(block), np.asarray(data.images[block])) for block in timed]
    images = sum(len(values) for values, _ in cases)
    plain, *_ = chains
    with one_blas_thread(), tempfile.TemporaryDirectory() as folder:
        sides = {name: _call(chain, cases) for name, chain in chains.items()}
        times = compared(in_turns(sides, rounds, clock=time.process_time), plain)
        peaks = dict(
            zip(chains, peak_memory(list(chains.values()), *cases[0], Path(folder)), strict=True)
        )
    return {
        name: {
            "images_per_s": images / times[name]["median_s"],
            "times_as_long": times[name]["ratio"],
            "times_as_long_of_minima": times[name]["ratio_of_minima"],
            "peak_mb": peaks[name],
            "peak_mb_over_plain": _difference(peaks[name], peaks[plain]),
        }
        for name in chains
    }


def _call(chain: Chain, cases: list[Block]) -> Callable[[], object]:
    def run() -> None:
        for values, images in cases:
            chain(values, images)

    return run


def _difference(peak: float | None, plain: float | None) -> float | None:
    return None if peak is None or plain is None else peak - plain
