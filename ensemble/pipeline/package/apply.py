"""Label new images with a package: predict, fuse and post-process as in the run it comes from.

The stages exchange maps through stores in a temporary folder, so that maps are rounded as they were
in the run; images are processed in parts, so that the folder stays small.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.block_fusion import fuse
from ensemble.fitted_json import load_fitted
from ensemble.pipeline.candidates.postprocess import write_labels
from ensemble.pipeline.package.manifest import FUSION, Package, read_package
from ensemble.pipeline.package.onnx_run import OnnxCandidate
from ensemble.pipeline.submission.formats import write_pngs
from ensemble.strategies import ACCEPTS_ONE_VS_REST
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadData, BadRun, format_count
from evaluation.core.files import atomic_file, atomic_folder
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.progress import Log
from evaluation.core.ragged import BLOCK_IMAGES
from evaluation.core.specs import parse_spec
from evaluation.core.types import Labels
from members.data.dataset import DataSet
from members.data.layouts import DEFAULT_LAYOUT, LayoutOptions
from members.data.load_dataset import load_dataset
from members.devices import device_error, devices
from members.predict import predict_split
from members.specialists import OneVsRestMember
from members.store import ProbabilityStore
from postproc.chain import parse_chain
from postproc.postprocess import postprocess

PART_IMAGES = 8 * BLOCK_IMAGES
"""Whole blocks, so that images are in the same batches as in the run."""

FUSED = "the fusion"
"""Folder of the fusion's store; no member has a space in its name."""


@dataclass(frozen=True)
class ApplyResult:
    """What `apply_package` has written.

    Args:
        package: folder of the package.
        out: file or folder of the label maps.
        images: number of images.
    """

    package: Path
    out: Path
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON document."""
        return {"package": str(self.package), "out": str(self.out), "images": self.images}


def apply_package(
    folder: Path,
    images: Path,
    out: Path,
    *,
    device: str,
    labels: LabelOptions = NOTHING_SAID,
    layout: LayoutOptions = DEFAULT_LAYOUT,
    log: Log,
) -> ApplyResult:
    """Label images.

    Args:
        folder: the package, or the `.onnx` file of a candidate.
        images: file or folder, see `members.data.load_dataset`; its masks are left out.
        out: a `.npy`, (image, row, col) uint8, in the order of the images' names; or a folder,
            which gets `ID.png` in the classes' colours. Both hold the values that the training
            masks stored for the classes.
        device: see `members.devices.devices`.
        labels: what is said about classes and values of masks.
        layout: what is said about how a folder lies on disk.
        log: receives a line for whatever was decided.

    Raises:
        BadSpec: options that contradict the package's classes, or do not fit the folder.
        BadRun: no package, or a damaged one.
        BadData: images with another number of channels, or a folder that is not empty.
    """
    device = devices(device)[0]
    package = OnnxCandidate(folder) if folder.suffix == ".onnx" else read_package(folder)
    classes = package.classes
    labels.check_against(classes)
    data = load_dataset(images, contract=classes, use_masks=False, layout=layout)["test"]
    if data.channels != package.channels:
        raise BadData(
            f"{images} has images of {data.channels} channels; the package takes {package.channels}"
        )
    if data.images.dtype != package.image_type:
        raise BadData(
            f"{images} has images of {data.images.dtype}; the package takes {package.image_type}"
        )
    if out.suffix == ".npy" and data.extent.one_size is None:
        raise BadData(f"{images} has images of {data.extent}; give a folder as --out")
    if out.suffix != ".npy" and out.exists() and (out.is_file() or any(out.iterdir())):
        raise BadData(f"{out} already exists; choose a new folder, or a .npy file, as --out")
    if isinstance(package, OnnxCandidate):
        predicted = package.label(data)
    else:
        _smoke_test(package, device)
        predicted = predict_labels(package, data, device)
    log(f"{package.candidate}: {format_count(len(data), 'image')} on {device}")
    if out.suffix == ".npy":
        with atomic_file(out) as partial:
            stored = ((block, classes.stored(part)) for block, part in predicted)
            write_labels(partial, stored, data.extent)
    else:
        with atomic_folder(out) as partial:
            write_pngs(partial, data.ids, predicted, classes)
    return ApplyResult(folder, out, len(data))


def predict_labels(package: Package, data: DataSet, device: str) -> Iterator[tuple[slice, Labels]]:
    """Yield (block, labels) for each block of images, in order.

    Args:
        package: the frozen candidate.
        data: images with the package's channels.
        device: `cpu` or `cuda:K`; another kind than in the run may change the last bits of a map.
    """
    for part in blocks(data.extent, PART_IMAGES):
        with tempfile.TemporaryDirectory() as folder:
            for block, labels in _predict_part(package, data.take(part), device, Path(folder)):
                yield slice(part.start + block.start, part.start + block.stop), labels


def _predict_part(
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
            dtype=package.manifest.store_dtype,
        )
    maps = _fuse(package, data, folder)
    classes = package.classes
    chain = parse_chain(
        package.manifest.chain,
        classes=len(classes),
        ignore=classes.ignore,
        floor=maps.floor,
        device=device,
    )
    return postprocess(maps, chain, images=data.images)


def _fuse(package: Package, data: DataSet, folder: Path) -> ProbabilityStore | OneVsRestMember:
    """Return the fused maps, or those of the single member."""
    strategy, specialists = package.manifest.strategy, package.specialists
    raw = strategy is not None and parse_spec(strategy).name in ACCEPTS_ONE_VS_REST
    readers = [
        OneVsRestMember(
            name, [ProbabilityStore(folder / m.name) for m in specialists[name]], raw=raw
        )
        if name in specialists
        else ProbabilityStore(folder / name)
        for name in package.manifest.members
    ]
    if strategy is None:
        return readers[0]
    fused = ProbabilityStore.create(
        folder / FUSED,
        ids=data.ids,
        classes=package.classes,
        extent=data.extent,
        seen=None,
        dtype=package.manifest.store_dtype,
    )
    fusion = load_fitted(package.folder / FUSION).fusion
    fuse(readers, fusion, fused.write, images=data.images)
    return fused


def _smoke_test(package: Package, device: str) -> None:
    """Label a black image: do weights, fusion and chain fit together?

    Raises:
        BadRun: they do not.
        EnsError: the GPU failed, or has too little memory.
    """
    manifest = package.manifest
    black = np.zeros((1, manifest.channels, *manifest.shape), manifest.image_type)
    data = DataSet(black, None, ("black",), None, package.classes)
    try:
        for _ in predict_labels(package, data, device):
            pass
    except (ValueError, TypeError, LookupError, RuntimeError) as error:
        failure = device_error(error) if isinstance(error, RuntimeError) else None
        if failure is not None:
            raise failure from None
        reason = " ".join(str(error).split())
        raise BadRun(
            f"{package.folder}: its parts do not fit together ({reason}); freeze it again"
        ) from None
