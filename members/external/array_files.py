"""Arrays in files of many kinds: NumPy's, PyTorch's, safetensors and NIfTI.

Nothing is unpickled. Arrays are mapped from the file where its kind allows it.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.array_headers import FREE_BYTES, RATIO, header_of
from evaluation.core.errors import BadData, BadMaps
from evaluation.core.files import array_names, open_array
from evaluation.core.types import Array
from members.data.image_files import id_of

NIFTI = (".nii", ".nii.gz")
TORCH = (".pt", ".pth")
ARRAY_SUFFIXES = (".npy", ".npz", *TORCH, ".safetensors", *NIFTI)

IDS, CLASSES = "ids", "classes"
"""Arrays beside the maps: the names of the images and of the classes."""

MAPS_KEYS = ("probabilities", "probs", "softmax", "logits", "maps")
"""Which of several arrays the maps are, if only one of them is there."""


def suffix_of(file: Path) -> str:
    """Return a file's suffix in small letters; `.nii.gz` is one."""
    name = file.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()


def image_id(file: Path) -> str:
    """Return a file's name without its suffix."""
    return id_of(file.with_suffix("") if suffix_of(file) == ".nii.gz" else file)


def words_of(file: Path, key: str) -> tuple[str, ...] | None:
    """Return the strings in an array beside the maps; None where there is no such array.

    Raises:
        BadData: something else under that name.
    """
    from members.data.npz_files import as_names

    suffix = suffix_of(file)
    if suffix not in (".npz", *TORCH) or key not in (_names(file) or ()):
        return None
    if suffix == ".npz":
        words = open_array(file, key)
    else:
        try:
            words = np.asarray(_read_torch(file)[key])
        except (ValueError, TypeError, RuntimeError):  # lists of lists of several lengths
            words = np.empty(())
    if words.ndim != 1:
        raise BadData(f"{file}: {key} is no list; expected strings or whole numbers, one for each")
    return tuple(as_names(f"{file}: {key}", words, len(words)).tolist())


def key_of(file: Path, key: str | None) -> str | None:
    """Return which array of a file holds the maps; None where it holds one without a name.

    Args:
        file: the file.
        key: the name that was asked for.

    Raises:
        BadMaps: several arrays, or none of that name.
    """
    names = _names(file)
    if names is None:
        if key is not None:
            raise BadMaps(f"{file} holds one array without a name; leave --key out")
        return None
    values = [name for name in names if name not in (IDS, CLASSES)]
    shown = ", ".join(names) or "nothing"
    if key is not None:
        if key not in names:
            raise BadMaps(f"{file} holds {shown}; expected an array {key!r} (--key)")
        return key
    known = [name for name in values if name in MAPS_KEYS]
    if len(values) == 1 or len(known) == 1:
        return values[0] if len(values) == 1 else known[0]
    raise BadMaps(
        f"{file} holds {shown}; expected one array of maps, or its name (ens import --key NAME)"
    )


def shape_of(file: Path, key: str | None) -> tuple[int, ...]:
    """Return the shape of an array, unpacking nothing where that can be helped."""
    if suffix_of(file) == ".npz":
        name = key_of(file, key)
        assert name is not None
        return header_of(file, name).shape
    return tuple(open_values(file, key).shape)


def open_values(file: Path, key: str | None = None) -> Array:
    """Open the array of the maps.

    Args:
        file: one of `ARRAY_SUFFIXES`.
        key: its name, where the file holds several.

    Raises:
        BadData: missing or damaged.
        BadMaps: no such array, or one that is no array of numbers.
    """
    suffix, name = suffix_of(file), key_of(file, key)
    if suffix in (".npy", ".npz"):
        return open_array(file, name)
    if suffix in NIFTI:
        return _read_nifti(file)
    if suffix == ".safetensors":
        return _to_numpy(_opened_safetensors(file).get_tensor(name), file)
    saved = _read_torch(file)
    return _to_numpy(saved if name is None else saved[name], file)


def _names(file: Path) -> list[str] | None:
    """List the arrays of a file; None where it holds one without a name."""
    suffix = suffix_of(file)
    if suffix == ".npz":
        return array_names(file)
    if suffix == ".safetensors":
        return list(_opened_safetensors(file).keys())
    if suffix in TORCH:
        saved = _read_torch(file)
        return list(saved) if isinstance(saved, Mapping) else None
    return None


def _read_torch(file: Path) -> Any:
    import torch

    _check_is_file(file)
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle, zip and torch each have their own kinds
        raise BadData(
            f"{file} is no tensor or dict of tensors that can be read without running its code"
            f" ({_one_line(error)}); save a tensor by torch.save, or give .npy"
        ) from None
    return {str(k): value for k, value in saved.items()} if isinstance(saved, Mapping) else saved


def _opened_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    _check_is_file(file)
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise BadData(
            f"{file} is no readable .safetensors ({_one_line(error)}); write it again"
        ) from None


def _to_numpy(tensor: Any, file: Path) -> Array:
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        layout = f" of layout {tensor.layout}" if isinstance(tensor, torch.Tensor) else ""
        raise BadMaps(f"{file} holds a {type(tensor).__name__}{layout}; expected a dense tensor")
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    try:
        return np.asarray(tensor.detach().numpy())
    except (TypeError, RuntimeError) as error:
        raise BadMaps(
            f"{file} holds a {tensor.dtype} tensor ({_one_line(error)}); expected floating point of"
            " 16 bits or more, or integers"
        ) from None


def _read_nifti(file: Path) -> Array:
    """Return a volume with its axes in the order of arrays: (..., slice, row, col).

    NIfTI counts x first, then y, z and classes: the reverse of the axes that nnU-Net and SimpleITK
    give.
    """
    try:
        import nibabel
    except ImportError:
        raise BadMaps(
            f"{file} is NIfTI, which needs nibabel: pip install 'ens[nifti]', or give .npz"
        ) from None
    _check_is_file(file)
    try:
        image = nibabel.load(file)
        claimed = math.prod(image.shape) * image.get_data_dtype().itemsize
        if claimed > max(FREE_BYTES, RATIO * file.stat().st_size):
            raise ValueError(f"it would unpack to {claimed} bytes")
        return np.asarray(image.dataobj).T
    except Exception as error:  # nibabel and gzip have their own kinds
        raise BadData(
            f"{file} is no readable NIfTI volume ({_one_line(error)}); write it again"
        ) from None


def _check_is_file(file: Path) -> None:
    if not file.is_file():
        raise BadData(f"{file} is missing; expected a file of maps")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
