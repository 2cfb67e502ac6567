"""Fusion compared with reading, NumPy, one file per image and SimpleITK; strategies; memory."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuse import ComparisonResult, Workload
from benchmarks.memory import FACTOR, command_peaks
from benchmarks.synthetic import CLASSES, COLS, ROWS, create_store, draw_maps, draw_members
from ensemble.block_fusion import CACHE_IMAGES, fuse
from ensemble.fusion import Fusion, LearnedFusion, TrainingBlock
from ensemble.pipeline.bench.timing import compared, interleaved
from ensemble.strategies import STRATEGIES
from ensemble.strategy import build_strategy
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.types import Array, Labels, Map
from members.codecs import StoreDtype
from members.maps import ArrayMaps, MapReader
from members.store import ProbabilityStore

MEMORY_IMAGES, STAPLE_IMAGES, STRATEGY_IMAGES, FIT_IMAGES = 256, 24, 64, 4

ONE_BY_ONE = "a .npz an image"
MIN_IMAGES, SUBSET = 20, 20
"""Files one by one are slow: they get one in `SUBSET` images, but at least `MIN_IMAGES`."""

DTYPES: tuple[StoreDtype, ...] = ("float16", "uint8")

COARSE_PX = 4
ACCURACY = (0.6, 0.95)
"""Accuracy of the first and of the last rater; that of the others lies between."""

VARIANTS = (
    "majority_vote(ties=first_member)",
    "majority_vote(ties=lowest)",
    "mean(calibrate=isotonic)",
    "mean(calibrate=temperature)",
    "mean(calibrate=vector)",
    "per_class_vote(votes=hard)",
    "power_mean(exponent=7)",
    "stacking(neighbours=2)",
    "weighted_mean(per_class=True)",
)

PEAK_COMMANDS = {
    "mean": "fuse --maps a.npy --maps b.npy --strategy mean --out fused.npy",
    "stacking": "fuse --maps a.npy --maps b.npy --strategy stacking --fit-maps a.npy"
    " --fit-maps b.npy --fit-target target.npy --out fused.npy",
}


def memory(workload: Workload, folder: Path) -> ComparisonResult:
    """Compare `mean` of arrays with `np.stack(...).mean(0)`, on at most 256 images."""
    count = min(workload.images, MEMORY_IMAGES)
    arrays = list(draw_members(workload.members, count))
    readers = [ArrayMaps(str(index), array) for index, array in enumerate(arrays)]
    out = np.empty(arrays[0].shape, np.float32)

    def mean() -> None:
        fuse(readers, STRATEGIES.build("mean"), out.__setitem__, size=CACHE_IMAGES)

    contenders = {"mean": mean, "np.stack(...).mean(0)": lambda: np.stack(arrays).mean(0)}
    seconds = interleaved(contenders, workload.rounds)
    return ComparisonResult(compared(seconds, "mean"), {"maps": workload.members * count})


def files(workload: Workload, folder: Path) -> ComparisonResult:
    """Compare `mean` of float32 files, in the page cache, with one pass that only reads them.

    Args:
        workload: how much.
        folder: for the files, 164 KB per map.
    """
    maps = _write_files(folder, workload)
    out = np.empty(maps[0].block_shape(slice(None)), np.float32)

    def only_read() -> None:
        def read(block: slice) -> None:
            for member in maps:
                np.add.reduce(member.array[block], axis=None)

        for _ in map_blocks(read, workload.images, size=CACHE_IMAGES):
            pass

    def mean() -> None:
        fuse(maps, STRATEGIES.build("mean"), out.__setitem__, size=CACHE_IMAGES)

    seconds = interleaved({"read": only_read, "mean": mean}, workload.rounds)
    return ComparisonResult(compared(seconds, "read"), {"maps": workload.members * workload.images})


def _write_files(folder: Path, workload: Workload) -> list[ArrayMaps]:
    rng = np.random.default_rng(0)
    shape = (workload.images, CLASSES, ROWS, COLS)
    readers = []
    for member in range(workload.members):
        path = folder / f"{member}.npy"
        array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for block in blocks(workload.images):
            array[block] = draw_maps(rng, block.stop - block.start)
        array.flush()
        readers.append(ArrayMaps(str(path), np.load(path, mmap_mode="r")))
    return readers


def labels(workload: Workload, folder: Path) -> ComparisonResult:
    """Compare stores with one compressed `.npz` per image and member, from maps to labels.

    Times are per image, since the slow way gets a twentieth of the images.

    Args:
        workload: how much.
        folder: for stores and `.npz` files.
    """
    subset = min(workload.images, max(MIN_IMAGES, workload.images // SUBSET))
    stores = _write_stores(folder, workload, subset)
    contenders: dict[str, Callable[[], object]] = {
        f"store {dtype}": partial(_label_stores, readers) for dtype, readers in stores.items()
    }
    contenders[ONE_BY_ONE] = partial(_label_one_by_one, folder, workload.members, subset)
    seconds = {
        name: [s / (subset if name == ONE_BY_ONE else workload.images) for s in times]
        for name, times in interleaved(contenders, workload.rounds).items()
    }
    return ComparisonResult(compared(seconds, "store float16"), {"seconds_are": "an image"})


def _write_stores(
    folder: Path, workload: Workload, subset: int
) -> dict[StoreDtype, list[ProbabilityStore]]:
    rng = np.random.default_rng(0)
    stores = {
        dtype: [
            create_store(folder / dtype / str(member), workload.images, dtype)
            for member in range(workload.members)
        ]
        for dtype in DTYPES
    }
    for member in range(workload.members):
        for block in blocks(workload.images):
            maps = draw_maps(rng, block.stop - block.start)
            for dtype in DTYPES:
                stores[dtype][member].write(block, maps)
            for number, one_map in zip(range(block.start, subset), maps, strict=False):
                np.savez_compressed(folder / f"{member}-{number}.npz", probabilities=one_map)
    return stores


def _label_stores(readers: Sequence[MapReader]) -> Labels:
    count, (rows, cols) = readers[0].extent.runs[0]
    label_maps: Labels = np.empty((count, rows, cols), np.uint8)

    def write(block: slice, fused: Map) -> None:
        label_maps[block] = argmax(fused)

    fuse(readers, STRATEGIES.build("mean"), write)
    return label_maps


def _label_one_by_one(folder: Path, members: int, images: int) -> None:
    """Read file by file, as nnU-Net does."""
    for number in range(images):
        total = np.zeros((CLASSES, ROWS, COLS), np.float32)
        for member in range(members):
            with np.load(folder / f"{member}-{number}.npz") as archive:
                total += archive["probabilities"]
        (total / members).argmax(axis=0).astype(np.uint8)


def strategies(workload: Workload, folder: Path) -> ComparisonResult:
    """Compare all strategies with `mean`, on one block of at most 64 images in memory.

    Strategies that learn are fitted on a few images before.
    """
    maps = draw_members(workload.members, min(workload.images, STRATEGY_IMAGES))
    # All members are useful, or strategies that select some would have little to do.
    target = maps.mean(axis=0).argmax(axis=1)
    block = TrainingBlock(maps[:, :FIT_IMAGES], target[:FIT_IMAGES])
    fusions = {spec: _fit(spec, block, workload.members) for spec in (*STRATEGIES, *VARIANTS)}
    contenders = {spec: lambda fusion=fusion: fusion(maps) for spec, fusion in fusions.items()}
    seconds = interleaved(contenders, workload.rounds)
    return ComparisonResult(compared(seconds, "mean"), {"images": maps.shape[1]})


def _fit(spec: str, block: TrainingBlock, members: int) -> Fusion:
    built = build_strategy(
        spec,
        classes=CLASSES,
        ignore=0,
        kinds=("probabilities",) * members,
        floor=2.0**-25,
        seed=0,
    )
    return built.fit([block]) if isinstance(built, LearnedFusion) else built


def staple(workload: Workload, folder: Path) -> ComparisonResult:
    """Compare time and label maps with SimpleITK's `MultiLabelSTAPLE`, on at most 24 images."""
    import SimpleITK  # of the extra `bench`

    raters = _draw_raters(workload.members, min(workload.images, STAPLE_IMAGES))
    images = [SimpleITK.GetImageFromArray(np.concatenate(rater)) for rater in raters]
    maps = np.moveaxis(np.eye(CLASSES, dtype=np.float32)[raters], -1, 2).copy()
    strategy = STRATEGIES.build("staple", classes=CLASSES, ignore=None)
    assert isinstance(strategy, LearnedFusion)

    def ours() -> Array:
        return argmax(strategy.fit([TrainingBlock(maps, raters[0])])(maps))

    def simple_itk() -> Array:
        fused = SimpleITK.GetArrayFromImage(SimpleITK.MultiLabelSTAPLE(images))
        return np.reshape(fused, raters[0].shape)

    seconds = interleaved({"ours": ours, "SimpleITK": simple_itk}, workload.rounds)
    facts: dict[str, Any] = {
        "images": len(raters[0]),
        "members": workload.members,
        "equal_share": float((ours() == simple_itk()).mean()),
    }
    return ComparisonResult(compared(seconds, "SimpleITK"), facts)


def _draw_raters(members: int, images: int) -> Array:
    """Draw label maps (member, image, row, col), each right at random by its accuracy."""
    rng = np.random.default_rng(0)
    shape = (members, images, ROWS, COLS)
    coarse = rng.integers(0, CLASSES, (images, ROWS // COARSE_PX, COLS // COARSE_PX))
    target: Labels = coarse.repeat(COARSE_PX, axis=1).repeat(COARSE_PX, axis=2)
    right = rng.random(shape) < np.linspace(*ACCURACY, members)[:, None, None, None]
    return np.where(right, target, rng.integers(0, CLASSES, shape)).astype(np.uint8)


def peak(workload: Workload, folder: Path) -> ComparisonResult:
    """Compare the peak memory of `ens fuse` with that for ten times as many images.

    Two members in files, 5 MB of disk for each of the images.

    Raises:
        BadRun: the system does not report the memory of processes.
    """
    few, many = (
        command_peaks(PEAK_COMMANDS, count) for count in (workload.images, FACTOR * workload.images)
    )
    sides = {
        name: {"mb_fewer": few[name], "mb_more": many[name], "ratio": many[name] / few[name]}
        for name in PEAK_COMMANDS
    }
    facts = {"members": 2, "fewer": workload.images, "more": FACTOR * workload.images}
    return ComparisonResult(sides, facts)
