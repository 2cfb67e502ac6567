"""One scan from maps to scores, in a process of its own, which writes how long it took."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.synthetic import CLASSES, COLS, ROWS, create_store, draw_maps
from ensemble.block_fusion import fuse
from ensemble.strategies import STRATEGIES
from evaluation.confusion import confusion
from evaluation.core.blocks import blocks
from evaluation.core.ragged import BLOCK_IMAGES, Extent
from evaluation.core.types import Counts, Labels, Map
from evaluation.protocols import PROTOCOLS
from members.codecs import StoreDtype
from members.maps import ArrayMaps, BlockReader, MapReader
from members.store import ProbabilityStore
from postproc.chain import parse_chain

CHAIN, IGNORE = "suppress_background", 0
RESULT = "scan.json"


@dataclass(frozen=True)
class RepeatedMaps(BlockReader):
    """A `MapReader` of any number of images, in the memory of one block, which repeats.

    Args:
        block: the maps.
        count: number of images.
    """

    block: ArrayMaps
    count: int
    name: str = "repeated"
    ids: None = None
    classes: None = None
    kind: str = "probabilities"

    @property
    def extent(self) -> Extent:
        """As many images as are asked for, of the block's size."""
        return Extent.uniform(self.count, self.block.extent.runs[0][1])

    @property
    def num_classes(self) -> int:
        """As of the block."""
        return self.block.num_classes

    @property
    def floor(self) -> float:
        """As of the block."""
        return self.block.floor

    def trained_on_mask(self) -> None:
        """Nothing is declared."""

    def read(self, images: slice, out: Map | None = None) -> Map:
        """Read some images, which lie within one block."""
        start = images.start % BLOCK_IMAGES
        return self.block.read(slice(start, start + images.stop - images.start), out)


def main() -> None:
    """Scan as the arguments say: members, images, and a folder of stores or nothing."""
    members, images, *stores = sys.argv[1:]
    readers: Sequence[MapReader] = (
        open_stores(Path(stores[0]), int(members))
        if stores
        else repeated_members(int(members), int(images))
    )
    scan(repeated_members(1, BLOCK_IMAGES), BLOCK_IMAGES)  # loads code, which is not measured
    wall, cpu = time.perf_counter(), time.process_time()
    miou = scan(readers, int(images))
    seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    Path(RESULT).write_text(json.dumps({**seconds, "miou": miou}), encoding="utf-8")


def scan(readers: Sequence[MapReader], images: int) -> float:
    """Fuse by `mean`, suppress the background, count and score; nothing is written.

    Args:
        readers: maps of the members.
        images: number of images.

    Returns:
        The masked mean IoU.
    """
    chain = parse_chain(CHAIN, classes=CLASSES, ignore=IGNORE, floor=readers[0].floor)
    target = draw_target()
    counts: Counts = np.zeros((images, CLASSES, CLASSES), np.int32)

    def score(block: slice, fused: Map) -> None:
        labels = chain(fused, None)
        counts[block] = confusion(target[: len(labels)], labels, classes=CLASSES)

    fuse(readers, STRATEGIES.build("mean"), score)
    return float(PROTOCOLS.build("masked")(counts.sum(axis=0), IGNORE).miou)


def repeated_members(members: int, images: int) -> list[RepeatedMaps]:
    """Draw a block of float16 maps per member."""
    rng = np.random.default_rng(0)
    maps = [draw_maps(rng, BLOCK_IMAGES).astype(np.float16) for _ in range(members)]
    return [
        RepeatedMaps(ArrayMaps(f"member {index}", block), images)
        for index, block in enumerate(maps)
    ]


def draw_target() -> Labels:
    """Draw the target of a block."""
    rng = np.random.default_rng(1)
    return rng.integers(0, CLASSES, (BLOCK_IMAGES, ROWS, COLS), dtype=np.uint8)


def write_stores(folder: Path, members: int, images: int, dtype: StoreDtype) -> None:
    """Write the maps of `repeated_members` into one store per member, named by its number."""
    rng = np.random.default_rng(0)
    for member in range(members):
        maps = draw_maps(rng, BLOCK_IMAGES)
        store = create_store(folder / str(member), images, dtype)
        for block in blocks(images):
            store.write(block, maps[: block.stop - block.start])


def open_stores(folder: Path, members: int) -> list[ProbabilityStore]:
    """Open what `write_stores` wrote."""
    return [ProbabilityStore(folder / str(member)) for member in range(members)]
