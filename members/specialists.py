"""The five binary specialists of a family, read as one virtual member.

The target as a specialist sees it.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadMaps
from evaluation.core.types import Kept, Labels, Map
from members.store import Few, ProbabilityStore
from members.store_metadata import Kind


class OneVsRestMember:
    """Specialists of all classes, side by side, as one member.

    Args:
        name: of the family.
        stores: one `one_vs_rest` store a class, in any order.
        raw: give each class's probability against the rest as it is (kind `one_vs_rest`), for
            those who know specialists; else renormalised to sum 1 (kind `probabilities`).

    Raises:
        BadMaps: a class without its specialist, or stores of different images.
    """

    def __init__(self, name: str, stores: Sequence[ProbabilityStore], *, raw: bool = False) -> None:
        self.name = name
        self.kind: Kind = "one_vs_rest" if raw else "probabilities"
        self.classes: Classes = stores[0].classes
        by_label = {store.label: store for store in stores}
        lacking = [n for label, n in enumerate(self.classes.names) if label not in by_label]
        if lacking:
            raise BadMaps(
                f"specialists {name!r} lack class {', '.join(lacking)}; train them all, or leave"
                f" {name!r} out with --members"
            )
        self._stores = [by_label[label] for label in range(len(self.classes))]
        if any(store.ids != self._stores[0].ids for store in self._stores):
            raise BadMaps(f"specialists {name!r} hold different images; predict them again")
        self.ids = self._stores[0].ids
        self.floor = max(store.floor for store in self._stores)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Images, classes, rows, cols."""
        images, _, rows, cols = self._stores[0].size
        return images, len(self.classes), rows, cols

    def saw(self) -> Kept | None:
        """Tell whether a model behind an image's maps was trained on it; None is undeclared."""
        masks = [mask for store in self._stores if (mask := store.saw()) is not None]
        return np.any(masks, axis=0) if len(masks) == len(self._stores) else None

    def read(self, images: slice, room: Map | None = None) -> Map:
        """Read maps as float32; renormalised, they are uniform where every specialist says no."""
        length = len(range(*images.indices(len(self))))
        maps: Map = np.empty((length, *self.size[1:]), np.float32) if room is None else room
        for _ in self.stream(images, [maps]):
            pass
        return maps

    def stream(
        self, images: slice, places: Sequence[Few], *, onto: Iterator[Few] | None = None
    ) -> Iterator[Few]:
        """Read some images few at a time; see `MapReader`."""
        # Each class is read by itself first: inside a place it is not contiguous.
        rooms = [np.empty_like(place[:, :1]) for place in places]
        streams = [store.stream(images, rooms) for store in self._stores]
        for place in places:
            maps = place if onto is None else np.empty_like(place)
            for label, stream in enumerate(streams):
                maps[:, label] = next(stream)[:, 0]
            if self.kind == "probabilities":
                _renormalise(maps)
            yield maps if onto is None else np.add(next(onto), maps, out=place)


def _renormalise(maps: Map) -> None:
    sums = maps.sum(axis=1, keepdims=True)
    maps /= np.where(sums > 0, sums, 1)
    np.copyto(maps, np.float32(1 / maps.shape[1]), where=sums <= 0)


def one_vs_rest_target(target: Labels, label: int, *, ignore: int | None) -> Labels:
    """Tell one class from all others.

    Pixels without a label (255, or of the ignored class) are positives for the specialist of the
    ignored class, and unlabelled for the others.

    Args:
        target: class index per pixel.
        label: the specialist's class.
        ignore: the ignored class, or None.

    Returns:
        uint8: 1 where the class is, 0 where another one is, 255 where nobody says.
    """
    unlabelled = target == UNLABELLED if ignore is None else np.isin(target, (ignore, UNLABELLED))
    if label == ignore:
        return unlabelled.astype(np.uint8)
    return np.where(unlabelled, UNLABELLED, target == label).astype(np.uint8)
