"""The maps that a search may use: of a member as they are, of a fusion that learns refitted."""

from pathlib import Path

import numpy as np

from ensemble.block_fusion import FusionPerImage, HiddenTarget, TrainingBlocks, cross_fit, fuse
from ensemble.fusion import Fusion, LearnedFusion
from ensemble.pipeline.candidates.fuse import FusionSpec, resolve_fusion
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import Reader, RunMembers, run_experiment
from ensemble.pipeline.tuning.cross_fitted_counts import CvPool, NamedMaps
from ensemble.strategies import ACCEPTS_ONE_VS_REST
from ensemble.strategy import build_strategy, strategy_context
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadRun, LeakageError
from evaluation.core.files import atomic_file, create_stack, open_stack
from evaluation.core.ragged import Stack
from evaluation.core.run_folder import OOF
from evaluation.core.specs import parse_spec
from evaluation.core.types import Array, Map
from evaluation.run_metric import set_metric
from members.data.dataset import DataSet
from members.maps import MapReader, check_same_images
from members.store import ProbabilityStore


def open_oof(run_members: RunMembers, source: str, data: DataSet) -> Reader:
    """Open the out-of-fold maps of a fusion or member.

    Raises:
        BadRun: no such maps, or maps of other images.
    """
    maps = run_members.open(source, OOF)
    check_same_images(maps.ids, data.ids, member=source, split=OOF, error=BadRun)
    return maps


def copy_oof(run_members: RunMembers, source: str, data: DataSet, folder: Path) -> NamedMaps:
    """Copy the out-of-fold maps of a member or fusion to a file with fast random access."""
    reader, file = open_oof(run_members, source, data), folder / "oof.npy"
    if not file.is_file():
        dtype = reader.dtype if isinstance(reader, ProbabilityStore) else "float32"
        with atomic_file(file) as partial:
            out = _create_maps(partial, reader, dtype)
            for block in blocks(reader.extent):
                out[block] = reader.read(block)
            out.flush()
    return NamedMaps(OOF, open_stack(file, reader.extent, (reader.num_classes,)))


def check_single_learned_level(run_members: RunMembers, spec: FusionSpec) -> None:
    """Check that no fusion below this one learns, since only this one is refitted.

    Raises:
        LeakageError: maps below it depend on the target of the folds that evaluate it.
    """
    experiment = run_experiment(run_members.run)
    for name in set(spec.members) - set(run_members.names()):
        below = resolve_fusion(experiment, run_members, name)
        if NestedRefits(run_members, below).needed:
            raise LeakageError(
                f"fusion {spec.name!r} is made of {name!r}, which learned from the folds that would"
                f" evaluate it; tune {name!r}, or a fusion of members alone"
            )
        check_single_learned_level(run_members, below)


class NestedRefits:
    """A fusion refitted for each outer fold, on the images outside of it."""

    def __init__(self, run_members: RunMembers, spec: FusionSpec) -> None:
        """Open the members of a fusion of a run."""
        raw = parse_spec(spec.strategy).name in ACCEPTS_ONE_VS_REST
        self._readers = [run_members.open(name, OOF, one_vs_rest=raw) for name in spec.members]
        self._dtype = spec.dtype
        classes = self._readers[0].classes
        context = strategy_context(self._readers, ignore=classes.ignore, seed=spec.seed)
        metric = set_metric(spec.metric, run_classes(run_members.run))
        self._strategy = build_strategy(spec.strategy, metric=metric, **context)

    @property
    def needed(self) -> bool:
        """Whether the fusion learns anything."""
        return isinstance(self._strategy, LearnedFusion)

    def fitted_without(self, pool: CvPool, test_fold: int, folder: Path) -> NamedMaps:
        """Return maps of all images by fusions that never saw the target of an outer fold.

        Those of the test fold come from the fusion fitted on all other images, those of each inner
        fold from one fitted on the other inner folds.

        Args:
            pool: of all images.
            test_fold: the outer fold.
            folder: where they are kept.
        """
        name = f"without-{test_fold}"
        file = folder / f"{name}.npy"
        if not file.is_file():
            inner = pool.inner_folds(test_fold)
            num_inner = 1 + max(fold for fold in inner if fold is not None)
            fold_of = np.empty(len(pool.data), np.intp)
            for block in pool.blocks:
                fold = inner[block.cell]
                fold_of[block.indices] = num_inner if fold is None else fold
            per_fold = self._fit(pool, fold_of, num_inner)
            with atomic_file(file) as partial:
                self._fuse(pool, FusionPerImage(per_fold, fold_of), partial)
        first = self._readers[0]
        return NamedMaps(name, open_stack(file, first.extent, (first.num_classes,)))

    def _fit(self, pool: CvPool, fold_of: Array, hidden: int) -> list[Fusion]:
        """Fit without each inner fold and, last, on all of them; the hidden fold has no target."""
        assert isinstance(self._strategy, LearnedFusion)
        target = HiddenTarget(pool.data.target(), fold_of == hidden)
        training = TrainingBlocks(
            self._readers,
            target,
            images=pool.data.images if self._strategy.needs_images else None,
            groups=pool.data.groups,
            folds=pool.fold_of_images(),
        )
        return cross_fit(self._strategy, training, fold_of)

    def _fuse(self, pool: CvPool, fusion: FusionPerImage, file: Path) -> None:
        out = _create_maps(file, self._readers[0], self._dtype)

        def write(block: slice, fused: Map) -> None:
            out[block] = fused

        fuse(self._readers, fusion, write, images=pool.data.images)
        out.flush()


def _create_maps(file: Path, like: MapReader, dtype: str) -> Stack:
    """Create a file of maps as fine as a store of `dtype`, and no coarser than float16."""
    dtype = "float32" if dtype == "float32" else "float16"
    return create_stack(file, dtype=dtype, extent=like.extent, channels=(like.num_classes,))
