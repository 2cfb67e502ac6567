"""New pictures through a package: predicted, fused and post-processed as in the run it came from.

The stages hand maps on through stores in a temporary folder, so that they are rounded as they were
in the run; some pictures at a time, so that the folder stays small.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ensemble.fitted import load_fitted
from ensemble.fuse import fuse
from ensemble.pipeline.package.contents import FUSION, Package
from ensemble.strategies import SEES_SPECIALISTS
from evaluation.ground.arrays import Labels
from evaluation.ground.blocks import BLOCK_PICTURES, blocks
from evaluation.ground.specs import parse_spec
from members.data.dataset import DataSet
from members.predict import predict_split
from members.recipe import Member
from members.specialists import Family
from members.store import ProbabilityStore
from postproc.chain import parse_chain
from postproc.postprocess import postprocess

PART_PICTURES = 8 * BLOCK_PICTURES
"""Whole blocks, so that networks see the pictures in the same company as in the run."""


def label(package: Package, data: DataSet, device: str) -> Iterator[tuple[slice, Labels]]:
    """Yield (block, labels) for each block of pictures, in order.

    Args:
        package: what labels.
        data: the pictures, of the package's size and channels.
        device: `cpu` or `cuda:K`; one of another kind than in the run may change the last bits of
            a map.

    Returns:
        Pairs of a slice of pictures and their label maps (picture, row, col).
    """
    for part in blocks(len(data), PART_PICTURES):
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
    return postprocess(maps.read, len(data), chain, pictures=data.pictures)


def _fused(package: Package, data: DataSet, folder: Path) -> ProbabilityStore | Family:
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
    fuse(readers, fusion, len(data), fused.write, pictures=data.pictures)
    return fused


def _reader(package: Package, name: str, folder: Path, *, raw: bool) -> ProbabilityStore | Family:
    family: list[Member] | None = package.specialists.get(name)
    if family is None:
        return ProbabilityStore(folder / name)
    return Family(name, [ProbabilityStore(folder / m.name) for m in family], raw=raw)
