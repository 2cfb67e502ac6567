"""Probabilities of a fusion whose decisions were fitted by the metric.

Its stored maps decide classes. What asks for probabilities (metrics over maps, disagreements with
masks) reads them here: they are fused from the members' maps, by what was fitted to the log-loss.
"""

from collections.abc import Sequence

import numpy as np

from ensemble.block_fusion import FusionPerImage, read_members
from ensemble.coverage import fuse_covered
from ensemble.decision import Decided, probabilities_of
from ensemble.fitted_json import load_fitted
from ensemble.fusion import Fusion, fuse_block, needs_images
from ensemble.pipeline.candidates.fuse import FITTED, fold_folder, resolve_fusion
from ensemble.pipeline.run.open_run import RunMembers, fold_indices, open_split, run_experiment
from evaluation.core.ragged import Extent, Stack
from evaluation.core.run_folder import OOF
from evaluation.core.types import Kept, Map
from members.maps import BlockReader, MapReader, copy_into


def open_probabilities(run_members: RunMembers, name: str, split: str) -> MapReader:
    """Open the probabilities of a member, family or fusion.

    Args:
        name: of it.
        split: of the images.

    Raises:
        BadRun: no such maps, or a fusion that was fitted by an earlier version.
    """
    run, stored = run_members.run, run_members.open(name, split)
    if name not in run.fusions() or name in run_members.names():
        return stored
    fitted = load_fitted(run.fusion(name) / FITTED).fusion
    if not isinstance(fitted, Decided):
        return stored
    spec = resolve_fusion(run_experiment(run), run_members, name)
    opened = open_split(
        run_members, split, spec.members, one_vs_rest=spec.one_vs_rest, partial=spec.partial
    )
    fusion: Fusion | FusionPerImage = probabilities_of(fitted)
    if split == OOF:
        folds = fold_indices(run)
        loaded = [load_fitted(fold_folder(run, name, k)).fusion for k in range(folds.max() + 1)]
        fusion = FusionPerImage([probabilities_of(one) for one in loaded], folds)
    if opened.aligned.covered is not None:
        fusion = fuse_covered(fusion, opened.aligned.covered, spec.members)
    return FusedOnReading(stored, opened.readers, fusion, opened.data.images)


class FusedOnReading(BlockReader):
    """Maps that are fused when they are read.

    Args:
        stored: the fusion's decisions, of the same images.
        members: readers of what is fused.
        fusion: fusion of their maps.
        images: of the same order.
    """

    kind = "probabilities"

    def __init__(
        self,
        stored: MapReader,
        members: Sequence[MapReader],
        fusion: Fusion | FusionPerImage,
        images: Stack,
    ) -> None:
        self.stored, self.members, self.fusion, self.images = stored, members, fusion, images
        self.name, self.ids, self.classes = stored.name, stored.ids, stored.classes

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return self.stored.extent

    @property
    def num_classes(self) -> int:
        """Length of the class axis."""
        return self.stored.num_classes

    @property
    def floor(self) -> float:
        """The largest of the members': their zeros may be so large."""
        return max(member.floor for member in self.members)

    def trained_on_mask(self) -> Kept | None:
        """Return, per image, whether a model was trained on it."""
        return self.stored.trained_on_mask()

    def read(self, images: slice, out: Map | None = None) -> Map:
        """Read and fuse images."""
        fusion = self.fusion
        if isinstance(fusion, FusionPerImage):
            fusion = fusion.for_block(images)
        seen = np.asarray(self.images[images]) if needs_images(fusion) else None
        fused = fuse_block(fusion, read_members(self.members, images), seen)
        if out is None:
            return fused
        copy_into(fused, out)
        return out
