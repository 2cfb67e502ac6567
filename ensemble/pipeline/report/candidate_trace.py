"""A candidate's way from its members to its labels, for some images or all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.pipeline.candidates.fuse import resolve_fusion
from ensemble.pipeline.candidates.postprocess import applied_chain, read_candidate
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.types import Array
from evaluation.report.gallery import Layer
from members.data.dataset import DataSet
from members.maps import MapReader
from postproc.chain import Chain


@dataclass(frozen=True)
class Walk:
    """Where a candidate's labels come from.

    Args:
        members: names of what is fused; the one member where nothing is.
        reference: the member that all are compared with; None where there is none.
        source: name of the fusion or member.
        readers: of the members' maps, then of the source's where it is a fusion.
        chain: fitted.
        data: the images.
    """

    members: tuple[str, ...]
    reference: str | None
    source: str
    readers: tuple[MapReader, ...]
    chain: Chain
    data: DataSet

    @classmethod
    def of(cls, sources: RunMembers, candidate: str, split: str, reference: str | None) -> "Walk":
        """Open what a candidate of a run is made of; its maps must be there."""
        run = sources.run
        source, _ = read_candidate(run, candidate)
        members: tuple[str, ...] = (source,)
        if source not in sources.names():
            members = resolve_fusion(run_experiment(run), sources, source).members
        opened = tuple(sources.open(name, split) for name in dict.fromkeys([*members, source]))
        chain = applied_chain(run, candidate, floor=opened[-1].floor)
        return cls(members, reference, source, opened, chain, DataSet.load(run.data(split)))

    @property
    def fused(self) -> bool:
        """Whether there is a fusion between members and chain."""
        return len(self.readers) > len(self.members)

    def layers(self, places: Sequence[int]) -> list[Layer]:
        """Return the labels of each stage for some images, wherever they lie."""
        maps = [_read(reader, places) for reader in self.readers]
        found = [Layer(name, argmax(m), None) for name, m in zip(self.members, maps, strict=False)]
        if self.fused:
            before = self.members.index(self.reference) if self.reference in self.members else None
            found.append(Layer(self.source, argmax(maps[-1]), before))
        images = np.asarray(self.data.images[list(places)])
        for length, spec in enumerate(self.chain.specs, start=1):
            labels = self.chain.head(length)(maps[-1], images)
            found.append(Layer(spec.name, labels, len(found) - 1))
        return found

    def preds(self) -> Iterator[tuple[slice, Array]]:
        """Yield (block, labels) of all members, then the fusion's: (who, image, row, col)."""
        where = blocks(len(self.data))

        def read(block: slice) -> Array:
            return np.stack([argmax(reader.read(block)) for reader in self.readers])

        yield from zip(where, map_blocks(read, len(self.data)), strict=True)


def _read(reader: MapReader, places: Sequence[int]) -> Array:
    return np.concatenate([reader.read(slice(place, place + 1)) for place in places])
