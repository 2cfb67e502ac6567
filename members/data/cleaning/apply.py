"""The data set without the pictures that were dropped, as a new file."""

from pathlib import Path

import numpy as np

from evaluation.ground.arrays import Array, Kept
from evaluation.ground.errors import BadData
from evaluation.ground.files import array_names, open_array, whole_file
from members.data import arrays, competition
from members.data.dataset import DataSet

WHOLE = ("test_set", "classes")


def refuse_target(out: Path) -> None:
    """Refuse a name that cannot be written, before any work.

    Raises:
        BadData: no `.npz`, or there already.
    """
    if out.suffix != ".npz":
        raise BadData(f"{out} cannot be written; expected a name that ends in .npz")
    if out.exists():
        raise BadData(f"{out} is there already and is left as it is; take another name")


def write_kept(source: Path, data: DataSet, kept: Kept, out: Path) -> None:
    """Write the pictures to keep in the layout of the source; a folder becomes a general `.npz`.

    Every array with one entry a picture is reduced, known or not; test pictures and all else stay.
    A general file names the old ids as `source`, so that ids stay what they were.

    Args:
        source: what `data` was loaded from.
        data: the set that is cleaned.
        kept: True for pictures that stay.
        out: the new file.

    Raises:
        BadData: `out` is no `.npz` or is there already.
    """
    refuse_target(out)
    held = _of_set(data) if source.is_dir() else _of_file(source)
    if competition.KEY not in held:
        held["source"] = np.array(data.ids)
    new = {
        name: array if name in WHOLE or array.shape[:1] != kept.shape else array[kept]
        for name, array in held.items()
    }
    with whole_file(out) as partial:
        np.savez_compressed(partial, **new)  # type: ignore[arg-type]


def _of_file(path: Path) -> dict[str, Array]:
    return {name: open_array(path, name) for name in array_names(path)}


def _of_set(data: DataSet) -> dict[str, Array]:
    held = {
        arrays.KEY: data.pictures[:, 0] if data.channels == 1 else data.pictures,
        "classes": np.array(data.classes.names),
    }
    if data.masks is not None:
        held["masks"] = data.masks
    if data.groups is not None:
        held["group"] = data.groups
    return held
