"""The maps that a search may see: of a member as they are, of a fusion that learns fitted anew."""

from pathlib import Path
from typing import Any

import numpy as np

from ensemble.block_fusion import OutOfFoldFusion, TrainingBlocks, fuse
from ensemble.calibration.calibration_error import cross_fit
from ensemble.fusion import Fusion, LearnedFusion
from ensemble.pipeline.candidates.fuse import FusionSpec, resolve_fusion
from ensemble.pipeline.run.open_run import OOF, RunMembers, run_experiment
from ensemble.pipeline.tuning.cross_validation import Pool
from ensemble.pipeline.tuning.prefix_cache import NamedMaps
from ensemble.strategies import SEES_SPECIALISTS
from ensemble.strategy import build_strategy, strategy_context
from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import LeakageError
from evaluation.core.files import atomic_file, create_npy, open_array
from evaluation.core.specs import parse_spec
from evaluation.core.types import Array, Map
from members.store import ProbabilityStore


def maps_of(sources: RunMembers, source: str, folder: Path) -> NamedMaps:
    """Return the out-of-fold maps of a member or fusion, laid out for reading here and there."""
    reader, file = sources.open(source, OOF), folder / "oof.npy"
    if not file.is_file():
        dtype = reader.dtype if isinstance(reader, ProbabilityStore) else "float32"
        with atomic_file(file) as partial:
            laid = _laid_out(partial, reader.size, dtype)
            for block in blocks(reader.size[0]):
                laid[block] = reader.read(block)
            laid.flush()
    return NamedMaps(OOF, open_array(file))


def refuse_learned_below(sources: RunMembers, plan: FusionSpec) -> None:
    """Refuse a fusion of one that learns: only the uppermost is fitted anew.

    Args:
        sources: of the run.
        plan: of the fusion.

    Raises:
        Leak: maps below it saw the target of the folds that would examine it.
    """
    experiment = run_experiment(sources.run)
    for name in set(plan.members) - set(sources.names()):
        below = resolve_fusion(experiment, sources, name)
        if Refits(sources, below).needed:
            raise LeakageError(
                f"fusion {plan.name!r} is made of {name!r}, which learned from the folds that would"
                f" examine it; tune {name!r}, or a fusion of members alone"
            )
        refuse_learned_below(sources, below)


class Refits:
    """A fusion fitted anew for each outer fold, on images outside of it alone."""

    def __init__(self, sources: RunMembers, plan: FusionSpec) -> None:
        """Open the members.

        Args:
            sources: of the run.
            plan: of the fusion.
        """
        raw = parse_spec(plan.strategy).name in SEES_SPECIALISTS
        self._readers = [sources.open(name, OOF, raw=raw) for name in plan.members]
        self._dtype = plan.dtype
        ignore = self._readers[0].classes.ignore
        context = strategy_context(self._readers, ignore=ignore, seed=plan.seed)
        self._built = build_strategy(plan.strategy, **context)

    @property
    def needed(self) -> bool:
        """Tell whether the fusion learns anything."""
        return isinstance(self._built, LearnedFusion)

    def without(self, pool: Pool, examined: int, folder: Path) -> NamedMaps:
        """Return maps of all images by fusions that never saw the target of an outer fold.

        Those of the examined images come from the fusion fitted on all others, those of each
        inner fold from one fitted on the other inner folds.

        Args:
            pool: of all images.
            examined: the outer fold.
            folder: where they are kept.
        """
        name = f"without-{examined}"
        file = folder / f"{name}.npy"
        if not file.is_file():
            inner = pool.inner(examined)
            count = 1 + max(fold for fold in inner if fold is not None)
            fold_of = np.empty(len(pool.data), np.intp)
            for block in pool.blocks:
                fold = inner[block.part]
                fold_of[block.places] = count if fold is None else fold
            per_fold = self._fitted(pool, fold_of, count)
            with atomic_file(file) as partial:
                self._fuse(pool, OutOfFoldFusion(per_fold, fold_of), partial)
        return NamedMaps(name, open_array(file))

    def _fitted(self, pool: Pool, fold_of: Array, hidden: int) -> list[Fusion]:
        """Fit without each inner fold and, the last, on all of them; one fold is never seen."""
        assert isinstance(self._built, LearnedFusion)
        target = np.where((fold_of == hidden)[:, None, None], UNLABELLED, pool.data.target())
        images = pool.data.images if self._built.needs_images else None
        target, groups = target.astype(np.uint8), pool.data.groups
        seen = TrainingBlocks(self._readers, target, images=images, groups=groups)
        return cross_fit(self._built, seen, fold_of)

    def _fuse(self, pool: Pool, fusion: OutOfFoldFusion, file: Path) -> None:
        laid = _laid_out(file, self._readers[0].size, self._dtype)

        def write(block: slice, fused: Map) -> None:
            laid[block] = fused

        fuse(self._readers, fusion, len(pool.data), write, images=pool.data.images)
        laid.flush()


def _laid_out(file: Path, size: tuple[int, ...], dtype: str) -> Any:
    """Open a file to write to; uint8 would need a scale, so it is float16, which is finer."""
    kind = "float16" if dtype == "uint8" else dtype
    return create_npy(file, dtype=kind, shape=size)
