"""Load any data set that a user has, recognised by its content."""

from pathlib import Path

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.files import array_names, check_no_external_links
from members.data import ai4mars, image_folder, npz_files
from members.data.dataset import DataSet, Size, resize_image, resize_mask
from members.data.image_files import list_files

EXPECTED = (
    "a .npz with training_set and test_set, a .npz with images and masks, a .npy of images,"
    " a folder with images/ and masks/ or of images (.png, .jpg, .tif, ...), or an AI4Mars tree"
)


def load_dataset(
    path: Path | str, *, classes: Classes | None = None, size: Size | None = None
) -> dict[str, DataSet]:
    """Load a data set from a file or folder.

    Args:
        path: a competition file, a general `.npz`, a folder of pairs or an AI4Mars tree (whose
            images come as tiles, cut with the defaults of `ai4mars.TileOptions`); for images
            without labels a `.npy` or a folder of image files too.
        classes: what the labels mean; by default the Mars classes where the highest label is 4,
            else as many numbered classes as there are, of which 0 is ignored.
        size: rows and columns to resize all images to; None refuses images of several sizes.

    Returns:
        `training` for what is labelled, `test` for what is not; a competition file gives both.

    Raises:
        BadData: none of these formats, or one that is damaged; the message says what was found.
        BadLabels: a mask with a label outside the classes.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "own.npz"
        >>> np.savez(path, images=np.zeros((2, 8, 9), np.uint8), masks=np.ones((2, 8, 9), np.uint8))
        >>> load_dataset(path)["training"].ids
        ('own-00000', 'own-00001')
    """
    path = Path(path)
    try:
        if path.is_dir():
            sets = _load_folder(path, classes, size)
        elif path.is_file():
            sets = _load_file(path, classes)
        else:
            raise BadData(f"{path} is missing; expected {EXPECTED}")
    except (BadData, BadLabels) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None
    return sets if size is None else {name: _resize(data, size) for name, data in sets.items()}


def _load_file(path: Path, classes: Classes | None) -> dict[str, DataSet]:
    if path.suffix.lower() == ".npy":
        return npz_files.read_stack(path, classes)
    if path.suffix.lower() != ".npz":
        raise BadData(f"{path} is no .npz or .npy file; expected {EXPECTED}")
    names = array_names(path)
    if npz_files.COMPETITION_KEY in names:
        return npz_files.read_competition(path, classes)
    if npz_files.IMAGES_KEY in names:
        return npz_files.read_npz(path, classes)
    raise BadData(f"{path} holds {', '.join(names) or 'nothing'}; expected {EXPECTED}")


def _load_folder(path: Path, classes: Classes | None, size: Size | None) -> dict[str, DataSet]:
    check_no_external_links(path)
    if ai4mars.find_tree(path) is not None:
        return ai4mars.read(path, classes)
    if (path / image_folder.IMAGES).is_dir() or list_files(path):
        return image_folder.read(path, classes, size)
    raise BadData(f"{path} is a folder without images/, msl/ or images; expected {EXPECTED}")


def _resize(data: DataSet, size: Size) -> DataSet:
    """Return the set at another size: images by area, masks by the nearest pixel."""
    if data.shape == size:
        return data
    channels_last = (np.moveaxis(image, 0, -1).squeeze() for image in data.images)
    images = np.stack([resize_image(image, size) for image in channels_last])
    if images.ndim == 3:
        images = images[..., None]
    masks = None if data.masks is None else np.stack([resize_mask(m, size) for m in data.masks])
    images = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    return DataSet(images, masks, data.ids, data.groups, data.classes)
