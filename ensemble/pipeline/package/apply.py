"""A package on new pictures: labels into one file, or a PNG a picture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.package.contents import Package, read_package
from ensemble.pipeline.package.label import label
from ensemble.pipeline.postprocessing import write_labels
from ensemble.pipeline.submission.label_pngs import write_pngs
from evaluation.ground.errors import BadData, BadRun
from evaluation.ground.files import whole_file, whole_folder
from members.data.dataset import DataSet
from members.data.load import load
from members.devices import devices


def apply_package(
    folder: Path, pictures: Path, out: Path, *, device: str, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Label pictures.

    Args:
        folder: the package.
        pictures: file or folder; see `members.data.load.load`; labels do not matter.
        out: a `.npy`, (picture, row, col) uint8, in the order of the pictures' names; or a folder,
            which gets `ID.png` with the class index of each pixel in the classes' colours.
        device: see `members.devices.devices`.
        tell: gets a line for whatever was decided.

    Returns:
        A JSON document: the package, how many pictures, where their labels are.

    Raises:
        BadRun: no package, or a damaged one.
        BadData: pictures of another size or number of channels, or a folder that is not empty.
    """
    package, where = read_package(folder), devices(device)[0]
    contents, classes = package.contents, package.classes
    sets = load(pictures)
    data = replace(sets.get("test") or sets["training"], masks=None, classes=classes)
    if (data.channels, data.shape) != (contents.channels, contents.shape):
        met, expected = (
            f"{channels} x {rows} x {cols}"
            for channels, (rows, cols) in (
                (data.channels, data.shape),
                (contents.channels, contents.shape),
            )
        )
        raise BadData(f"{pictures} has pictures of {met}; the package takes {expected}")
    if out.suffix != ".npy" and out.exists() and (out.is_file() or any(out.iterdir())):
        raise BadData(f"{out} is there; choose a new folder, or a .npy file, as --out")
    _try_out(package, where)
    tell(f"{contents.candidate}: {len(data)} pictures on {where}")
    labelled = label(package, data, where)
    if out.suffix == ".npy":
        with whole_file(out) as partial:
            write_labels(partial, labelled, (len(data), *data.shape))
    else:
        with whole_folder(out) as partial:
            write_pngs(partial, data.ids, labelled, classes)
    return {"package": str(folder), "out": str(out), "pictures": len(data)}


def _try_out(package: Package, device: str) -> None:
    """Label a black picture, so that weights, fusion and chain are known to fit before work.

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
