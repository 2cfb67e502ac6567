"""The label maps of a candidate's stages: its members, their fusion, each step of its chain."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.diversity.disagreement import entropy
from ensemble.pipeline.candidates.fuse import resolve_fusion
from ensemble.pipeline.candidates.postprocess import applied_chain, read_candidate
from ensemble.pipeline.candidates.probabilities import open_probabilities
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.ragged import Extent, Stack
from evaluation.core.types import Array
from evaluation.report.gallery import Layer
from members.data.dataset import DataSet
from members.maps import MapReader
from postproc.chain import Chain


@dataclass(frozen=True)
class CandidateTrace:
    """The stages from members to labels, over one split.

    Args:
        members: names of the fused members; a single name if nothing is fused.
        reference: the member that fusion and candidate are compared with, if any.
        source: name of the fusion, or of the single member.
        readers: probability maps of the members, then those of the fusion if there is one.
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
    def open(
        cls, run_members: RunMembers, candidate: str, split: str, reference: str | None
    ) -> "CandidateTrace":
        """Open the maps of a candidate of a run, which must exist."""
        run = run_members.run
        source, _ = read_candidate(run, candidate)
        members: tuple[str, ...] = (source,)
        if source not in run_members.names():
            members = resolve_fusion(run_experiment(run), run_members, source).members
        readers = tuple(run_members.open(name, split) for name in dict.fromkeys([*members, source]))
        chain = applied_chain(run, candidate, floor=readers[-1].floor)
        return cls(members, reference, source, readers, chain, DataSet.load(run.data(split)))

    @property
    def fused(self) -> bool:
        """Whether a fusion stands between members and chain."""
        return len(self.readers) > len(self.members)

    @property
    def reference_index(self) -> int | None:
        """Index of the reference among the members; None if it is not one of them."""
        return self.members.index(self.reference) if self.reference in self.members else None

    def layers(self, indices: Sequence[int]) -> list[Layer]:
        """Return the labels of each stage for some images."""
        of_each = [self._stages(index) for index in indices]
        labels = [list(stage) for stage in zip(*of_each, strict=True)]
        before: list[int | None] = [None] * len(self.members)
        names = list(self.members)
        if self.fused:
            names.append(self.source)
            before.append(self.reference_index)
        for spec in self.chain.specs:
            before.append(len(names) - 1)
            names.append(spec.name)
        return [Layer(*layer) for layer in zip(names, labels, before, strict=True)]

    def _stages(self, index: int) -> list[Array]:
        """Return the labels of one image after each stage."""
        block = slice(index, index + 1)
        maps = [reader.read(block) for reader in self.readers]
        image = np.asarray(self.data.images[block])
        lengths = range(1, len(self.chain.specs) + 1)
        after_steps = [self.chain.prefix(length)(maps[-1], image)[0] for length in lengths]
        return [*(argmax(one)[0] for one in maps), *after_steps]

    def uncertainty(self, run_members: RunMembers, split: str, indices: Sequence[int]) -> Stack:
        """Return the entropy of the source's probabilities for some images, 0 to 1 per pixel."""
        reader = open_probabilities(run_members, self.source, split)
        highest = math.log(len(self.data.classes))
        return [entropy(reader.read(slice(k, k + 1)))[0] / highest for k in indices]

    def predictions(self) -> Iterator[tuple[slice, Array]]:
        """Yield (block, labels) of all members, then the fusion: (reader, image, row, col)."""
        return predicted_labels(self.readers, self.data.extent)


def predicted_labels(readers: Sequence[MapReader], extent: Extent) -> Iterator[tuple[slice, Array]]:
    """Yield (block, labels) of the most probable classes: (reader, image, row, col)."""

    def read(block: slice) -> Array:
        return np.stack([argmax(reader.read(block)) for reader in readers])

    yield from zip(blocks(extent), map_blocks(read, extent), strict=True)
