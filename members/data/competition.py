"""The competition's file: training pictures with masks, and test pictures alone."""

from pathlib import Path

from evaluation.ground.classes import Classes
from evaluation.ground.errors import BadData
from evaluation.ground.files import array_names, open_array
from members.data.arrays import as_bytes, as_names, classes_of, refuse_misspelt
from members.data.dataset import DataSet

KEY = "training_set"
KNOWN = (KEY, "test_set", "training_group")


def read(path: Path, classes: Classes | None) -> dict[str, DataSet]:
    """Read `training_set` (N, 2, H, W), `test_set` (M, H, W) and `training_group` (N,).

    Ids are `train-00000` and `test-00000` upwards. `test_set` and `training_group` may be missing.

    Raises:
        BadData: other shapes or types.
        BadLabels: a mask with a label outside the classes.
    """
    names = array_names(path)
    refuse_misspelt(path, names, KNOWN)
    both = as_bytes(f"{path}: {KEY}", open_array(path, KEY))
    if both.ndim != 4 or both.shape[1] != 2:
        raise BadData(
            f"{path}: {KEY} has shape {both.shape}; expected (N, 2, H, W), picture and mask"
        )
    pictures, masks = both[:, :1], both[:, 1]
    groups = None
    if "training_group" in names:
        groups = as_names(f"{path}: training_group", open_array(path, "training_group"), len(both))
    classes = classes_of(masks) if classes is None else classes
    ids = tuple(f"train-{index:05d}" for index in range(len(both)))
    sets = {"training": DataSet(pictures, masks, ids, groups, classes)}
    if "test_set" in names:
        sets |= _test(path, (both.shape[2], both.shape[3]), classes)
    return sets


def _test(path: Path, shape: tuple[int, int], classes: Classes) -> dict[str, DataSet]:
    pictures = as_bytes(f"{path}: test_set", open_array(path, "test_set"))
    if pictures.ndim != 3 or pictures.shape[1:] != shape:
        raise BadData(
            f"{path}: test_set has shape {pictures.shape}; expected (M, {shape[0]}, {shape[1]})"
            " like the training pictures"
        )
    if not len(pictures):
        return {}
    ids = tuple(f"test-{index:05d}" for index in range(len(pictures)))
    return {"test": DataSet(pictures[:, None], None, ids, None, classes)}
