"""The members of a run that have maps of a split, opened side by side with its images."""

from collections.abc import Callable
from dataclasses import dataclass

from ensemble.pipeline.candidates.fuse import Reader
from ensemble.pipeline.run.open_run import OOF, RunMembers
from evaluation.core.errors import BadMaps, BadRun, LeakageError
from members.data.dataset import DataSet


@dataclass(frozen=True)
class OpenedMembers:
    """Members' maps of one split.

    Args:
        split: its name.
        names: of the members; a family of specialists is one.
        readers: of their maps.
        data: the images.
    """

    split: str
    names: tuple[str, ...]
    readers: tuple[Reader, ...]
    data: DataSet


def open_members(sources: RunMembers, split: str, log: Callable[[str], None]) -> OpenedMembers:
    """Open every member that has whole maps of a split.

    Args:
        sources: of the run.
        split: of the images.
        log: receives a line for each member that is left out, or does not declare what it saw.

    Raises:
        BadRun: no such split, or fewer than two members with maps.
        BadMaps: maps of other images.
        Leak: maps of images that the member was trained on.
    """
    run = sources.run
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    names = [name for name in sources.names() if split in sources.splits(name)]
    if len(names) < 2:
        raise BadRun(
            f"{run.path} has {len(names) or 'no'} member{'s' * (len(names) != 1)} with maps of"
            f" {split}; expected two or more: `ens train-members --run {run.path} --member SPEC`"
        )
    data = DataSet.load(run.data(split))
    readers = tuple(sources.open(name, split) for name in names)
    for name, reader in zip(names, readers, strict=True):
        _check(name, reader, data, split)
    for name in sources.names():
        if name not in names:
            log(f"{name}: left out, no maps of {split}")
    for name, reader in zip(names, readers, strict=True):
        if split == OOF and reader.saw() is None:
            log(f"{name}: does not declare what it was trained on; if it saw {OOF}, it looks good")
    return OpenedMembers(split, tuple(names), readers, data)


def _check(name: str, reader: Reader, data: DataSet, split: str) -> None:
    if reader.ids != data.ids:
        raise BadMaps(f"{name!r} has maps of other images than {split}; predict again")
    saw = reader.saw()
    if saw is not None and saw.any():
        raise LeakageError(
            f"{name!r} was trained on {int(saw.sum())} images of {split}; expected maps of"
            " images it did not see: import out-of-fold maps, or take another --split"
        )
