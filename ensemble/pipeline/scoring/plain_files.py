"""The verbs on plain files: maps and label maps from anywhere, no run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.block_fusion import (
    CACHE_IMAGES,
    TrainingBlocks,
    check_images,
    fuse,
)
from ensemble.calibration.calibration_error import cross_fit, error_before_after
from ensemble.fusion import Fusion, LearnedFusion, needs_images
from ensemble.pipeline.candidates.postprocess import write_labels
from ensemble.strategy import (
    build_strategy,
    check_strategy,
    is_calibrated,
    strategy_context,
)
from evaluation.confusion import parallel_confusion
from evaluation.core.classes import numbered
from evaluation.core.errors import (
    BadData,
    BadLabels,
    BadMaps,
    BadSpec,
)
from evaluation.core.files import atomic_file, create_npy, open_array
from evaluation.core.types import Array, Counts
from evaluation.protocols import PROTOCOLS
from evaluation.scores import score
from members.maps import ArrayMaps
from postproc.chain import Chain, parse_chain
from postproc.fit_chain import fit_chain
from postproc.postprocess import postprocess


def fuse_files(
    maps: Sequence[Path],
    strategy: str,
    *,
    out: Path | None,
    fit_maps: Sequence[Path],
    fit_target: Path | None,
    images: Path | None = None,
    fit_images: Path | None = None,
    ignore: int,
    seed: int,
) -> dict[str, Any]:
    """Fuse maps in `.npy` or `.npz` files into one `.npy` of float32.

    Args:
        maps: one file a member, (image, class, row, col).
        strategy: spec.
        out: where to.
        fit_maps: held-out maps, one file a member in the same order, for a strategy that learns.
        fit_target: their target, (image, row, col).
        images: the images of `maps`, for a strategy that looks at them.
        fit_images: the images of `fit_maps`.
        ignore: the class that is not scored.
        seed: of what the strategy draws.

    Raises:
        BadSpec: an unknown strategy, or options that do not go together.
        BadMaps: maps that are no probabilities or do not fit together; names the file.
    """
    check_strategy(strategy)
    target = _target(out)
    members = [_opened(path) for path in maps]
    fitting = [_opened(path) for path in fit_maps]
    count, classes, *_ = members[0].size
    check_ignore(ignore, classes)
    context = strategy_context(members, ignore=ignore, seed=seed, fitting=fitting)
    built = build_strategy(strategy, **context)
    opened_images = _looked_at(built, strategy, images, fit_images)
    if opened_images is not None:
        check_images(opened_images, members[0].size)
    document: dict[str, Any] = {
        "out": str(target),
        "images": count,
        "classes": classes,
        "strategy": strategy,
    }
    if isinstance(built, LearnedFusion):
        blocks = _fit_blocks(strategy, members, fitting, fit_target, fit_images)
        if is_calibrated(strategy):
            document["calibration"] = _measured(built, blocks, ignore)
        built = built.fit(blocks)
    elif fitting or fit_target:
        raise BadSpec(
            f"strategy {strategy} has nothing to learn; leave --fit-maps and --fit-target out"
        )
    _write_fused(target, members, built, opened_images)
    return document


def postprocess_file(
    maps: Path,
    chain: str,
    *,
    images: Path | None,
    out: Path | None,
    fit_maps: Path | None = None,
    fit_target: Path | None = None,
    fit_images: Path | None = None,
    ignore: int,
) -> dict[str, Any]:
    """Post-process maps in a file into label maps in a `.npy` of uint8.

    Args:
        maps: (image, class, row, col).
        chain: specs of the steps; empty for the plain argmax.
        images: the images, (image, row, col), or with 1 or 3 channels second or last.
        out: where to.
        fit_maps: held-out maps, for a chain that learns.
        fit_target: their target, (image, row, col).
        fit_images: their images, where a step before one that learns looks at them.
        ignore: the class that is not scored.

    Returns:
        What was done; a chain that has learned stands under `fitted`, as `--chain` takes it.

    Raises:
        BadSpec: a chain that does not parse, or one that learns and has nothing to learn from.
        BadMaps: maps that are no probabilities.
        BadLabels: target that does not fit the held-out maps.
        BadData: images that do not fit.
    """
    target, opened = _target(out), _opened(maps)
    fitting = None if fit_maps is None else _opened(fit_maps)
    count, classes, rows, cols = opened.size
    check_ignore(ignore, classes)
    floor = max(reader.floor for reader in (opened, fitting) if reader is not None)
    steps = parse_chain(chain, classes=classes, ignore=ignore, floor=floor)
    opened_images = None if images is None else _images(images)
    opened.check()
    fitted = _fitted_chain(steps, fitting, fit_target, fit_images)
    with atomic_file(target) as partial:
        labelled = postprocess(opened.read, count, fitted, images=opened_images)
        write_labels(partial, labelled, (count, rows, cols))
    document = {"out": str(target), "images": count, "classes": classes, "chain": str(steps)}
    return document | ({"fitted": str(fitted)} if steps.learns else {})


def _fitted_chain(
    chain: Chain, fitting: ArrayMaps | None, target: Path | None, images: Path | None
) -> Chain:
    if not chain.learns:
        if fitting or target or images:
            raise BadSpec(
                f"chain '{chain}' has nothing to learn; leave --fit-maps, --fit-target and"
                " --fit-images out"
            )
        return chain
    if fitting is None or target is None:
        raise BadSpec(f"chain '{chain}' learns; give it held-out --fit-maps and --fit-target")
    if fitting.size[1] != chain.classes:
        raise BadMaps(
            f"{fitting.name} has {fitting.size[1]} classes; expected {chain.classes} as the maps"
        )
    fitting.check()
    opened_images = None if images is None else _images(images)
    with _named(target):
        return fit_chain(chain, fitting, open_array(target), opened_images)


def score_files(
    target: Path, pred: Path, *, protocols: Sequence[str], classes: int, ignore: int
) -> dict[str, Any]:
    """Score label maps in files.

    Args:
        target: (image, row, col), integers; 255 where there is no label.
        pred: (image, row, col), integers.
        protocols: names or specs.
        classes: how many there are.
        ignore: the class that is not scored.

    Raises:
        BadSpec: an unknown protocol.
        BadLabels: labels outside the classes, shapes that differ; names the files.
    """
    for spec in protocols:
        PROTOCOLS.build(spec)
    counts = count_files(target, pred, classes=classes, ignore=ignore)
    return score(counts, protocols, numbered(classes, ignore=ignore))


def count_files(target: Path, pred: Path, *, classes: int, ignore: int) -> Counts:
    """Count label maps in files, a table an image.

    Args:
        target: as in `score_files`.
        pred: as in `score_files`.
        classes: how many there are.
        ignore: the class that is not scored; only looked at.

    Raises:
        BadSpec: an ignored class outside the classes.
        BadLabels: as in `score_files`.
    """
    check_ignore(ignore, classes)
    try:
        return parallel_confusion(open_array(target), open_array(pred), classes=classes)
    except BadLabels as error:
        raise BadLabels(f"{target} and {pred}: {error}") from None


def _write_fused(
    target: Path, members: Sequence[ArrayMaps], fusion: Fusion, opened_images: Array | None
) -> None:
    for member in members:
        member.check()
    with atomic_file(target) as partial:
        fused = create_npy(partial, dtype=np.float32, shape=members[0].size)
        write = fused.__setitem__
        fuse(members, fusion, len(fused), write, images=opened_images, size=CACHE_IMAGES)
        fused.flush()


def _looked_at(
    built: Fusion | LearnedFusion, strategy: str, images: Path | None, fit_images: Path | None
) -> Array | None:
    """Open the images where the strategy looks at them."""
    if needs_images(built):
        if images is None or fit_images is None:
            raise BadSpec(f"strategy {strategy} looks at images; give --images and --fit-images")
        return _images(images)
    if images or fit_images:
        raise BadSpec(
            f"strategy {strategy} looks at no images; leave --images and --fit-images out"
        )
    return None


def _measured(built: LearnedFusion, blocks: TrainingBlocks, ignore: int) -> dict[str, Any]:
    """Measure calibration on one half of the images by what was fitted on the other."""
    halves = np.arange(len(blocks.target)) % 2
    try:
        return error_before_after(blocks, cross_fit(built, blocks, halves), halves, ignore=ignore)
    except BadData as error:
        return {"not_measured": f"{error} (in half of the images)"}


def _fit_blocks(
    strategy: str,
    members: Sequence[ArrayMaps],
    fitting: Sequence[ArrayMaps],
    target: Path | None,
    images: Path | None,
) -> TrainingBlocks:
    if not fitting or target is None:
        raise BadSpec(f"strategy {strategy} learns; give it held-out --fit-maps and --fit-target")
    if len(fitting) != len(members):
        raise BadMaps(
            f"{len(fitting)} --fit-maps for {len(members)} --maps; expected one a member, in the"
            " same order"
        )
    if fitting[0].size[1] != members[0].size[1]:
        raise BadMaps(
            f"{fitting[0].name} has {fitting[0].size[1]} classes; expected {members[0].size[1]} as"
            f" in {members[0].name}"
        )
    for reader in fitting:
        reader.check()
    opened_images = None if images is None else _images(images)
    with _named(target):
        return TrainingBlocks(fitting, open_array(target), size=CACHE_IMAGES, images=opened_images)


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Say which file has the labels that are refused."""
    try:
        yield
    except BadLabels as error:
        raise BadLabels(f"{target}: {error}") from None


def _opened(path: Path) -> ArrayMaps:
    return ArrayMaps(str(path), open_array(path))


def _target(out: Path | None) -> Path:
    if out is None:
        raise BadSpec("--maps was given without --out; name the file to write, such as --out f.npy")
    if out.suffix != ".npy":
        raise BadSpec(f"--out {out}; expected a name that ends in .npy")
    return out


def check_ignore(ignore: int, classes: int) -> None:
    """Refuse an ignored class outside the classes.

    Raises:
        BadSpec: where it is.
    """
    if ignore >= classes:
        raise BadSpec(f"--ignore {ignore} with {classes} classes; expected 0 to {classes - 1}")


def _images(path: Path) -> Array:
    found = open_array(path)
    if found.ndim == 3:
        return found[:, None]
    if found.ndim == 4 and found.shape[1] not in (1, 3) and found.shape[3] in (1, 3):
        return np.moveaxis(found, 3, 1)
    if found.ndim != 4:
        raise BadData(f"{path} has shape {found.shape}; expected (image, row, col) or 4 axes")
    return found
