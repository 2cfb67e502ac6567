"""Maps of any number of images that take the memory of one block: a stand-in for the store.

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
from evaluation.core.blocks import BLOCK_IMAGES, blocks
from evaluation.core.classes import numbered
from evaluation.core.types import Labels, Map
from members.maps import ArrayMaps, Size
from members.store import Few, ProbabilityStore
from members.store_metadata import StoreDtype


@dataclass(frozen=True)
class DrawnMaps:
    """One block of float16 maps, which every block of images has; see `MapReader`.

    Args:
        block: the maps.
        count: how many images it says it has.
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
        """Images, classes, rows, cols."""
        return self.count, *self.block.size[1:]

    @property
    def floor(self) -> float:
        """As of the block."""
        return self.block.floor

    def read(self, images: slice, room: Map | None = None) -> Map:
        """Read some images, which lie within one block."""
        return self.block.read(self._within(images), room)

    def stream(
        self, images: slice, places: Sequence[Few], *, onto: Iterator[Few] | None = None
    ) -> Iterator[Few]:
        """Read some images, which lie within one block, place after place."""
        return self.block.stream(self._within(images), places, onto=onto)

    def _within(self, images: slice) -> slice:
        start = images.start % BLOCK_IMAGES
        return slice(start, start + images.stop - images.start)


def drawn_readers(members: int, images: int) -> list[DrawnMaps]:
    """Draw a block of each member."""
    rng = np.random.default_rng(0)
    maps = [drawn(rng, BLOCK_IMAGES).astype(np.float16) for _ in range(members)]
    return [
        DrawnMaps(ArrayMaps(f"member {place}", block), images) for place, block in enumerate(maps)
    ]


def drawn_target() -> Labels:
    """Draw the target of a block."""
    rng = np.random.default_rng(1)
    return rng.integers(0, CLASSES, (BLOCK_IMAGES, ROWS, COLS), dtype=np.uint8)


def write_stores(folder: Path, members: int, images: int, dtype: StoreDtype) -> None:
    """Write the stores of all members, each block the same.

    Args:
        folder: gets a folder a member, by its number.
        members: how many.
        images: of each.
        dtype: on disk; a map of float16 takes 82 KB, one of uint8 41 KB.
    """
    rng = np.random.default_rng(0)
    for member in range(members):
        maps = drawn(rng, BLOCK_IMAGES)
        store = ProbabilityStore.create(
            folder / str(member),
            ids=[str(number) for number in range(images)],
            classes=numbered(CLASSES, ignore=0),
            shape=(ROWS, COLS),
            seen=None,
            dtype=dtype,
        )
        for block in blocks(images):
            store.write(block, maps[: block.stop - block.start])


def open_stores(folder: Path, members: int) -> list[ProbabilityStore]:
    """Open what `write_stores` wrote."""
    return [ProbabilityStore(folder / str(member)) for member in range(members)]
