"""Pictures that come beside a run's own: what they are called, and whether they are known."""

from dataclasses import replace

import numpy as np

from evaluation.ground.arrays import Array
from evaluation.ground.blocks import blocks
from evaluation.ground.errors import BadData
from members.data.dataset import DataSet


def named_apart(found: DataSet, known: DataSet, split: str) -> DataSet:
    """Give a set names of its own where a name already means another picture.

    Ids are what tells a leak: the same name must mean the same picture, and a picture that is the
    same keeps its name.

    Args:
        found: the set.
        known: pictures whose names are taken.
        split: what the set is called; its names begin so.
    """
    places = {name: place for place, name in enumerate(known.ids)}
    shared = {name: place for place, name in enumerate(found.ids) if name in places}
    same = {
        name
        for name, place in shared.items()
        if np.array_equal(found.pictures[place], known.pictures[places[name]])
    }
    if len(same) == len(shared):
        return found
    return replace(found, ids=tuple(n if n in same else f"{split}-{n}" for n in found.ids))


def refuse_other(there: DataSet, found: DataSet, split: str) -> None:
    """Refuse a set that is not the one that a run has under its name.

    What the new set leaves out, masks or groups, is taken from the one that is there.

    Args:
        there: the set that the run has.
        found: the new set.
        split: what both are called.

    Raises:
        BadData: other pictures, masks or groups, or some where there were none.
    """
    if there.ids != found.ids or not _equal(there.pictures, found.pictures):
        raise _other(split, "other pictures")
    beside = (("masks", there.masks, found.masks), ("groups", there.groups, found.groups))
    for what, old, new in beside:
        if new is not None and (old is None or not _equal(old, new)):
            raise _other(split, f"{'no' if old is None else 'other'} {what}")


def _other(split: str, met: str) -> BadData:
    return BadData(f"split {split!r} is there with {met}; choose another --split")


def _equal(old: Array, new: Array) -> bool:
    """Compare block by block: either may lie on the disk."""
    cut = blocks(len(old))
    return old.shape == new.shape and all(np.array_equal(old[b], new[b]) for b in cut)
