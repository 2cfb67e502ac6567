"""Maps with one file a picture or case; the names are the ids."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from evaluation.ground.arrays import Array
from evaluation.ground.claims import header_of
from evaluation.ground.errors import BadMaps
from evaluation.ground.files import array_names, open_array
from members.data.png_pairs import open_picture

SUFFIXES = (".npy", ".npz", ".png")
LABEL_AXES, MAP_AXES, VOLUME_AXES = 2, 3, 4
PNG_MODES = ("L", "P", "1", "I;16", "I")


@dataclass(frozen=True)
class Place:
    """Where one picture's maps lie.

    Args:
        id: of the picture: the file's name, with the slice's number where there are several.
        file: that holds them.
        slice: of a volume; None where the file holds one picture without that axis.
    """

    id: str
    file: Path
    slice: int | None


@dataclass(frozen=True)
class Files:
    """Maps of many files.

    Args:
        places: one a picture.
        name: what errors call them.
    """

    places: tuple[Place, ...]
    name: str

    def __post_init__(self) -> None:
        """Refuse a first file that is no map, and ids that stand twice."""
        self._first  # noqa: B018  # opened here, so that a bad one is refused before work
        known: dict[str, Path] = {}
        for place in self.places:
            if place.id in known:
                raise BadMaps(f"{place.file} and {known[place.id]} are both of {place.id!r}")
            known[place.id] = place.file

    @property
    def ids(self) -> tuple[str, ...]:
        """One a picture."""
        return tuple(place.id for place in self.places)

    @property
    def labels(self) -> bool:
        """Tell whether they are class indices."""
        return self._first.ndim == LABEL_AXES

    @property
    def dtype(self) -> str:
        """The type of the first picture's values."""
        return str(self._first.dtype)

    @property
    def size(self) -> tuple[int, ...]:
        """Pictures, and the channels, rows and cols of the first."""
        return (len(self.places), *self._first.shape)

    @cached_property
    def _first(self) -> Array:
        return next(_read(self.places[:1]))

    def read(self, places: Array) -> Array:
        """Read some pictures.

        Raises:
            BadMaps: one of another size or type than the first.
        """
        chosen = [self.places[place] for place in places]
        found = list(_read(chosen))
        first = self._first
        for place, values in zip(chosen, found, strict=True):
            if values.shape != first.shape or values.dtype != first.dtype:
                raise BadMaps(
                    f"{place.file} holds {values.dtype} of shape {values.shape}; expected"
                    f" {first.dtype} of shape {first.shape} as in {self.places[0].file}"
                )
        return np.stack(found)


def picture_files(files: Iterable[Path]) -> Iterator[Place]:
    """List the pictures of files; nnU-Net's `.npz` may hold several, one a slice.

    nnU-Net (version 2, `--save_probabilities`) writes `CASE.npz` with `probabilities` (class,
    slice, row, col). A case of one slice is one picture, CASE; more are CASE-0, CASE-1, ...

    Raises:
        BadData: a file that is missing or damaged.
    """
    for file in files:
        shape = _shape(file) if file.suffix == ".npz" else ()
        if len(shape) != VOLUME_AXES:
            yield Place(file.stem, file, None)
        elif shape[1] == 1:
            yield Place(file.stem, file, 0)
        else:
            yield from (Place(f"{file.stem}-{index}", file, index) for index in range(shape[1]))


def _read(places: Sequence[Place]) -> Iterator[Array]:
    """Read pictures; neighbours in one file open it once."""
    file, opened = None, np.empty(0)
    for place in places:
        if place.file != file:
            file, opened = place.file, _opened(place.file)
        yield np.asarray(opened if place.slice is None else opened[:, place.slice])


def _opened(file: Path) -> Array:
    if file.suffix == ".png":
        picture = open_picture(file)
        if picture.mode not in PNG_MODES:
            raise BadMaps(f"{file} is {picture.mode}; expected one channel of class indices")
        return np.asarray(picture).astype(np.int32)
    opened = open_array(file)
    axes, kind = opened.ndim, opened.dtype.kind
    maps = axes in (MAP_AXES, VOLUME_AXES) and (kind == "f" or opened.dtype == np.uint8)
    if not maps and not (axes == LABEL_AXES and kind in "iu"):
        raise BadMaps(
            f"{file} is {opened.dtype} of shape {opened.shape}; expected (class, row, col) of"
            " floating point, or of uint8 scaled by 255, or integer labels (row, col)"
        )
    return opened


def _shape(file: Path) -> tuple[int, ...]:
    """Return the shape of the one array of a `.npz` from its head, without unpacking it."""
    names = array_names(file)
    if len(names) != 1:
        raise BadMaps(f"{file} holds {', '.join(names) or 'nothing'}; expected one array a file")
    return header_of(file, names[0]).shape
