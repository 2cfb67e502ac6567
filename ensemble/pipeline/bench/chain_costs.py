"""What a chain costs: processor time of one core, and peak memory of a process of its own.

The process is new, since memory that an earlier chain freed may hide what this one needs; and it
imports little, since a large library's memory would hide a small step's. The peak is the kernel's
`VmHWM`: `ru_maxrss` starts at what the parent process held when it started the child (610 MB for an
empty one), and `tracemalloc` sees what NumPy allocates but not what compiled kernels do.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.pipeline.bench.timing import compared, interleaved
from evaluation.core.arrays import evenly_spaced
from evaluation.core.blocks import blocks
from evaluation.core.types import Array, Images, Map
from members.data.dataset import DataSet
from members.maps import MapReader
from postproc.chain import Chain, parse_chain

STATUS = Path("/proc/self/status")
PEAK = "VmHWM:"
KIB, MB = 1024, 1e6

TIMED_BLOCKS = 4
"""Blocks of images that are timed, spread over the split; memory is that of the first."""


@dataclass(frozen=True)
class ChainCost:
    """The speed of a chain on one core and the peak memory of a process, also relative to plain.

    Memory is None if the system does not report it; Linux does.
    """

    images_per_s: float
    times_as_long: float
    times_as_long_of_minima: float
    peak_mb: float | None
    peak_mb_over_plain: float | None


def measure_costs(
    chains: Mapping[str, Chain], maps: MapReader, data: DataSet, rounds: int
) -> dict[str, ChainCost]:
    """Time fitted chains in turns on maps in memory, and measure the memory of each.

    Processor time of all threads together is counted: a chain on two cores does not look twice as
    fast, and other work on the machine does not count. Reading maps is left out. The first chain is
    the one to compare with.
    """
    every = blocks(data.extent)
    timed = [every[index] for index in evenly_spaced(len(every), TIMED_BLOCKS)]
    inputs = [(maps.read(block), np.asarray(data.images[block])) for block in timed]
    images = sum(len(values) for values, _ in inputs)
    plain, *_ = chains
    with one_blas_thread(), tempfile.TemporaryDirectory() as folder:
        contenders = {name: _apply_to_all(chain, inputs) for name, chain in chains.items()}
        times = compared(interleaved(contenders, rounds, clock=time.process_time), plain)
        measured = peak_memory(list(chains.values()), *inputs[0], Path(folder))
    peaks = dict(zip(chains, measured, strict=True))
    base = peaks[plain]
    return {
        name: ChainCost(
            images_per_s=images / times[name]["median_s"],
            times_as_long=times[name]["ratio"],
            times_as_long_of_minima=times[name]["ratio_of_minima"],
            peak_mb=peak,
            peak_mb_over_plain=None if peak is None or base is None else peak - base,
        )
        for name, peak in peaks.items()
    }


def peak_memory(
    chains: Sequence[Chain], maps: Map, images: Images, folder: Path
) -> list[float | None]:
    """Return the peak memory of a process that labels one block by each fitted chain, in MB.

    This is what one thread needs, libraries included: `ens postprocess` works block by block, so
    memory does not grow with the number of images. The folder gets temporary files.
    """
    if not STATUS.is_file():
        return [None] * len(chains)
    np.save(folder / "maps.npy", maps)
    np.save(folder / "images.npy", images)
    arguments = [
        (str(chain), chain.classes, chain.context.ignore, chain.context.floor, folder)
        for chain in chains
    ]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(_peak_mb, *zip(*arguments, strict=True)))


def _peak_mb(text: str, classes: int, ignore: int | None, floor: float, folder: Path) -> float:
    chain = parse_chain(text, classes=classes, ignore=ignore, floor=floor)
    maps, images = np.load(folder / "maps.npy"), np.load(folder / "images.npy")
    chain(maps, images)
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(PEAK))
    return int(line.split()[1]) * KIB / MB


def _apply_to_all(chain: Chain, inputs: list[tuple[Array, Array]]) -> Callable[[], None]:
    def run() -> None:
        for values, images in inputs:
            chain(values, images)

    return run
