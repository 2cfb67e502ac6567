"""Chains over a split: per-image counts, and what each step fixes and breaks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ensemble.pipeline.bench.chains import Compared
from evaluation.confusion import CHANGES, Changes, confusion, pixel_changes
from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import Classes
from evaluation.core.progress import progress
from evaluation.core.types import Array, Counts, Labels
from members.data.dataset import DataSet
from members.maps import MapReader
from postproc.chain import Chain

BlockCounts = Array
Work = tuple[BlockCounts, list[Changes]]


@dataclass(frozen=True)
class Labelled:
    """What a chain does on a split.

    Args:
        counts: one table an image.
        steps: changes by each step, in the order of the chain.
    """

    counts: Counts
    steps: tuple[Changes, ...]


def label_all(
    compared: Sequence[Compared], maps: MapReader, data: DataSet, split: str
) -> list[Labelled]:
    """Label a split by every chain, step by step; one pass, with flat memory.

    Labels before and after a step are those that the chain would give if it ended there, so a step
    on maps is judged by the argmax of what it gives. Chains that begin alike share their beginning.

    Args:
        compared: the chains.
        maps: of the split.
        data: its images and target.
        split: its name, since on `oof` what has learned is another for each fold.
    """
    target, classes = data.target(), data.classes

    def work(block: slice) -> list[Work]:
        label = _labeller(maps, data, split, block)
        true = np.asarray(target[block])
        found = []
        for one in compared:
            stages = [label(one, place) for place in range(len(one.asked.steps) + 1)]
            steps = [
                pixel_changes(true, before, after, classes=len(classes), ignore=classes.ignore)
                for before, after in pairwise(stages)
            ]
            found.append((confusion(true, stages[-1], classes=len(classes)), steps))
        return found

    everything = map_blocks(work, len(data))
    each = list(progress(everything, "label", len(blocks(len(data)))))
    return [_joined(parts) for parts in zip(*each, strict=True)]


def ledger_document(chain: Chain, done: Labelled, classes: Classes) -> list[dict[str, Any]]:
    """Give the ledger as a JSON document, a row a step: pixels altogether, and by true class."""
    return [
        {
            "step": str(spec),
            **_named(step.sum(axis=0)),
            "classes": {
                name: _named(row)
                for label, (name, row) in enumerate(zip(classes.names, step, strict=True))
                if label != classes.ignore
            },
        }
        for spec, step in zip(chain.specs, done.steps, strict=True)
    ]


def _named(row: Array) -> dict[str, int]:
    return dict(zip(CHANGES, row.tolist(), strict=True))


def _labeller(
    maps: MapReader, data: DataSet, split: str, block: slice
) -> Callable[[Compared, int], Labels]:
    """Return what labels a block by the steps of a chain before a place, each beginning once."""
    values, images = maps.read(block), np.asarray(data.images[block])
    known: dict[str, Labels] = {}

    def label(one: Compared, place: int) -> Labels:
        # What was asked names the beginning: it learns from the same whatever comes after.
        text = str(one.asked.head(place))
        if text not in known:
            head = one.head(place, split)
            apply = head if isinstance(head, Chain) else head.at(block)
            known[text] = apply(values, images)
        return known[text]

    return label


def _joined(parts: Sequence[Work]) -> Labelled:
    counts = np.concatenate([counts for counts, _ in parts])
    steps = zip(*(steps for _, steps in parts), strict=True)
    return Labelled(counts, tuple(np.sum(step, axis=0) for step in steps))
