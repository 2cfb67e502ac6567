"""What the head of a chain gives is kept: a chain that begins alike goes on from there."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from uuid import uuid4

import numpy as np

from ensemble.pipeline.tuning.cross_validation import Block, Pool
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.types import Array, Counts
from postproc.chain import Chain
from postproc.step import LearnedStep

KEPT_BYTES = 1 << 30

MAP_AXES = 4

Key = tuple[str, str, int]


@dataclass(frozen=True, eq=False)
class NamedMaps:
    """Maps of all images of a pool.

    Args:
        name: tells them from others.
        array: floating point, (image, class, row, col), in the order of the split.
    """

    name: str
    array: Array


class Heads:
    """Runs chains on blocks of images and keeps, within bounds, what each head gave.

    What was used last stays longest. It may be called from several threads at once.
    """

    def __init__(self, pool: Pool, kept_bytes: int = KEPT_BYTES) -> None:
        """Begin with nothing kept.

        Args:
            pool: of the images.
            kept_bytes: of what is kept, at most.
        """
        self._pool, self._left = pool, kept_bytes
        self._made_by = (uuid4().hex, pool, kept_bytes)
        self._kept: OrderedDict[Key, Array] = OrderedDict()
        self._lock = Lock()
        self.runs: Counter[str] = Counter()
        """How many blocks each step ran on."""

    def __reduce__(self) -> tuple[Callable[..., "Heads"], tuple[str, Pool, int]]:
        return _same_heads, self._made_by

    def values(self, maps: NamedMaps, chain: Chain, block: Block) -> Array:
        """Return what a chain gives for a block: maps, or labels where its last step gives them."""
        if not chain.specs:
            values: Array = np.asarray(maps.array[block.places], np.float32)
            return values

        def work() -> Array:
            last = len(chain.specs) - 1
            before = self.values(maps, chain.head(last), block)
            return self._applied(chain, before, block)

        return self._once((maps.name, str(chain), block.number), work)

    def counts(self, maps: NamedMaps, chain: Chain, block: Block) -> Counts:
        """Count the pixels of a block by true class and the one that a chain gives."""

        def work() -> Counts:
            values = self.values(maps, chain, block)
            labels = argmax(values) if values.ndim == MAP_AXES else values
            target = np.asarray(self._pool.data.target()[block.places])
            return confusion(target, labels, classes=len(self._pool.classes))

        return self._once((maps.name, f"counts of {chain}", block.number), work)

    def _applied(self, chain: Chain, values: Array, block: Block) -> Array:
        """Apply the last step."""
        spec, step = chain.specs[-1], chain.steps[-1]
        assert not isinstance(step, LearnedStep)
        if step.takes == "labels" and values.ndim == MAP_AXES:
            values = argmax(values)
        seen = None
        if step.needs_images:
            seen = np.asarray(self._pool.data.images[block.places])
        with self._lock:
            self.runs[spec.name] += 1
        applied: Array = step.apply(values, seen)
        return applied

    def _once(self, key: Key, work: Callable[[], Array]) -> Array:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = work()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = found
                self._left -= found.nbytes
            while self._left < 0 and self._kept:
                self._left += self._kept.popitem(last=False)[1].nbytes
        return found


_SENT: dict[str, Heads] = {}


def _same_heads(name: str, pool: Pool, kept_bytes: int) -> Heads:
    """Return what a process has kept since these heads were first sent to it."""
    if name not in _SENT:
        _SENT.clear()
        _SENT[name] = Heads(pool, kept_bytes)
    return _SENT[name]
