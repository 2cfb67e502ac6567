"""A package on new images: labels into one file, or a PNG an image.

New images through a package: predicted, fused and post-processed as in the run it came from.

The stages hand maps on through stores in a temporary folder, so that they are rounded as they were
in the run; some images at a time, so that the folder stays small.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.block_fusion import fuse
from ensemble.fitted_json import load_fitted
from ensemble.pipeline.candidates.postprocess import write_labels
from ensemble.pipeline.package.manifest import FUSION, Package, read_package
from ensemble.pipeline.submission.formats import write_pngs
from ensemble.strategies import SEES_SPECIALISTS
from evaluation.core.blocks import BLOCK_IMAGES, blocks
from evaluation.core.errors import BadData, BadRun
from evaluation.core.files import atomic_file, atomic_folder
from evaluation.core.specs import parse_spec
from evaluation.core.types import Labels
from members.data.dataset import DataSet
from members.data.load_dataset import load
from members.devices import devices
from members.predict import predict_split
from members.recipe import Member
from members.specialists import OneVsRestMember
from members.store import ProbabilityStore
from postproc.chain import parse_chain
from postproc.postprocess import postprocess

PART_IMAGES = 8 * BLOCK_IMAGES
"""Whole blocks, so that networks see the images in the same company as in the run."""


def label(package: Package, data: DataSet, device: str) -> Iterator[tuple[slice, Labels]]:
    """Yield (block, labels) for each block of images, in order.

    Args:
        package: what labels.
        data: the images, of the package's size and channels.
        device: `cpu` or `cuda:K`; one of another kind than in the run may change the last bits of
            a map.

    Returns:
        Pairs of a slice of images and their label maps (image, row, col).
    """
    for part in blocks(len(data), PART_IMAGES):
        with tempfile.TemporaryDirectory() as folder:
            for block, labels in _labelled(package, data.take(part), device, Path(folder)):
                yield slice(part.start + block.start, part.start + block.stop), labels


def _labelled(
    package: Package, data: DataSet, device: str, folder: Path
) -> Iterator[tuple[slice, Labels]]:
    for network in package.networks:
        predict_split(
            network,
            data,
            package.models(network),
            seen=None,
            device=device,
            folder=folder / network.name,
            dtype=package.contents.store_dtype,
        )
    maps = _fused(package, data, folder)
    classes = package.classes
    chain = parse_chain(
        package.contents.chain, classes=len(classes), ignore=classes.ignore, floor=maps.floor
    )
    return postprocess(maps.read, len(data), chain, images=data.images)


def _fused(package: Package, data: DataSet, folder: Path) -> ProbabilityStore | OneVsRestMember:
    strategy = package.contents.strategy
    raw = strategy is not None and parse_spec(strategy).name in SEES_SPECIALISTS
    readers = [_reader(package, name, folder, raw=raw) for name in package.contents.members]
    if strategy is None:
        return readers[0]
    # No member has a space in its name.
    fused = ProbabilityStore.create(
        folder / "the fusion",
        ids=data.ids,
        classes=package.classes,
        shape=data.shape,
        seen=None,
        dtype=package.contents.store_dtype,
    )
    fusion = load_fitted(package.folder / FUSION).fusion
    fuse(readers, fusion, len(data), fused.write, images=data.images)
    return fused


def _reader(
    package: Package, name: str, folder: Path, *, raw: bool
) -> ProbabilityStore | OneVsRestMember:
    family: list[Member] | None = package.specialists.get(name)
    if family is None:
        return ProbabilityStore(folder / name)
    return OneVsRestMember(name, [ProbabilityStore(folder / m.name) for m in family], raw=raw)


def apply_package(
    folder: Path, images: Path, out: Path, *, device: str, log: Callable[[str], None]
) -> dict[str, Any]:
    """Label images.

    Args:
        folder: the package.
        images: file or folder; see `members.data.load_dataset.load`; labels do not matter.
        out: a `.npy`, (image, row, col) uint8, in the order of the images' names; or a folder,
            which gets `ID.png` with the class index of each pixel in the classes' colours.
        device: see `members.devices.devices`.
        log: receives a line for whatever was decided.

    Returns:
        A JSON document: the package, how many images, where their labels are.

    Raises:
        BadRun: no package, or a damaged one.
        BadData: images of another size or number of channels, or a folder that is not empty.
    """
    package, where = read_package(folder), devices(device)[0]
    contents, classes = package.contents, package.classes
    sets = load(images)
    data = replace(sets.get("test") or sets["training"], masks=None, classes=classes)
    if (data.channels, data.shape) != (contents.channels, contents.shape):
        met, expected = (
            f"{channels} x {rows} x {cols}"
            for channels, (rows, cols) in (
                (data.channels, data.shape),
                (contents.channels, contents.shape),
            )
        )
        raise BadData(f"{images} has images of {met}; the package takes {expected}")
    if out.suffix != ".npy" and out.exists() and (out.is_file() or any(out.iterdir())):
        raise BadData(f"{out} is there; choose a new folder, or a .npy file, as --out")
    _try_out(package, where)
    log(f"{contents.candidate}: {len(data)} images on {where}")
    labelled = label(package, data, where)
    if out.suffix == ".npy":
        with atomic_file(out) as partial:
            write_labels(partial, labelled, (len(data), *data.shape))
    else:
        with atomic_folder(out) as partial:
            write_pngs(partial, data.ids, labelled, classes)
    return {"package": str(folder), "out": str(out), "images": len(data)}


def _try_out(package: Package, device: str) -> None:
    """Label a black image, so that weights, fusion and chain are known to fit before work.

    Raises:
        BadRun: they do not.
    """
    contents = package.contents
    black = np.zeros((1, contents.channels, *contents.shape), np.uint8)
    try:
        for _ in label(package, DataSet(black, None, ("black",), None, package.classes), device):
            pass
    except (ValueError, TypeError, LookupError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BadRun(
            f"{package.folder}: its parts do not fit together ({reason}); freeze it again"
        ) from None
