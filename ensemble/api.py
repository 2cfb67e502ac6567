"""Fusion of arrays, for use from Python."""

from collections.abc import Sequence

import numpy as np

from ensemble.block_fusion import CACHE_IMAGES, TrainingBlocks, fuse
from ensemble.fusion import LearnedFusion
from ensemble.strategy import build_strategy, strategy_context
from evaluation.core.errors import BadMaps, BadSpec
from evaluation.core.types import Array, Map
from members.maps import ArrayMaps


def fuse_maps(
    maps: Sequence[Array],
    strategy: str = "mean",
    *,
    fit_maps: Sequence[Array] = (),
    fit_target: Array | None = None,
    images: Array | None = None,
    fit_images: Array | None = None,
    ignore: int | None = None,
    seed: int = 0,
) -> Map:
    """Fuse the maps of several members.

    Args:
        maps: one array a member, (image, class, row, col): probabilities as floating point, or
            uint8 scaled by 255; memory maps are read block by block.
        strategy: spec, such as `stacking(l2=0.1)`.
        fit_maps: for a strategy that learns, maps of images that no member was trained on, in
            the same order.
        fit_target: their class index per pixel, (image, row, col), 255 where unlabelled.
        images: uint8 (image, channel, row, col), for a strategy that looks at them.
        fit_images: those of `fit_maps`.
        ignore: the class that is not scored, or None.
        seed: of what the strategy draws.

    Returns:
        One map an image, float32.

    Raises:
        BadSpec: an unknown strategy or option, one that learns and has nothing to learn from, or
            an ignored class outside the classes.
        BadMaps: no maps, none that are probabilities, or some that do not fit together.
        BadLabels: target of another shape or type.
    """
    if not maps:
        raise BadMaps("no maps were given; expected one array a member")
    members, fitting = _readers(maps, "maps"), _readers(fit_maps, "fit_maps")
    classes = members[0].size[1]
    if ignore is not None and not 0 <= ignore < classes:
        raise BadSpec(f"ignore={ignore} with {classes} classes; expected 0 to {classes - 1}")
    for reader in fitting:
        if reader.size[1] != classes:
            raise BadMaps(f"{reader.name} has {reader.size[1]} classes; expected {classes} as maps")
    context = strategy_context(members, ignore=ignore, seed=seed, fitting=fitting)
    built = build_strategy(strategy, **context)
    if isinstance(built, LearnedFusion):
        if fit_target is None or len(fitting) != len(members):
            raise BadSpec(
                f"strategy {strategy} learns: expected fit_target and {len(members)} fit_maps of"
                f" held-out images; got {len(fitting)}"
            )
        built = built.fit(TrainingBlocks(fitting, fit_target, images=fit_images))
    fused: Map = np.empty(members[0].size, np.float32)
    count = members[0].size[0]
    fuse(members, built, count, fused.__setitem__, images=images, size=CACHE_IMAGES)
    return fused


def _readers(arrays: Sequence[Array], what: str) -> list[ArrayMaps]:
    readers = [ArrayMaps(f"{what}[{place}]", array) for place, array in enumerate(arrays)]
    for reader in readers:
        reader.check()
    return readers
