"""One walk from maps to scores in a process of its own, which says how long it took."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.fuse.synthetic import CLASSES
from benchmarks.scale.synthetic_maps import drawn_readers, drawn_target, open_stores
from ensemble.block_fusion import fuse
from ensemble.strategies import STRATEGIES
from evaluation.confusion import confusion
from evaluation.core.blocks import BLOCK_IMAGES
from evaluation.core.types import Counts, Map
from evaluation.protocols import PROTOCOLS
from members.maps import MapReader
from postproc.chain import parse_chain

CHAIN, IGNORE = "suppress_background", 0
RESULT = "walk.json"


def main() -> None:
    """Walk as the arguments say: members, images, and a folder of stores or nothing."""
    members, images, *stores = sys.argv[1:]
    readers: Sequence[MapReader] = (
        open_stores(Path(stores[0]), int(members))
        if stores
        else drawn_readers(int(members), int(images))
    )
    walked(drawn_readers(1, BLOCK_IMAGES), BLOCK_IMAGES)  # loads code, which all walks need once
    wall, cpu = time.perf_counter(), time.process_time()
    miou = walked(readers, int(images))
    found = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "miou": miou}
    Path(RESULT).write_text(json.dumps(found), encoding="utf-8")


def walked(readers: Sequence[MapReader], images: int) -> float:
    """Fuse by `mean`, suppress the background, count and score; nothing is written.

    Args:
        readers: the members' maps.
        images: how many.

    Returns:
        The masked mean IoU.
    """
    chain = parse_chain(CHAIN, classes=CLASSES, ignore=IGNORE, floor=readers[0].floor)
    target = drawn_target()
    counts: Counts = np.zeros((images, CLASSES, CLASSES), np.int32)

    def score(block: slice, fused: Map) -> None:
        labels = chain(fused, None)
        counts[block] = confusion(target[: len(labels)], labels, classes=CLASSES)

    fuse(readers, STRATEGIES.build("mean"), images, score)
    return float(PROTOCOLS.build("masked")(counts.sum(axis=0), IGNORE).miou)
