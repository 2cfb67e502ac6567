"""A strategy built and fitted for maps that are given directly, not as part of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.api.inputs import (
    ArrayLike,
    MembersLike,
    classes_of_maps,
    new_stack,
    open_images,
    open_labels,
    open_maps,
    same_images,
    written_stack,
)
from ensemble.block_fusion import (
    CACHE_IMAGES,
    FusionPerImage,
    TrainingBlocks,
    check_images,
    fuse,
)
from ensemble.coverage import (
    AlignedMaps,
    PlacedMaps,
    align,
    check_missing,
    fuse_covered,
)
from ensemble.decision import Decided
from ensemble.fusion import Fusion, LearnedFusion, needs_images
from ensemble.strategies import Missing
from ensemble.strategy import build_strategy, check_strategy, is_calibrated, strategy_context
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadLabels, BadMaps, BadSpec, check_distinct
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.ragged import Stack
from evaluation.core.seeds import check_seed
from evaluation.run_metric import default_metric, set_metric
from members.maps import ArrayMaps, MapReader

MEMBER_AXES = 5
"""Of the maps of all members in one array."""


@dataclass(frozen=True)
class ArrayFusion:
    """A fitted fusion with the maps that it fuses.

    Args:
        aligned: readers of the maps, one per member.
        fusion: what fuses them.
        images: their images; None where the fusion does not need them.
        calibration: error before and after calibration, where it was measured.
        decision: what decides, in words, where decisions were fitted by the metric.
    """

    aligned: AlignedMaps
    fusion: Fusion | FusionPerImage
    images: Stack | None
    calibration: dict[str, Any] | None = None
    decision: str | None = None

    @property
    def members(self) -> Sequence[MapReader]:
        """Readers of the maps, one per member."""
        return self.aligned.members

    def fuse(self, out: Path | None = None) -> Stack:
        """Fuse all images into a float32 array, or into a `.npy` file or a folder.

        Raises:
            BadMaps: values that are no probabilities.
        """
        check_values(self.members)
        first = self.members[0]
        channels, ids = (first.num_classes,), first.ids
        with new_stack(out, np.float32, first.extent, channels, ids) as fused:
            write = fused.__setitem__
            fuse(self.members, self.fusion, write, images=self.images, size=CACHE_IMAGES)
        return fused if out is None else written_stack(out)


def fit_fusion(
    maps: MembersLike,
    strategy: str,
    *,
    fit_maps: MembersLike = (),
    fit_target: ArrayLike | None = None,
    images: ArrayLike | None = None,
    fit_images: ArrayLike | None = None,
    labels: LabelOptions = NOTHING_SAID,
    logits: bool = False,
    missing: Missing = "refuse",
    seed: int = 0,
    measure_calibration: bool = False,
    refuse_unused: bool = False,
) -> ArrayFusion:
    """Build a strategy, and fit it where it learns; see `ensemble.fuse`.

    With `measure_calibration`, the calibration error of a calibrated strategy is measured on one
    half of the held-out images with what was fitted on the other. With `refuse_unused`, images and
    held-out maps are refused if the strategy does not use them.
    """
    check_strategy(strategy)
    check_missing(missing, strategy)
    given = labels.num_classes
    opened = _open_members(maps, "maps", given, logits=logits)
    if not opened:
        raise BadMaps("`maps` is empty; expected the probability maps of one or more members")
    aligned = align(opened, missing)
    members = aligned.members
    fitting: Sequence[MapReader] = _open_members(fit_maps, "fit_maps", given, logits=logits)
    if fitting:  # what is learnt is learnt where all members have maps
        fitting = align(fitting, "refuse" if missing == "refuse" else "skip").members
    classes = classes_of_maps(labels, members[0].num_classes, fit_target)
    seed = check_seed(seed)
    context = strategy_context(members, ignore=classes.ignore, seed=seed, fitting=fitting)
    metric = set_metric(default_metric(classes), classes)
    built = build_strategy(strategy, metric=metric, **context)
    if refuse_unused:
        given_images = images is not None or fit_images is not None
        _check_used(strategy, built, given_images, bool(fitting) or fit_target is not None)
    opened_images = _images_for(built, strategy, images, fit_images, members)
    if not isinstance(built, LearnedFusion):
        return ArrayFusion(aligned, _covered(built, aligned), opened_images)
    blocks = _training_blocks(strategy, members, fitting, fit_target, fit_images, classes)
    calibration = None
    if measure_calibration and is_calibrated(strategy):
        calibration = _calibration_error(built, blocks, classes.ignore)
    fitted = built.fit(blocks)
    decision = fitted.describe_maps() if isinstance(fitted, Decided) else None
    return ArrayFusion(aligned, _covered(fitted, aligned), opened_images, calibration, decision)


def check_values(members: Sequence[MapReader]) -> None:
    """Check every value of maps in arrays; stores were checked when they were written.

    Raises:
        BadMaps: values that are no probabilities.
    """
    for member in members:
        maps = member.maps if isinstance(member, PlacedMaps) else member
        if isinstance(maps, ArrayMaps):
            try:
                maps.check()
            except BadMaps as error:
                hint = (
                    "; if these are logits, give `logits`" if "values go from" in str(error) else ""
                )
                raise BadMaps(f"{error}{hint}") from None


def _open_members(
    maps: MembersLike, name: str, classes: int | None, *, logits: bool
) -> list[MapReader]:
    if isinstance(maps, str | Path) or not hasattr(maps, "__iter__"):
        raise BadMaps(f"`{name}` is one item; expected a list with the maps of each member")
    axes = getattr(maps, "ndim", MEMBER_AXES)
    if axes != MEMBER_AXES:
        raise BadMaps(
            f"`{name}` has {axes} axes; expected a list with the maps of each member, (image,"
            " class, row, col) each"
        )
    maps = list(maps)
    files = [Path(source).resolve() for source in maps if isinstance(source, str | Path)]
    check_distinct(f"`{name}`: file", files)
    return [
        open_maps(source, f"{name}[{index}]", classes=classes, logits=logits)
        for index, source in enumerate(maps)
    ]


def _covered(fusion: Fusion, aligned: AlignedMaps) -> Fusion | FusionPerImage:
    """Return the fusion, of some members where the others have no map."""
    if aligned.covered is None:
        return fusion
    return fuse_covered(fusion, aligned.covered, [member.name for member in aligned.members])


def _check_used(
    strategy: str, built: Fusion | LearnedFusion, given_images: bool, given_held_out: bool
) -> None:
    if given_images and not needs_images(built):
        raise BadSpec(f"strategy {strategy} uses no images; leave `images` and `fit_images` out")
    if given_held_out and not isinstance(built, LearnedFusion):
        raise BadSpec(
            f"strategy {strategy} has nothing to learn; leave `fit_maps` and `fit_target` out"
        )


def _images_for(
    built: Fusion | LearnedFusion,
    strategy: str,
    images: ArrayLike | None,
    fit_images: ArrayLike | None,
    members: Sequence[MapReader],
) -> Stack | None:
    """Open and check the images; return them if the strategy needs them."""
    needed = needs_images(built)
    fit_images_missing = isinstance(built, LearnedFusion) and fit_images is None
    if needed and (images is None or fit_images_missing):
        raise BadSpec(f"strategy {strategy} needs images; give `images` and `fit_images`")
    if images is None:
        return None
    opened = open_images(images, "images", members[0])
    check_images(opened, members[0])
    return opened if needed else None


def _training_blocks(
    strategy: str,
    members: Sequence[MapReader],
    fitting: Sequence[MapReader],
    fit_target: ArrayLike | None,
    fit_images: ArrayLike | None,
    classes: Classes,
) -> TrainingBlocks:
    if not fitting or fit_target is None:
        raise BadSpec(f"strategy {strategy} learns; give it held-out `fit_maps` and `fit_target`")
    if len(fitting) != len(members):
        raise BadMaps(
            f"{len(fitting)} `fit_maps` for {len(members)} `maps`; expected one per member, in the"
            " same order"
        )
    if fitting[0].num_classes != members[0].num_classes:
        raise BadMaps(
            f"{fitting[0].name} has {fitting[0].num_classes} classes; expected"
            f" {members[0].num_classes} as in {members[0].name}"
        )
    check_values(fitting)
    target = same_images(fitting[0], open_labels(fit_target, "fit_target", classes))
    images = None if fit_images is None else open_images(fit_images, "fit_images", fitting[0])
    try:
        return TrainingBlocks(fitting, target.array[:], size=CACHE_IMAGES, images=images)
    except BadLabels as error:
        raise BadLabels(f"{target.name}: {error}") from None


def _calibration_error(
    built: LearnedFusion, blocks: TrainingBlocks, ignore: int | None
) -> dict[str, Any]:
    from ensemble.block_fusion import cross_fit
    from ensemble.calibration.calibrated import error_before_after

    halves = np.arange(len(blocks.target)) % 2
    try:
        return error_before_after(blocks, cross_fit(built, blocks, halves), halves, ignore=ignore)
    except BadData as error:
        return {"not_measured": f"{error} (in half of the images)"}
