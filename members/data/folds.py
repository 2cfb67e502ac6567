"""Divide images into folds and holdouts: groups stay whole, and rare classes are spread evenly."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadData, format_count
from evaluation.core.ragged import Stack, extent_of
from evaluation.core.types import Groups, Kept
from members.data.dataset import class_pixels

FoldIndices = Integer[np.ndarray, "image"]
PartIndices = Integer[np.ndarray, "group"]
GroupShares = Float[np.ndarray, "group measure"]
PartSizes = Float[np.ndarray, "part"]


def split_folds(
    masks: Stack, groups: Groups | None, folds: int, *, classes: Classes, seed: int
) -> FoldIndices:
    """Return the fold of each image, so that folds are alike in size and content.

    Groups stay whole. The groups richest in something rare are assigned first, each to the fold
    that holds least of what the group is rich in, counting images and images that hold each class.

    Args:
        masks: class index per pixel, (image, row, col).
        groups: a name per image; None where each image is a group of its own.
        folds: how many, 2 or more.
        classes: what the labels mean.
        seed: decides between equal groups.

    Raises:
        BadData: fewer than two folds, fewer groups than folds, or a fold without a pixel of a
            class that other folds have.

    Examples:
        >>> from evaluation.core.classes import numbered
        >>> masks, groups = np.ones((6, 2, 2), np.uint8), np.array(list("aabbcc"))
        >>> fold_of = split_folds(masks, groups, 3, classes=numbered(2, ignore=0), seed=0)
        >>> bool((fold_of[::2] == fold_of[1::2]).all()), np.bincount(fold_of).tolist()
        (True, [2, 2, 2])
    """
    if folds < 2:
        raise BadData(f"{folds} folds asked for; expected 2 or more")
    fold_of = _assign_groups(masks, groups, [1 / folds] * folds, seed)
    check_folds(masks, fold_of, classes=classes)
    return fold_of


def hold_out(masks: Stack, groups: Groups | None, share: float, seed: int) -> Kept:
    """Return which images to set aside, with content like the rest and no group divided.

    A class that only one group has stays in the rest where possible: training needs it.

    Args:
        masks: class index per pixel, (image, row, col).
        groups: a name per image; None where each image is a group of its own.
        share: of the images, between 0 and 1.
        seed: decides between equal groups.

    Returns:
        True for the images set aside: at least one group, and never all.

    Raises:
        BadData: a share out of range, or one group only.

    Examples:
        >>> int(hold_out(np.ones((10, 2, 2), np.uint8), None, 0.2, seed=0).sum())
        2
    """
    if not 0 < share < 1:
        raise BadData(f"share {share} to set aside; expected more than 0 and less than 1")
    return np.asarray(_assign_groups(masks, groups, [1 - share, share], seed) == 1)


def check_folds(masks: Stack, fold_of: FoldIndices, *, classes: Classes) -> None:
    """Check that each fold has pixels of each scored class that occurs at all.

    Raises:
        BadData: a fold without a class; the message names both.
    """
    pixels = class_pixels(masks, len(classes))
    for fold in range(int(fold_of.max()) + 1):
        missing = (pixels.sum(axis=0) > 0) & (pixels[fold_of == fold].sum(axis=0) == 0)
        for label in classes.scored:
            if missing[label]:
                raise BadData(
                    f"fold {fold} has no pixel of {classes.names[label]!r}, which"
                    f" {int((pixels[:, label] > 0).sum())} images hold; expected every class in"
                    " every fold; take fewer folds or another seed"
                )


def _assign_groups(
    masks: Stack, groups: Groups | None, shares: Sequence[float], seed: int
) -> FoldIndices:
    names = np.arange(len(masks)) if groups is None else groups
    _, group_of = np.unique(names, return_inverse=True)
    content = _group_shares(_classes_held(masks), group_of)
    if len(content) < len(shares):
        nouns = ("image",) if groups is None else ("group of images", "groups of images")
        found, wanted = format_count(len(content), *nouns), format_count(len(shares), "part")
        raise BadData(
            f"{found} for {wanted}; expected at least one each; take fewer folds or more data"
        )
    parts = _balance(content, np.array(shares), np.random.default_rng(seed))
    return np.asarray(parts[group_of])


def _classes_held(masks: Stack) -> Bool[np.ndarray, "image class"]:
    """Tell which classes each image has a pixel of; counts of all images would take 2 KB each."""
    held = np.zeros((len(masks), UNLABELLED), np.bool_)
    for block in blocks(extent_of(masks)):
        held[block] = class_pixels(masks[block], UNLABELLED) > 0
    return held


def _group_shares(held: Bool[np.ndarray, "image class"], group_of: FoldIndices) -> GroupShares:
    """Return each group's share of all images, and of the images that hold each class."""
    measures = np.concatenate([np.ones((len(held), 1)), held[:, held.any(axis=0)]], axis=1)
    sums = np.zeros((int(group_of.max()) + 1, measures.shape[1]))
    np.add.at(sums, group_of, measures)
    return np.asarray(sums / sums.sum(axis=0))


def _balance(content: GroupShares, shares: PartSizes, rng: np.random.Generator) -> PartIndices:
    """Assign groups to parts so that the sum of (content of a part)^2 / share stays small."""
    order = rng.permutation(len(content))
    order = order[np.argsort(-content[order].max(axis=1), kind="stable")]
    loads = np.zeros((len(shares), content.shape[1]))
    part_of = np.zeros(len(content), np.int64)
    for group in order:
        load = content[group]
        part_of[group] = ((2 * loads @ load + load @ load) / shares).argmin()
        loads[part_of[group]] += load
    for part in np.flatnonzero(np.bincount(part_of, minlength=len(shares)) == 0):
        # An empty part gets the group nearest to its size, from a part that keeps another.
        spare = np.bincount(part_of)[part_of] > 1
        distance = np.where(spare, np.abs(content[:, 0] - shares[part]), np.inf)
        part_of[distance.argmin()] = int(part)
    return part_of
