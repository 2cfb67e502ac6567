"""Which pictures a strategy learns from, and which its calibrator."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ensemble.fuse import FitBlocks
from ensemble.fusion import Block, Blocks
from evaluation.ground.arrays import Array, Groups, Kept
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadData
from members.data.folds import hold_out

PART = 5
"""One picture of so many is kept from a strategy that learns, for its calibrator."""

FEWEST_GROUPS = 2


def held_out(blocks: Blocks, seed: int) -> Kept:
    """Choose a fifth of the pictures with truth; where groups are known, whole groups.

    Args:
        blocks: what there is to learn from.
        seed: decides between groups alike.

    Raises:
        BadData: fewer than five pictures, or a single group.
    """
    if isinstance(blocks, FitBlocks) and blocks.groups is not None:
        return _held_out_groups(blocks.truth, blocks.groups, seed)
    known = np.concatenate([labelled(block) for block in blocks])
    if known.sum() < PART:
        raise BadData(
            f"{known.sum()} pictures with truth to fit on; calibrating a strategy that learns needs"
            f" {PART} or more: add pictures, or leave calibrate= out"
        )
    chosen: Kept = known & (np.cumsum(known) % PART == 0)
    return chosen


@dataclass(frozen=True)
class Part:
    """All blocks with the truth of the kept pictures only."""

    blocks: Blocks
    kept: Kept

    def __iter__(self) -> Iterator[Block]:
        before = 0
        for block in self.blocks:
            kept = self.kept[before : before + len(block.truth)]
            truth = np.where(kept[:, None, None], block.truth, UNLABELLED)
            yield block._replace(truth=truth)
            before += len(kept)


def labelled(block: Block) -> Kept:
    """Tell which pictures of a block have truth."""
    known: Kept = (block.truth != UNLABELLED).any(axis=(1, 2))
    return known


def _held_out_groups(truth: Array, groups: Groups, seed: int) -> Kept:
    known = (truth != UNLABELLED).any(axis=(1, 2))
    count = len(np.unique(groups[known]))
    if count < FEWEST_GROUPS:
        raise BadData(
            f"{count} group of pictures with truth to fit on; calibrating a strategy that learns"
            f" needs {FEWEST_GROUPS} or more: add pictures, or leave calibrate= out"
        )
    chosen = np.zeros(len(known), bool)
    chosen[known] = hold_out(truth[known], groups[known], 1 / PART, seed)
    return chosen
