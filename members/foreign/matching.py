"""Which foreign picture is which of ours."""

from collections.abc import Sequence

import numpy as np

from evaluation.ground.arrays import Array
from evaluation.ground.errors import BadMaps
from members.foreign.formats import Foreign


def matched(foreign: Foreign, ids: Sequence[str]) -> tuple[Array, str]:
    """Find the place of each of our pictures among the foreign ones.

    Without ids a stack must hold the pictures of the split in its order.

    Returns:
        The places, and what is odd: foreign pictures that are none of ours; empty for nothing.

    Raises:
        BadMaps: pictures that are missing.
    """
    count = foreign.size[0]
    if foreign.ids is None:
        if count != len(ids):
            raise BadMaps(
                f"{foreign.name} holds {count} pictures without ids; expected the split's"
                f" {len(ids)}, in its order: give a .npz with ids, or one file a picture"
            )
        return np.arange(count), ""
    place_of = {name: place for place, name in enumerate(foreign.ids)}
    if len(place_of) < count:
        raise BadMaps(f"{foreign.name} holds ids that repeat; expected distinct ids")
    missing = [name for name in ids if name not in place_of]
    if missing:
        raise BadMaps(
            f"{foreign.name} lacks {len(missing)} of {len(ids)} pictures (first: {missing[0]!r};"
            f" its own are {foreign.ids[0]!r}, ...); name each as in the split's index.csv"
        )
    ours = set(ids)
    extra = [name for name in foreign.ids if name not in ours]
    odd = f"ids that do not match: {len(extra)} of {count} pictures are none of the split"
    return np.array([place_of[name] for name in ids]), (
        f"{odd} (first: {extra[0]!r})" if extra else ""
    )
