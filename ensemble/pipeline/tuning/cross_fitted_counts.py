"""Count what chains do to out-of-fold images, each image by a chain fitted without its fold."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from threading import Lock
from uuid import uuid4

import numpy as np

from ensemble.pipeline.run.open_run import fold_indices
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, LeakageError
from evaluation.core.ragged import Size, Stack, block_images
from evaluation.core.run_folder import OOF, Run
from evaluation.core.types import Array, Counts, Groups
from members.data.dataset import DataSet
from members.data.folds import hold_out
from postproc.chain import MAP_AXES, Chain, run_step
from postproc.step import FitBlock, LearnedStep

MAX_INNER_FOLDS = 3
"""Steps that learn are fitted once per inner fold."""

BLOCK_IMAGES = 32
"""Small, so that several cores have work and trials can be pruned after a part of the images."""

CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class Block:
    """Some images of one cell, by their indices in the split."""

    number: int
    cell: int
    indices: Groups


@dataclass(frozen=True, eq=False)
class CvPool:
    """The out-of-fold images of a run in cells, which split no group.

    Args:
        data: the split.
        groups: the group of each image.
        outer: the outer fold (a fold of the run) of each cell.
        blocks: ordered so that any first part holds images of every cell.
    """

    data: DataSet
    groups: Array
    outer: tuple[int, ...]
    blocks: tuple[Block, ...]

    @classmethod
    def create(cls, run: Run, seed: int) -> "CvPool":
        """Divide the out-of-fold images of a run.

        A cell is a fold of the run, or half of one if there are two folds, so that the images
        outside of any fold can be divided again.

        Args:
            run: the experiment folder.
            seed: decides which images come first.

        Raises:
            BadData: no target, or too few groups.
            LeakageError: a group that lies in two folds.
        """
        data, folds = DataSet.load(run.data(OOF)), fold_indices(run)
        groups = data.group_names()
        _check_groups(groups, folds)
        cells = folds.copy()
        if folds.max() == 1:
            target = data.target()
            for fold in (0, 1):
                inside = np.flatnonzero(folds == fold)
                half = hold_out(target[inside], groups[inside], 0.5, seed)
                cells[inside] = 2 * fold + half
        outer = tuple(int(folds[cells == cell][0]) for cell in range(int(cells.max()) + 1))
        return cls(data, groups, outer, _make_blocks(groups, cells, seed, data.extent.sizes))

    @property
    def classes(self) -> Classes:
        """The classes of the labels."""
        return self.data.classes

    @property
    def folds(self) -> int:
        """Number of outer folds."""
        return max(self.outer) + 1

    def inner_folds(self, test_fold: int | None) -> list[int | None]:
        """Return the inner fold of each cell; None for a cell of the outer test fold.

        Without a test fold these are the run's folds, as in `ens postprocess`.
        """
        if test_fold is None:
            return list(self.outer)
        train = [cell for cell, fold in enumerate(self.outer) if fold != test_fold]
        return [
            train.index(cell) % MAX_INNER_FOLDS if cell in train else None
            for cell in range(len(self.outer))
        ]

    def fold_of_images(self) -> Groups:
        """Return the fold of the run that each image lies in."""
        folds = np.empty(len(self.data), np.intp)
        for block in self.blocks:
            folds[block.indices] = self.outer[block.cell]
        return folds

    def groups_of(self, blocks: Sequence[Block]) -> Array:
        """Return the group of each image of some blocks."""
        names: Array = np.concatenate([self.groups[block.indices] for block in blocks])
        return names


@dataclass(frozen=True, eq=False)
class NamedMaps:
    """Maps of all images of a pool, (image, class, row, col); the name is their key in a cache."""

    name: str
    array: Stack


class PrefixCache:
    """Runs chains on blocks of images and caches the result of every prefix of a chain.

    The least recently used results go first. Several threads may call it at once.
    """

    def __init__(self, pool: CvPool, max_bytes: int = CACHE_BYTES) -> None:
        """Start empty, with a limit of what is cached."""
        self._pool, self._bytes_left = pool, max_bytes
        self._identity = (uuid4().hex, pool, max_bytes)
        self._cached: OrderedDict[tuple[str, str, int], Array] = OrderedDict()
        self._lock = Lock()
        self.runs: Counter[str] = Counter()
        """Number of blocks each step ran on."""

    def __reduce__(self) -> tuple[Callable[..., "PrefixCache"], tuple[str, CvPool, int]]:
        return _process_cache, self._identity

    def values(self, maps: NamedMaps, chain: Chain, block: Block) -> Array:
        """Return the output of a chain for a block: maps, or labels if its last step gives them."""
        if not chain.specs:
            values: Array = np.asarray(maps.array[block.indices], np.float32)
            return values

        def work() -> Array:
            prefix = chain.prefix(len(chain.specs) - 1)
            return self._apply_last_step(chain, self.values(maps, prefix, block), block)

        return self._get((maps.name, str(chain), block.number), work)

    def counts(self, maps: NamedMaps, chain: Chain, block: Block) -> Counts:
        """Count the pixels of a block, (image, true class, class by the chain)."""

        def work() -> Counts:
            values = self.values(maps, chain, block)
            labels = argmax(values) if values.ndim == MAP_AXES else values
            target = np.asarray(self._pool.data.target()[block.indices])
            return confusion(target, labels, classes=len(self._pool.classes))

        return self._get((maps.name, f"counts of {chain}", block.number), work)

    def _apply_last_step(self, chain: Chain, values: Array, block: Block) -> Array:
        spec, step = chain.specs[-1], chain.steps[-1]
        assert not isinstance(step, LearnedStep)
        images = None
        if step.needs_images:
            images = np.asarray(self._pool.data.images[block.indices])
        with self._lock:
            self.runs[spec.name] += 1
        return run_step(spec, step, values, images)

    def _get(self, key: tuple[str, str, int], work: Callable[[], Array]) -> Array:
        with self._lock:
            if key in self._cached:
                self._cached.move_to_end(key)
                return self._cached[key]
        result = work()
        with self._lock:
            if key not in self._cached:
                self._cached[key] = result
                self._bytes_left -= result.nbytes
            while self._bytes_left < 0 and self._cached:
                self._bytes_left += self._cached.popitem(last=False)[1].nbytes
        return result


@dataclass(frozen=True, eq=False)
class OuterSplit:
    """The images that one search uses (train), and those that it is evaluated on (test).

    The maps come from models that never saw the target of the test images, which are one outer
    fold, or None for the search on all images.
    """

    pool: CvPool
    cache: PrefixCache
    maps: NamedMaps
    test_fold: int | None = None
    _fitted: dict[tuple[str, int | None], Chain] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Stem of its files."""
        return "all" if self.test_fold is None else f"without-{self.test_fold}"

    @property
    def train_blocks(self) -> list[Block]:
        """The blocks that the search uses."""
        return [block for block in self.pool.blocks if self._inner_fold(block) is not None]

    @property
    def test_blocks(self) -> list[Block]:
        """The blocks that the search is evaluated on."""
        return [block for block in self.pool.blocks if self._inner_fold(block) is None]

    def counts(self, chain: Chain, blocks: Sequence[Block]) -> Counts:
        """Count blocks, each by the chain fitted without its inner fold.

        So test images are counted by the chain fitted on all train images.
        """
        for fold in dict.fromkeys(self._inner_fold(block) for block in blocks):
            self.fitted_without(chain, fold)

        def work(index: slice) -> Counts:
            block = blocks[index.start]
            fitted = self.fitted_without(chain, self._inner_fold(block))
            return self.cache.counts(self.maps, fitted, block)

        return np.concatenate(list(map_blocks(work, len(blocks), size=1)))

    def fitted_without(self, chain: Chain, fold: int | None) -> Chain:
        """Return the chain fitted on the train images outside an inner fold; on all for None."""
        if not chain.learns:
            return chain
        key = (str(chain), fold)
        if key not in self._fitted:
            chosen = [block for block in self.train_blocks if self._inner_fold(block) != fold]
            self._fitted[key] = self._fit(chain, chosen)
        return self._fitted[key]

    def _fit(self, chain: Chain, chosen: Sequence[Block]) -> Chain:
        for index, step in enumerate(chain.steps):
            if isinstance(step, LearnedStep):
                chain = chain.replace_step(
                    index, step.fit(_FitBlocks(self, chain.prefix(index), chosen))
                )
        return chain

    def _inner_fold(self, block: Block) -> int | None:
        return self.pool.inner_folds(self.test_fold)[block.cell]


@dataclass(frozen=True)
class _FitBlocks:
    """What a prefix of a chain gives for some blocks, with target; iterable several times."""

    split: OuterSplit
    prefix: Chain
    chosen: Sequence[Block]

    def __iter__(self) -> Iterator[FitBlock]:
        target = self.split.pool.data.target()

        def work(index: slice) -> FitBlock:
            block = self.chosen[index.start]
            values = self.split.cache.values(self.split.maps, self.prefix, block)
            return FitBlock(values, np.asarray(target[block.indices]))

        return map_blocks(work, len(self.chosen), size=1)


_PROCESS_CACHE: dict[str, PrefixCache] = {}


def _process_cache(identity: str, pool: CvPool, max_bytes: int) -> PrefixCache:
    """Return this process's copy of a cache, with all it has cached since it was first sent."""
    if identity not in _PROCESS_CACHE:
        _PROCESS_CACHE.clear()
        _PROCESS_CACHE[identity] = PrefixCache(pool, max_bytes)
    return _PROCESS_CACHE[identity]


def _check_groups(groups: Array, folds: Groups) -> None:
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise BadData(f"all {len(groups)} images are of one group; expected several to divide")
    pairs = np.unique(np.stack([group, folds]), axis=1)
    divided = names[np.bincount(pairs[0]) > 1]
    if len(divided):
        raise LeakageError(
            f"group {str(divided[0])!r} lies in two folds; fold by group to evaluate by fold"
        )
    for fold in range(int(folds.max()) + 1):
        count = len(np.unique(groups[folds == fold]))
        if count < 2:
            raise BadData(f"fold {fold} holds {count} group; expected 2 or more to tune on")


def _make_blocks(
    groups: Array, cells: Groups, seed: int, sizes: Sequence[Size]
) -> tuple[Block, ...]:
    """Shuffle the groups of each cell, cut them into blocks of one size, interleave the cells."""
    _, group = np.unique(groups, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(group.max() + 1)[group]
    per_cell = []
    for inside in (np.flatnonzero(cells == cell) for cell in range(int(cells.max()) + 1)):
        ordered = inside[np.argsort(rank[inside], kind="stable")]
        by_size: dict[Size, list[int]] = {}
        for index in ordered:
            by_size.setdefault(sizes[index], []).append(index)
        per_cell.append(
            [
                np.array(indices[cut])
                for size, indices in by_size.items()
                for cut in blocks(len(indices), block_images(size, BLOCK_IMAGES))
            ]
        )
    interleaved = [
        (cell, indices)
        for turn in zip_longest(*per_cell)
        for cell, indices in enumerate(turn)
        if indices is not None
    ]
    return tuple(Block(number, *item) for number, item in enumerate(interleaved))
