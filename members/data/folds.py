"""Who is predicted by whom: folds and holdouts that divide no group and share out rare classes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadData
from evaluation.core.types import Groups, Kept, Labels
from members.data.dataset import class_pixels

Fold = Integer[np.ndarray, "image"]
Part = Integer[np.ndarray, "group"]
Sizes = Float[np.ndarray, "group"]
Capacities = Float[np.ndarray, "part"]
Contents = Float[np.ndarray, "group measure"]
Held = Bool[np.ndarray, "image class"]


def split_folds(
    masks: Labels, groups: Groups | None, folds: int, *, classes: Classes, seed: int
) -> Fold:
    """Deal the images into folds of like size and like content.

    Groups stay whole. The groups richest in something rare are dealt first, each to the fold that
    holds least of what the group is rich in, counting images and images that hold each class.

    Args:
        masks: class index per pixel, (image, row, col).
        groups: a name an image; None where each image is a group of its own.
        folds: how many, 2 or more.
        classes: what the labels mean.
        seed: decides between groups alike.

    Returns:
        The fold of each image, 0 to `folds - 1`.

    Raises:
        BadData: fewer than two folds, fewer groups than folds, or a fold without a pixel of a
            class that other folds have.
    """
    if folds < 2:
        raise BadData(f"{folds} folds asked for; expected 2 or more")
    dealt = _deal(masks, groups, [1 / folds] * folds, seed)
    check_folds(masks, dealt, classes=classes)
    return dealt


def hold_out(masks: Labels, groups: Groups | None, share: float, seed: int) -> Kept:
    """Choose images to set aside, of like content as the rest and with no group divided.

    A class that only one group has is not set aside where that can be avoided: what is learnt from
    must have it.

    Args:
        masks: class index per pixel, (image, row, col).
        groups: a name an image; None where each image is a group of its own.
        share: how much of the images, between 0 and 1.
        seed: decides between groups alike.

    Returns:
        True for the images set aside: at least one group, and never all.

    Raises:
        BadData: a share that is none, or one group only.
    """
    if not 0 < share < 1:
        raise BadData(f"share {share} to set aside; expected more than 0 and less than 1")
    return np.asarray(_deal(masks, groups, [1 - share, share], seed) == 1)


def check_folds(masks: Labels, dealt: Fold, *, classes: Classes) -> None:
    """Check that each fold has pixels of each scored class that occurs at all.

    Raises:
        BadData: a fold without a class; the message names both.
    """
    pixels = class_pixels(masks, len(classes))
    for fold in range(int(dealt.max()) + 1):
        lacks = (pixels.sum(axis=0) > 0) & (pixels[dealt == fold].sum(axis=0) == 0)
        for label in classes.scored:
            if lacks[label]:
                raise BadData(
                    f"fold {fold} has no pixel of {classes.names[label]!r}, which"
                    f" {int((pixels[:, label] > 0).sum())} images hold; expected every class in"
                    " every fold; take fewer folds or another seed"
                )


def _deal(masks: Labels, groups: Groups | None, shares: Sequence[float], seed: int) -> Fold:
    names = np.arange(len(masks)) if groups is None else groups
    _, group_of = np.unique(names, return_inverse=True)
    held = class_pixels(masks, UNLABELLED) > 0
    contents = _contents(held, group_of)
    if len(contents) < len(shares):
        what = "images" if groups is None else "groups of images"
        raise BadData(
            f"{len(contents)} {what} for {len(shares)} parts; expected at least one each;"
            " take fewer folds or more data"
        )
    return np.asarray(_dealt(contents, np.array(shares), np.random.default_rng(seed))[group_of])


def _contents(held: Held, group_of: Fold) -> Contents:
    """Return each group's share of all images, and of the images that hold each class."""
    measures = np.concatenate([np.ones((len(held), 1)), held[:, held.any(axis=0)]], axis=1)
    sums = np.zeros((int(group_of.max()) + 1, measures.shape[1]))
    np.add.at(sums, group_of, measures)
    return np.asarray(sums / sums.sum(axis=0))


def _dealt(
    contents: Contents,
    shares: Capacities,
    rng: np.random.Generator,
) -> Part:
    """Deal groups to parts so that the sum of (contents of a part)^2 / share stays small."""
    order = rng.permutation(len(contents))
    order = order[np.argsort(-contents[order].max(axis=1), kind="stable")]
    loads = np.zeros((len(shares), contents.shape[1]))
    part_of = np.zeros(len(contents), np.int64)
    for group in order:
        own = contents[group]
        part_of[group] = ((2 * loads @ own + own @ own) / shares).argmin()
        loads[part_of[group]] += own
    for part in np.flatnonzero(np.bincount(part_of, minlength=len(shares)) == 0):
        _fill(part_of, int(part), contents[:, 0], shares[part])
    return part_of


def _fill(part_of: Part, part: int, sizes: Sizes, share: float) -> None:
    """Give an empty part the group nearest to its size, from a part that keeps another."""
    spare = np.bincount(part_of)[part_of] > 1
    distance = np.where(spare, np.abs(sizes - share), np.inf)
    part_of[distance.argmin()] = part
