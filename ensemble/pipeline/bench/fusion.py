"""How long fusing takes, beside reading the same bytes and beside other ways of doing it."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.fuse import CACHE_PICTURES, fuse
from ensemble.fusion import Block, Fusion, Learned
from ensemble.pipeline.bench.timing import compared, in_turns, machine
from ensemble.strategies import STRATEGIES
from evaluation.ground.arrays import Labels, Map, Maps
from evaluation.ground.blocks import blocks, map_blocks
from evaluation.ground.classes import numbered
from evaluation.ground.highest import highest
from members.maps import ArrayMaps, MapReader
from members.store import ProbabilityStore, StoreDtype

CLASSES, ROWS, COLS = 5, 64, 128
STEP_PICTURES = 64
FIT_PICTURES = 4
SMALLEST_NNUNET = 20
SEED = 0


@dataclass(frozen=True)
class Size:
    """What is fused.

    Args:
        members: how many.
        pictures: maps of each, 5 x 64 x 128.
        rounds: how often each side is timed.
    """

    members: int
    pictures: int
    rounds: int


def bench_fuse(size: Size, tell: Callable[[str], None]) -> dict[str, Any]:
    """Time fusing on drawn maps, in a temporary folder.

    Args:
        size: how much, how often.
        tell: gets a line for each part.

    Returns:
        A JSON document: the machine, the sizes, and for each part the seconds and ratios of its
        sides. `files`: `mean` over float32 files against one pass that only reads them. `memory`:
        `mean` over float32 arrays in memory against `np.stack(...).mean(0)`. `labels`: from
        stores to label maps against one compressed `.npz` a picture and member. `steps`: the fuse
        step of every strategy against `mean`.
    """
    parts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, one_blas_thread():
        maps = _written(Path(folder), size)
        tell("maps are written")
        parts["files"] = _files(maps, size)
        parts["memory"] = _memory(maps, size)
        tell("files and memory are timed")
        parts["labels"] = _labels(Path(folder), maps, size)
        tell("stores are timed")
        parts["steps"] = _steps(maps, size)
    return {"machine": machine(), **vars(size), **parts}


def _written(folder: Path, size: Size) -> list[ArrayMaps]:
    """Write members' maps as float32 `.npy`; smooth, as networks give them, and all different."""
    rng = np.random.default_rng(SEED)
    shape = (size.pictures, CLASSES, ROWS, COLS)
    found = []
    for member in range(size.members):
        path = folder / f"{member}.npy"
        array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for block in blocks(size.pictures):
            array[block] = _drawn(rng, block.stop - block.start)
        array.flush()
        found.append(ArrayMaps(str(path), np.load(path, mmap_mode="r")))
    return found


def _drawn(rng: np.random.Generator, pictures: int) -> Map:
    coarse = rng.normal(0, 3, (pictures, CLASSES, ROWS // 8, COLS // 8)).astype(np.float32)
    scores = coarse.repeat(8, axis=2).repeat(8, axis=3)
    scores += rng.normal(0, 0.2, scores.shape).astype(np.float32)
    np.exp(scores, out=scores)
    maps: Map = scores / scores.sum(axis=1, keepdims=True)
    return maps


def _files(maps: Sequence[ArrayMaps], size: Size) -> dict[str, Any]:
    out = np.empty(maps[0].size, np.float32)

    def only_read() -> None:
        def look(block: slice) -> None:
            for one in maps:
                np.add.reduce(one.array[block], axis=None)

        for _ in map_blocks(look, size.pictures, size=CACHE_PICTURES):
            pass

    def mean() -> None:
        fuse(maps, STRATEGIES.build("mean"), size.pictures, out.__setitem__, size=CACHE_PICTURES)

    return compared(in_turns({"read": only_read, "mean": mean}, size.rounds), "read")


def _memory(maps: Sequence[ArrayMaps], size: Size) -> dict[str, Any]:
    count = min(size.pictures, 4 * STEP_PICTURES)
    arrays = [np.array(one.array[:count]) for one in maps]
    readers = [ArrayMaps(str(place), array) for place, array in enumerate(arrays)]
    out = np.empty(arrays[0].shape, np.float32)
    sides = {
        "mean": lambda: fuse(
            readers, STRATEGIES.build("mean"), count, out.__setitem__, size=CACHE_PICTURES
        ),
        "np.stack(...).mean(0)": lambda: np.stack(arrays).mean(0),
    }
    return compared(in_turns(sides, size.rounds), "mean")


def _labels(folder: Path, maps: Sequence[ArrayMaps], size: Size) -> dict[str, Any]:
    """Compare a picture of each way, since the slow one is given fewer pictures."""
    few = max(SMALLEST_NNUNET, size.pictures // 20)
    stores = {dtype: _stores(folder, maps, dtype) for dtype in ("float16", "uint8")}
    for number in range(few):
        for place, one in enumerate(maps):
            name = folder / f"{place}-{number}.npz"
            np.savez_compressed(name, probabilities=one.array[number])

    def one_by_one() -> None:
        for number in range(few):
            total = np.zeros((CLASSES, ROWS, COLS), np.float32)
            for place in range(len(maps)):
                with np.load(folder / f"{place}-{number}.npz") as archive:
                    total += archive["probabilities"]
            (total / len(maps)).argmax(axis=0).astype(np.uint8)

    sides = {f"store {dtype}": lambda of=of: _argmax(of) for dtype, of in stores.items()}
    seconds = in_turns({**sides, "a .npz a picture": one_by_one}, size.rounds)
    a_picture = {
        name: [s / (few if name == "a .npz a picture" else size.pictures) for s in times]
        for name, times in seconds.items()
    }
    return compared(a_picture, "store float16")


def _argmax(readers: Sequence[MapReader]) -> Labels:
    count, _, rows, cols = readers[0].size
    labels: Labels = np.empty((count, rows, cols), np.uint8)

    def write(block: slice, fused: Map) -> None:
        labels[block] = highest(fused)

    fuse(readers, STRATEGIES.build("mean"), count, write)
    return labels


def _stores(folder: Path, maps: Sequence[ArrayMaps], dtype: StoreDtype) -> list[ProbabilityStore]:
    found = []
    for place, one in enumerate(maps):
        store = ProbabilityStore.create(
            folder / dtype / str(place),
            ids=[str(number) for number in range(one.size[0])],
            classes=numbered(CLASSES, ignore=0),
            shape=(ROWS, COLS),
            seen=None,
            dtype=dtype,
        )
        for block in store.missing():
            store.write(block, one.read(block))
        found.append(store)
    return found


def _steps(maps: Sequence[ArrayMaps], size: Size) -> dict[str, Any]:
    """Time what every strategy adds to reading: one block, in memory, fitted on a few pictures."""
    stacked: Maps = np.stack([one.read(slice(0, STEP_PICTURES)) for one in maps])
    truth = stacked[0].argmax(axis=1)
    block = Block(stacked[:, :FIT_PICTURES], truth[:FIT_PICTURES])
    fusions = {name: _fitted(name, block, len(maps)) for name in STRATEGIES}
    sides = {name: lambda fusion=fusion: fusion(stacked) for name, fusion in fusions.items()}
    return compared(in_turns(sides, size.rounds), "mean")


def _fitted(name: str, block: Block, members: int) -> Fusion:
    built = STRATEGIES.build(
        name,
        classes=CLASSES,
        ignore=0,
        kinds=("probabilities",) * members,
        floor=2.0**-25,
        seed=SEED,
    )
    return built.fit([block]) if isinstance(built, Learned) else built


def as_text(document: dict[str, Any]) -> str:
    """Write what `bench_fuse` returns for people."""
    lines = []
    for part in ("files", "memory", "labels", "steps"):
        lines += ["", f"{part:24}{'median ms':>12}{'ratio':>9}{'of minima':>11}"]
        for name, found in document[part].items():
            lines.append(
                f"{name:24}{1000 * found['median_s']:12.3f}{found['ratio']:9.2f}"
                f"{found['ratio_of_minima']:11.2f}"
            )
    return "\n".join(lines[1:])
