"""A run whose data are laid out, and what its maps and labels weigh."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ensemble.pipeline.analysis.timing import disk_seconds
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import OOF, RunMembers
from evaluation.core.blocks import BLOCK_IMAGES
from members.data.dataset import DataSet


@dataclass(frozen=True)
class PreparedRun:
    """A run whose data are laid out.

    Args:
        sources: its members.
        experiment: what is asked.
        where: devices.
        slots: processes side by side.
        new: the data are still to be written.
    """

    sources: RunMembers
    experiment: Experiment
    where: list[str]
    slots: int
    new: bool

    def data(self, split: str) -> DataSet:
        """Open the images of a split."""
        return DataSet.load(self.sources.run.data(split))

    def size(self, split: str) -> tuple[int, int, int, int]:
        """Images, classes, rows, cols."""
        data = self.data(split)
        return len(data), len(data.classes), *data.shape

    def map_bytes(self, split: str, *, depth: int | None = None) -> int:
        """Bytes of the maps of a split in the store's type; a last, short block takes a whole one.

        Args:
            split: of the images.
            depth: classes; by default all.
        """
        images, classes, rows, cols = self.size(split)
        block = min(BLOCK_IMAGES, images)
        values = -(-images // block) * block * (depth or classes) * rows * cols
        return int(values * np.dtype(self.experiment.store_dtype).itemsize)

    def label_bytes(self, split: str) -> int:
        """Bytes of label maps."""
        images, _, rows, cols = self.size(split)
        return images * rows * cols

    @cached_property
    def disk(self) -> tuple[float, float]:
        """Seconds to read and to write the maps of an image."""
        return disk_seconds(self.data(OOF), self.experiment.store_dtype)
