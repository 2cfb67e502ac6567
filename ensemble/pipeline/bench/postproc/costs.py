"""What a chain costs: processor time of one core, and memory."""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.pipeline.bench.postproc.peak import peak_memory
from ensemble.pipeline.bench.timing import compared, in_turns
from evaluation.ground.arrays import Array
from evaluation.ground.blocks import blocks
from evaluation.ground.spaced import spaced
from members.data.dataset import DataSet
from members.maps import MapReader
from postproc.chain import Chain

TIMED_BLOCKS = 4
"""Blocks of pictures that are timed, spread over the split; memory is that of the first."""

Block = tuple[Array, Array]
"""Maps and pictures of a block; the last one may be shorter."""


def costs(
    chains: Mapping[str, Chain], maps: MapReader, data: DataSet, rounds: int
) -> dict[str, dict[str, float | None]]:
    """Time chains in turns on maps in memory, and measure each one's memory.

    What is timed is processor time, of all threads together: a chain that took two cores would not
    look twice as fast, and other work on the machine is not counted in. Reading maps is left out.

    Args:
        chains: fitted ones by name, the one to compare with first.
        maps: of a split.
        data: its pictures.
        rounds: how often each is timed.

    Returns:
        By name: `pictures_per_s` of one core (median), `times_as_long` as the first one (ratio of
        medians), `times_as_long_of_minima`, `peak_mb` and `peak_mb_over_plain`, the first one.
    """
    every = blocks(len(data))
    timed = [every[place] for place in spaced(len(every), TIMED_BLOCKS)]
    cases = [(maps.read(block), np.asarray(data.pictures[block])) for block in timed]
    pictures = sum(len(values) for values, _ in cases)
    plain, *_ = chains
    with one_blas_thread(), tempfile.TemporaryDirectory() as folder:
        sides = {name: _call(chain, cases) for name, chain in chains.items()}
        times = compared(in_turns(sides, rounds, clock=time.process_time), plain)
        peaks = dict(
            zip(chains, peak_memory(list(chains.values()), *cases[0], Path(folder)), strict=True)
        )
    return {
        name: {
            "pictures_per_s": pictures / times[name]["median_s"],
            "times_as_long": times[name]["ratio"],
            "times_as_long_of_minima": times[name]["ratio_of_minima"],
            "peak_mb": peaks[name],
            "peak_mb_over_plain": _difference(peaks[name], peaks[plain]),
        }
        for name in chains
    }


def _call(chain: Chain, cases: list[Block]) -> Callable[[], object]:
    def run() -> None:
        for values, pictures in cases:
            chain(values, pictures)

    return run


def _difference(peak: float | None, plain: float | None) -> float | None:
    return None if peak is None or plain is None else peak - plain
