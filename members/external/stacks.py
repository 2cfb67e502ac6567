"""Images, labels and maps that read like one array, decoded block by block as they are used."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.errors import BadData, BadMaps
from evaluation.core.ragged import Extent, Stack, extent_of, join, map_stack, stack_images
from evaluation.core.types import Array
from members.external.file_names import image_names
from members.external.formats import ExternalMaps, open_external
from members.external.values import SOFTMAX, to_probabilities


class LazyStack(ABC):
    """What reads like an array of images, none of which is in memory."""

    @property
    @abstractmethod
    def extent(self) -> Extent:
        """Number and sizes of the images."""

    @property
    @abstractmethod
    def channels(self) -> tuple[int, ...]:
        """Lengths of the axes between the image and its rows."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """Length of each axis; None for rows and columns that differ."""
        return (len(self), *self.channels, *(self.extent.one_size or (None, None)))

    @property
    def ndim(self) -> int:
        """Number of axes, that of the images included."""
        return len(self.shape)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.extent)

    @abstractmethod
    def __getitem__(self, images: Any) -> Stack:
        """Read an image, or some of the images."""


@dataclass(frozen=True)
class MapFolder(LazyStack):
    """Files of maps or labels, read when they are indexed.

    Args:
        files: the files.
        ids: the names of the images, in order; None where the files name none.
        order: the index of each image among the files.
    """

    files: ExternalMaps
    ids: tuple[str, ...] | None
    order: Array

    @classmethod
    def open(cls, folder: Path) -> "MapFolder":
        """Open a folder, in the order of the images' names.

        Raises:
            BadMaps: files that hold no maps, or no files.
        """
        return cls.of(open_external([folder]))

    @classmethod
    def of(cls, files: ExternalMaps) -> "MapFolder":
        """Return files in the order of the images' names, where they have names."""
        if files.ids is None:
            return cls(files, None, np.arange(files.size[0]))
        names = image_names(files.ids)
        order = np.array(sorted(range(len(names)), key=names.__getitem__))
        return cls(files, tuple(names[index] for index in order), order)

    @cached_property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return self.files.extent.take(self.order)

    @property
    def channels(self) -> tuple[int, ...]:
        """Lengths of the axes between the image and its rows."""
        return self.files.size[1:-2]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(self.files.dtype)

    def __getitem__(self, images: Any) -> Stack:
        """Read an image, or some of the images.

        Raises:
            BadMaps: one that differs from the first in its classes or type.
        """
        if isinstance(images, int | np.integer):
            return self.files.read(np.array([self.order[images]]))[0]
        order = self.order[images]
        runs = self.files.extent.take(order).slices()
        return join([self.files.read(order[same]) for same, _ in runs])


@dataclass(frozen=True)
class FileStack(LazyStack):
    """One file per image, decoded whenever it is indexed: memory holds what was asked for.

    Args:
        files: of the images, in order.
        shapes: of the images, (..., row, col), alike but for rows and columns.
        dtype: of the values.
        read: decodes a file.
    """

    files: tuple[Path, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]
    read: Callable[[Path], Array]

    @cached_property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return Extent.of_sizes([(shape[-2], shape[-1]) for shape in self.shapes])

    @property
    def channels(self) -> tuple[int, ...]:
        """Lengths of the axes between the image and its rows."""
        return self.shapes[0][:-2]

    def __getitem__(self, images: Any) -> Stack:
        """Read an image, or some of the images.

        Raises:
            BadData: a file that changed since it was opened.
        """
        if isinstance(images, int | np.integer):
            return self._image(int(images))
        indices = np.arange(len(self))[images]
        if not len(indices):
            return np.empty((0, *self.shapes[0]), self.dtype)
        return stack_images([self._image(int(index)) for index in indices])

    def _image(self, index: int) -> Array:
        file, expected = self.files[index], self.shapes[index]
        image = self.read(file)
        if image.shape != expected or image.dtype != self.dtype:
            raise BadData(
                f"{file} holds {image.dtype} of shape {image.shape}; expected {self.dtype} of shape"
                f" {expected}, as when it was opened: do not write to it meanwhile"
            )
        return image


@dataclass(frozen=True)
class LabelView(LazyStack):
    """Label maps made of what is stored when they are indexed, such as the argmax of maps.

    Args:
        stored: (image, ..., row, col).
        to_labels: returns class indices (image, row, col), uint8, of images of one size.
    """

    stored: Stack
    to_labels: Callable[[Array], Array]
    dtype = np.dtype(np.uint8)
    channels = ()

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return extent_of(self.stored)

    def __getitem__(self, images: Any) -> Stack:
        """Read some of the images."""
        return map_stack(lambda part: self.to_labels(np.asarray(part)), self.stored[images])


@dataclass(frozen=True)
class Softmaxed(LazyStack):
    """Logits that read as probabilities.

    Args:
        name: what errors call them.
        logits: (image, class, row, col), floating point.
    """

    name: str
    logits: Stack

    def __post_init__(self) -> None:
        """Check the type."""
        if self.logits.dtype.kind != "f":
            raise BadMaps(f"{self.name} is {self.logits.dtype}; logits are floating point")

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return extent_of(self.logits)

    @property
    def channels(self) -> tuple[int, ...]:
        """Lengths of the axes between the image and its rows."""
        return tuple(self.logits.shape[1:-2])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the probabilities."""
        return np.dtype(np.float32)

    def __getitem__(self, images: slice) -> Array:
        """Read images of one size.

        Raises:
            BadMaps: probabilities, which a softmax would flatten.
        """
        values = np.asarray(self.logits[images], np.float32)
        sums = values.sum(axis=1)
        if values.size and values.min() >= 0 and np.abs(sums - 1).max() < 1e-2:
            raise BadMaps(f"{self.name} holds probabilities, not logits; leave --logits out")
        return to_probabilities(values, SOFTMAX)


@dataclass(frozen=True)
class ImageFolder:
    """A folder that takes one file per image.

    Args:
        folder: an empty one.
        ids: names of the images, which can be those of files.
        as_labels: whether images are label maps, written as `.png`; else `.npy`.
    """

    folder: Path
    ids: Sequence[str]
    as_labels: bool

    def __setitem__(self, block: slice, values: Array) -> None:
        """Write the images of a block."""
        for name, image in zip(self.ids[block], values, strict=True):
            file = self.folder / f"{name}.png"
            if self.as_labels:
                from PIL import Image

                Image.fromarray(image).save(file)
            else:
                np.save(self.folder / f"{name}.npy", image)
