"""Binary one-vs-rest specialists: their training target, and a family of them as one member."""

from collections.abc import Iterator, Sequence

import numpy as np

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadMaps
from evaluation.core.ragged import Extent
from evaluation.core.types import Kept, Labels, Map
from members.maps import MapReader, SmallBatch
from members.store import ProbabilityStore
from members.store_metadata import Kind


class OneVsRestMember(MapReader):
    """The specialists of all classes, as one member.

    Args:
        name: of the family.
        stores: one `one_vs_rest` store per class, in any order.
        raw: keep each class's probability against the rest (kind `one_vs_rest`), for strategies
            that know specialists; else renormalise to sum 1 (kind `probabilities`), uniform where
            every specialist says no.

    Raises:
        BadMaps: a class without its specialist, or stores of different images.
    """

    ids: tuple[str, ...]
    classes: Classes

    def __init__(self, name: str, stores: Sequence[ProbabilityStore], *, raw: bool = False) -> None:
        self.name = name
        self.kind: Kind = "one_vs_rest" if raw else "probabilities"
        self.classes = stores[0].classes
        by_label = {store.label: store for store in stores}
        missing = [n for label, n in enumerate(self.classes.names) if label not in by_label]
        if missing:
            raise BadMaps(
                f"specialists {name!r} lack class {', '.join(missing)}; train them all, or leave"
                f" {name!r} out with --members"
            )
        self._stores = [by_label[label] for label in range(len(self.classes))]
        self.ids = self._stores[0].ids
        if any(store.ids != self.ids for store in self._stores):
            raise BadMaps(f"specialists {name!r} hold different images; predict them again")

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return self._stores[0].extent

    @property
    def num_classes(self) -> int:
        """Length of the class axis."""
        return len(self.classes)

    @property
    def floor(self) -> float:
        """The largest of the stores."""
        return max(store.floor for store in self._stores)

    def trained_on_mask(self) -> Kept | None:
        """Return, per image, whether any specialist was trained on it; None is undeclared."""
        masks = [mask for s in self._stores if (mask := s.trained_on_mask()) is not None]
        return np.any(masks, axis=0) if len(masks) == len(self._stores) else None

    def stream(
        self,
        images: slice,
        outs: Sequence[SmallBatch],
        *,
        accumulate_into: Iterator[SmallBatch] | None = None,
    ) -> Iterator[SmallBatch]:
        """Read images in small batches; see `MapReader.stream`."""
        # Each class is read by itself first: inside `out` it is not contiguous.
        buffers = [np.empty_like(out[:, :1]) for out in outs]
        streams = [store.stream(images, buffers) for store in self._stores]
        for out in outs:
            maps = out if accumulate_into is None else np.empty_like(out)
            for label, stream in enumerate(streams):
                maps[:, label] = next(stream)[:, 0]
            if self.kind == "probabilities":
                _renormalise(maps)
            yield maps if accumulate_into is None else np.add(next(accumulate_into), maps, out=out)


def _renormalise(maps: Map) -> None:
    sums = maps.sum(axis=1, keepdims=True)
    maps /= np.where(sums > 0, sums, 1)
    np.copyto(maps, np.float32(1 / maps.shape[1]), where=sums <= 0)


def one_vs_rest_target(target: Labels, label: int, *, ignore: int | None) -> Labels:
    """Return the target of one class against all others.

    Pixels without a label (255, or of the ignored class) are positives for the specialist of the
    ignored class, and unlabelled for the others.

    Args:
        target: class index per pixel.
        label: the specialist's class.
        ignore: the ignored class, or None.

    Returns:
        uint8: 1 for the class, 0 for another one, 255 where unlabelled.

    Examples:
        >>> one_vs_rest_target(np.array([[[0, 1, 2, 255]]]), 2, ignore=0)
        array([[[255,   0,   1, 255]]], dtype=uint8)
    """
    unlabelled = target == UNLABELLED if ignore is None else np.isin(target, (ignore, UNLABELLED))
    if label == ignore:
        return unlabelled.astype(np.uint8)
    return np.where(unlabelled, UNLABELLED, target == label).astype(np.uint8)
