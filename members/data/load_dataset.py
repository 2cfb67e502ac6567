"""Load any data set that a user has, recognised by its content."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from evaluation.core.classes import Classes, numbered
from evaluation.core.errors import BadData, BadLabels, BadSpec
from evaluation.core.files import array_names, check_no_external_links
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from members.data import ai4mars, npz_files
from members.data.dataset import DataSet, StoredSet
from members.data.group_names import group_names
from members.data.layouts import DEFAULT_LAYOUT, LayoutOptions, read_layout
from members.data.recognise import recognise

Set = TypeVar("Set", DataSet, StoredSet)

EXPECTED = (
    "a .npz with training_set and test_set, a .npz with images and masks, a .npy of images, or a"
    " folder (docs/data.md)"
)


def load_dataset(
    path: Path | str,
    *,
    labels: LabelOptions = NOTHING_SAID,
    contract: Classes | None = None,
    use_masks: bool = True,
    layout: LayoutOptions = DEFAULT_LAYOUT,
) -> dict[str, DataSet]:
    """Load a data set from a file or folder.

    Args:
        path: a competition file, a general `.npz`, a folder of one of `recognise.LAYOUTS`, or an
            AI4Mars tree (whose images come as tiles, cut with the defaults of
            `ai4mars.TileOptions`); for images without labels a `.npy` too.
        labels: what is said about classes and values of masks; by default what the data set says
            of itself, else as many numbered classes as there are, all of them scored.
        contract: the classes of a set that this one joins; what the set or the options say must
            agree with it.
        use_masks: False leaves masks out: all images are returned as unlabelled.
        layout: what is said about how a folder lies on disk, and about groups.

    Returns:
        `training` for what is labelled, `test` for what is not; a competition file gives both, and
        a folder that is divided may give `validation`, too.

    Raises:
        BadData: none of these formats, or one that is damaged; the message says what was found.
        BadLabels: values of masks that stand for no class or could mean several things, or masks
            without a scored pixel.
        BadSpec: options that do not fit the data or the contract.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "own.npz"
        >>> masks = np.array([[[0, 1]], [[1, 255]]], np.uint8)
        >>> np.savez(path, images=np.zeros((2, 1, 2), np.uint8), masks=masks)
        >>> load_dataset(path)["training"].ids
        ('own-00000', 'own-00001')
    """
    path = Path(path)
    try:
        if path.is_dir():
            sets = _load_folder(path, labels, layout, use_masks=use_masks)
        elif path.is_file():
            sets = _load_file(path, layout)
        else:
            raise BadData(f"{path} is missing; expected {EXPECTED}")
        if not use_masks:
            sets = {"test": replace(one_set(sets, str(path)), masks=None)}
        sets = {name: data.by_size() for name, data in sets.items()}
        for data in sets.values():
            _check_finite(data)
        return _map_values(sets, labels, contract)
    except (BadData, BadLabels, BadSpec) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None


def describe_layout(path: Path, layout: LayoutOptions = DEFAULT_LAYOUT) -> dict[str, str] | None:
    """Return the name of a folder's layout and what it was recognised by; None for a file."""
    if not path.is_dir():
        return None
    if not replace(layout, group_by=None) and ai4mars.find_tree(path) is not None:
        return {"name": "ai4mars", "why": f"{ai4mars.IMAGES} beside {ai4mars.LABELS}"}
    found = recognise(path, layout)
    return {"name": found.name, "why": found.why}


def one_set(sets: Mapping[str, Set], name: str) -> Set:
    """Return the images that are meant where one set is wanted: `test`, else the only set.

    Raises:
        BadData: there are several others.
    """
    if "test" not in sets and len(sets) > 1:
        raise BadData(
            f"{name} holds sets {', '.join(sets)}; expected one: give the folder of one of them, or"
            " list the images to read by --ids"
        )
    return sets["test"] if "test" in sets else next(iter(sets.values()))


def _map_values(
    sets: dict[str, StoredSet], labels: LabelOptions, contract: Classes | None
) -> dict[str, DataSet]:
    labelled = [data for data in sets.values() if data.masks is not None]
    of_each = [data.stored_values() for data in labelled]
    totals = np.sum([pixels_of.sum(axis=0) for pixels_of in of_each], axis=0)
    pixels = {int(value): int(totals[value]) for value in np.flatnonzero(totals)}
    known = labelled[0].known if labelled else None
    if not labelled:
        classes = contract or labels.without_data() or numbered(2, ignore=None)
    elif contract is None:
        classes = labels.resolve(pixels, known)
    else:
        classes = contract
        labels.check_against(contract)
        if not labels and known is not None:
            _check_contract(known, contract)
    for pixels_of in of_each:
        labels.check_coding([np.flatnonzero(mask).tolist() for mask in pixels_of], classes)
    if labelled:
        _check_scorable(pixels, classes)
    return {name: data.mapped(classes) for name, data in sets.items()}


def _check_finite(data: StoredSet) -> None:
    if data.images.dtype.kind != "f":
        return
    for name, image in zip(data.ids, data.images, strict=True):
        if not np.isfinite(image).all():
            raise BadData(f"image {name!r} holds NaN or infinite values; expected finite ones")


def _check_scorable(pixels: dict[int, int], classes: Classes) -> None:
    if not any(pixels.get(classes.values[i]) for i in classes.scored):
        ignored = "" if classes.ignore is None else f", {classes.names[classes.ignore]!r} ignored"
        raise BadLabels(
            f"no pixel of the masks is scored: they hold {_shown(pixels)}; expected"
            f" {classes.describe_values()}{ignored}; see --ignore, --foreground and --unlabelled"
        )


def _check_contract(known: Classes, contract: Classes) -> None:
    if (known.names, known.ignore) != (contract.names, contract.ignore):
        raise BadSpec(
            f"its classes are {_describe(known)}; expected those of the training set,"
            f" {_describe(contract)}; give --classes and --ignore for both"
        )


def _describe(classes: Classes) -> str:
    ignored = "none" if classes.ignore is None else classes.names[classes.ignore]
    return f"{', '.join(classes.names)} (ignored: {ignored})"


def _shown(pixels: dict[int, int]) -> str:
    total = sum(pixels.values())
    shown = [f"{value} ({count / total:.0%})" for value, count in list(pixels.items())[:8]]
    return ", ".join(shown) + (", ..." if len(pixels) > len(shown) else "")


def _load_file(path: Path, layout: LayoutOptions) -> dict[str, StoredSet]:
    if replace(layout, group_by=None):
        raise BadSpec(f"{path} is a file; --layout, --images, --masks and --ids choose in a folder")
    return _grouped(_read_file(path), layout.group_by)


def _grouped(sets: dict[str, StoredSet], group_by: str | None) -> dict[str, StoredSet]:
    if group_by is None:
        return sets
    return {
        name: replace(data, groups=group_names(data.ids, group_by)) for name, data in sets.items()
    }


def _read_file(path: Path) -> dict[str, StoredSet]:
    if path.suffix.lower() == ".npy":
        return npz_files.read_stack(path)
    if path.suffix.lower() != ".npz":
        raise BadData(f"{path} is no .npz or .npy file; expected {EXPECTED}")
    names = array_names(path)
    if npz_files.COMPETITION_KEY in names:
        return npz_files.read_competition(path)
    if npz_files.IMAGES_KEY in names:
        return npz_files.read_npz(path)
    raise BadData(f"{path} holds {', '.join(names) or 'nothing'}; expected {EXPECTED}")


def _load_folder(
    path: Path, labels: LabelOptions, layout: LayoutOptions, *, use_masks: bool
) -> dict[str, StoredSet]:
    if not replace(layout, group_by=None) and ai4mars.find_tree(path) is not None:
        check_no_external_links(path)
        return _grouped(ai4mars.read(path), layout.group_by)
    found = recognise(path, layout)
    if not use_masks:  # they may be of any kind, or damaged
        found = found.without_masks()
    return read_layout(found, labels, layout.group_by)
