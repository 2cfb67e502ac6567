"""Maps of any number of pictures that take the memory of one block: a stand-in for the store.

Stores of drawn maps on disk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fuse.synthetic import (
    CLASSES,
    COLS,
    ROWS,
    drawn,
)
from evaluation.core.blocks import BLOCK_PICTURES, blocks
from evaluation.core.classes import numbered
from evaluation.core.types import Labels, Map
from members.maps import ArrayMaps, Size
from members.store import Few, ProbabilityStore
from members.store_metadata import StoreDtype


@dataclass(frozen=True)
class DrawnMaps:
    """One block of float16 maps, which every block of pictures has; see `MapReader`.

    Args:
        block: the maps.
        count: how many pictures it says it has.
    """

    block: ArrayMaps
    count: int
    kind: str = "probabilities"

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.block.name

    @property
    def size(self) -> Size:
        """Pictures, classes, rows, cols."""
        return self.count, *self.block.size[1:]

    @property
    def floor(self) -> float:
        """As of the block."""
        return self.block.floor

    def read(self, pictures: slice, room: Map | None = None) -> Map:
        """Read some pictures, which lie within one block."""
        return self.block.read(self._within(pictures), room)

    def stream(
        self, pictures: slice, places: Sequence[Few], *, onto: Iterator[Few] | None = None
    ) -> Iterator[Few]:
        """Read some pictures, which lie within one block, place after place."""
        return self.block.stream(self._within(pictures), places, onto=onto)

    def _within(self, pictures: slice) -> slice:
        start = pictures.start % BLOCK_PICTURES
        return slice(start, start + pictures.stop - pictures.start)


def drawn_readers(members: int, pictures: int) -> list[DrawnMaps]:
    """Draw a block of each member."""
    rng = np.random.default_rng(0)
    maps = [drawn(rng, BLOCK_PICTURES).astype(np.float16) for _ in range(members)]
    return [
        DrawnMaps(ArrayMaps(f"member {place}", block), pictures) for place, block in enumerate(maps)
    ]


def drawn_truth() -> Labels:
    """Draw the truth of a block."""
    rng = np.random.default_rng(1)
    return rng.integers(0, CLASSES, (BLOCK_PICTURES, ROWS, COLS), dtype=np.uint8)


def write_stores(folder: Path, members: int, pictures: int, dtype: StoreDtype) -> None:
    """Write the stores of all members, each block the same.

    Args:
        folder: gets a folder a member, by its number.
        members: how many.
        pictures: of each.
        dtype: on disk; a map of float16 takes 82 KB, one of uint8 41 KB.
    """
    rng = np.random.default_rng(0)
    for member in range(members):
        maps = drawn(rng, BLOCK_PICTURES)
        store = ProbabilityStore.create(
            folder / str(member),
            ids=[str(number) for number in range(pictures)],
            classes=numbered(CLASSES, ignore=0),
            shape=(ROWS, COLS),
            seen=None,
            dtype=dtype,
        )
        for block in blocks(pictures):
            store.write(block, maps[: block.stop - block.start])


def open_stores(folder: Path, members: int) -> list[ProbabilityStore]:
    """Open what `write_stores` wrote."""
    return [ProbabilityStore(folder / str(member)) for member in range(members)]
