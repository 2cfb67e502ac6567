"""Any form that maps come in: stacks, one file a picture, nnU-Net's volumes, Zarr, label maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from evaluation.ground.arrays import Array
from evaluation.ground.errors import BadMaps
from evaluation.ground.files import array_names, open_array
from evaluation.ground.links import refuse_links_out
from members.data.arrays import as_names
from members.foreign.files import SUFFIXES, Files, picture_files
from members.foreign.zarr_arrays import is_zarr, open_zarr

IDS = "ids"
LABEL_AXES, MAP_AXES = 3, 4


@runtime_checkable
class Foreign(Protocol):
    """Maps as they were given, read by places of pictures."""

    @property
    def name(self) -> str:
        """What errors call them: the file or folder."""
        ...

    @property
    def ids(self) -> tuple[str, ...] | None:
        """One a picture; None where nothing says which pictures these are."""
        ...

    @property
    def labels(self) -> bool:
        """Tell whether they are class indices (picture, row, col), not values a class."""
        ...

    @property
    def dtype(self) -> str:
        """The type of the values on disk."""
        ...

    @property
    def size(self) -> tuple[int, ...]:
        """Pictures, channels, rows, cols; without channels for labels."""
        ...

    def read(self, places: Array) -> Array:
        """Read some pictures as they were given; called from several threads at once."""
        ...


@dataclass(frozen=True)
class Stack:
    """All pictures in one array, `.npy`, `.npz` or Zarr.

    Args:
        name: the file.
        array: (picture, channel, row, col) of floating point or uint8, or (picture, row, col) of
            integers; on disk until it is read.
        ids: where the file holds any.

    Raises:
        BadMaps: another shape or type, nothing inside, or ids of another number.
    """

    name: str
    array: Any
    ids: tuple[str, ...] | None

    def __post_init__(self) -> None:
        """Check what can be seen without reading values."""
        shape, dtype = self.array.shape, self.array.dtype
        labels = len(shape) == LABEL_AXES and dtype.kind in "iu"
        maps = len(shape) == MAP_AXES and (dtype.kind == "f" or dtype == np.uint8)
        if 0 in shape or not (labels or maps):
            raise BadMaps(
                f"{self.name} is {dtype} of shape {tuple(shape)}; expected (picture, class, row,"
                " col) of floating point, or of uint8 scaled by 255, or integer labels (picture,"
                " row, col)"
            )
        if self.ids is not None and len(self.ids) != shape[0]:
            raise BadMaps(
                f"{self.name} holds {len(self.ids)} ids for {shape[0]} pictures; expected one each"
            )

    @property
    def labels(self) -> bool:
        """Tell whether they are class indices."""
        return len(self.array.shape) == LABEL_AXES

    @property
    def dtype(self) -> str:
        """The type of the values on disk."""
        return str(self.array.dtype)

    @property
    def size(self) -> tuple[int, ...]:
        """Pictures, channels, rows, cols; without channels for labels."""
        return tuple(self.array.shape)

    def read(self, places: Array) -> Array:
        """Read some pictures."""
        return np.asarray(self.array[places])


def open_foreign(paths: Sequence[Path]) -> Foreign:
    """Open what a user names, recognised by its content.

    Args:
        paths: one stack (`.npy`, `.npz`, a Zarr array), or files of one picture or case each
            (`.npy`, `.npz`, `.png`), or folders of such files.

    Raises:
        BadData: a file that is missing or damaged.
        BadMaps: files that are neither, or do not belong together.
    """
    if len(paths) == 1 and is_zarr(paths[0]):
        array = open_zarr(paths[0])
        ids = None if array.ids is None else tuple(map(str, array.ids))
        return Stack(str(paths[0]), array, ids)
    files = [file for path in paths for file in (_listed(path) if path.is_dir() else [path])]
    strange = [file for file in files if file.suffix not in SUFFIXES]
    if strange:
        raise BadMaps(f"{strange[0]} is no map file; expected {', '.join(SUFFIXES)} or Zarr")
    if len(paths) == 1 and files == list(paths) and files[0].suffix != ".png":
        stack = _stack(files[0])
        if stack is not None:
            return stack
    return Files(tuple(picture_files(files)), str(paths[0]))


def _stack(file: Path) -> Stack | None:
    """Return a stack; None where the file holds one picture or case."""
    if file.suffix == ".npy":
        array = open_array(file)
        one = array.ndim == LABEL_AXES and array.dtype.kind == "f"
        return None if one else Stack(str(file), array, None)
    names = array_names(file)
    values = [name for name in names if name != IDS]
    if values == ["probabilities"] and IDS not in names:
        return None  # nnU-Net's, one case a file
    ids = open_array(file, IDS) if IDS in names else None
    if len(values) != 1:
        raise BadMaps(
            f"{file} holds {', '.join(names) or 'nothing'}; expected one array, and ids if known"
        )
    array = open_array(file, values[0])
    told = None if ids is None else tuple(as_names(f"{file}: ids", ids, len(ids)).tolist())
    return Stack(str(file), array, told)


def _listed(folder: Path) -> list[Path]:
    refuse_links_out(folder)
    found = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    kinds = {file.suffix for file in found}
    if len(kinds) != 1:
        raise BadMaps(
            f"{folder} holds {', '.join(sorted(kinds)) or 'no map'} files; expected one kind of"
            f" {', '.join(SUFFIXES)}"
        )
    return found
