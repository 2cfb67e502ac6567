"""One search of several: which images it sees, which are examined, and chains fitted in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ensemble.pipeline.tuning.cross_validation import Block, Pool
from ensemble.pipeline.tuning.prefix_cache import Heads, NamedMaps
from evaluation.core.blocks import map_blocks
from evaluation.core.types import Array, Counts
from postproc.chain import Chain
from postproc.step import FitBlock, LearnedStep


@dataclass(frozen=True, eq=False)
class Level:
    """The images that one search sees, and those that it is examined on.

    Args:
        pool: of all images.
        heads: runs the chains.
        maps: of all images, by what never saw the target of those examined.
        examined: the outer fold that is left out; None for the search on all images.
    """

    pool: Pool
    heads: Heads
    maps: NamedMaps
    examined: int | None = None
    _fitted: dict[tuple[str, int | None], Chain] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What files of it are called."""
        return "all" if self.examined is None else f"without-{self.examined}"

    @property
    def searched(self) -> list[Block]:
        """The blocks that the search sees."""
        return [block for block in self.pool.blocks if self._inner(block) is not None]

    @property
    def outside(self) -> list[Block]:
        """The blocks that it is examined on."""
        return [block for block in self.pool.blocks if self._inner(block) is None]

    def counts(self, chain: Chain, blocks: Sequence[Block]) -> Counts:
        """Count blocks, each by a chain whose steps learned without its inner fold.

        So examined images are counted by a chain that learned from all that are searched.

        Args:
            chain: as it was asked, nothing learned yet.
            blocks: which.
        """
        for fold in dict.fromkeys(self._inner(block) for block in blocks):
            self.fitted(chain, fold)

        def work(at: slice) -> Counts:
            block = blocks[at.start]
            return self.heads.counts(self.maps, self.fitted(chain, self._inner(block)), block)

        return np.concatenate(list(map_blocks(work, len(blocks), size=1)))

    def fitted(self, chain: Chain, fold: int | None) -> Chain:
        """Return the chain fitted on the searched images outside an inner fold, or on all."""
        if not chain.learns:
            return chain
        key = (str(chain), fold)
        if key not in self._fitted:
            chosen = [block for block in self.searched if self._inner(block) != fold]
            self._fitted[key] = self._fit(chain, chosen)
        return self._fitted[key]

    def _fit(self, chain: Chain, chosen: Sequence[Block]) -> Chain:
        for place, step in enumerate(chain.steps):
            if isinstance(step, LearnedStep):
                head = chain.head(place)
                chain = chain.put(place, step.fit(_Learning(self, head, chosen)))
        return chain

    def _inner(self, block: Block) -> int | None:
        return self.pool.inner(self.examined)[block.part]


@dataclass(frozen=True)
class _Learning:
    """What a head gives for some blocks, with their target; can be gone through several times."""

    level: Level
    head: Chain
    chosen: Sequence[Block]

    def __iter__(self) -> Iterator[FitBlock]:
        target = self.level.pool.data.target()

        def work(at: slice) -> FitBlock:
            block = self.chosen[at.start]
            values = self.level.heads.values(self.level.maps, self.head, block)
            return FitBlock(values, np.asarray(target[block.places]))

        return map_blocks(work, len(self.chosen), size=1)


def groups_of(pool: Pool, blocks: Sequence[Block]) -> Array:
    """Return the group of each image of some blocks."""
    names: Array = np.concatenate([pool.groups[block.places] for block in blocks])
    return names
