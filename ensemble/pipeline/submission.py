"""Label maps as the competition's CSV: `id`, then one column a pixel, row by row."""

import csv
from pathlib import Path

import numpy as np

from ensemble.pipeline.postprocessing import read_labels
from ensemble.pipeline.prepare import run_classes
from evaluation.ground.arrays import Labels
from evaluation.ground.blocks import blocks
from evaluation.ground.errors import BadRun
from evaluation.ground.files import whole_file
from evaluation.ground.layout import Run
from members.data.dataset import DataSet


def submit(run: Run, candidate: str, split: str, out: Path) -> tuple[int, float]:
    """Write a candidate's label maps of a split, and read them back before it counts as done.

    Args:
        run: the experiment folder.
        candidate: whose label maps.
        split: of the pictures.
        out: the CSV.

    Returns:
        How many pictures were written, and the share of pixels that got the ignored class.

    Raises:
        BadRun: no such label maps.
    """
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    labels = read_labels(run, candidate, split)
    data = DataSet.load(run.data(split))
    if len(labels) != len(data):
        raise BadRun(f"{candidate} labels {len(labels)} of {len(data)} pictures; postprocess again")
    ignore = run_classes(run).ignore
    ignored = 0
    with whole_file(out) as partial:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", *(str(k) for k in range(labels[0].size))])
            for block in blocks(len(labels)):
                rows = np.asarray(labels[block]).reshape(block.stop - block.start, -1)
                ignored += 0 if ignore is None else int((rows == ignore).sum())
                ids = data.ids[block]
                writer.writerows([name, *row] for name, row in zip(ids, rows.tolist(), strict=True))
        _read_back(partial, data, labels)
    return len(labels), ignored / labels.size


def _read_back(path: Path, data: DataSet, labels: Labels) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        next(reader)
        for place, (name, *values) in enumerate(reader):
            written = np.array(values, dtype=np.uint8).reshape(labels.shape[1:])
            if name != data.ids[place] or not np.array_equal(written, labels[place]):
                raise OSError(f"{path} does not read back as it was written, from {name!r} on")
        if place + 1 != len(labels):
            raise OSError(f"{path} holds {place + 1} rows of {len(labels)}")
