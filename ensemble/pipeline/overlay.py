"""Pictures with label maps laid over them, side by side: the truth, and each candidate's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ensemble.pipeline.postprocessing import read_labels
from ensemble.pipeline.prepare import run_classes
from evaluation.ground.arrays import Labels
from evaluation.ground.errors import BadData, BadLabels, BadRun
from evaluation.ground.layout import Run
from evaluation.ground.spaced import spaced
from members.data.dataset import DataSet
from members.data.sheet import write_sheet


def overlay(
    run: Run,
    candidates: Sequence[str],
    split: str,
    out: Path,
    *,
    ids: Sequence[str] = (),
    count: int = 12,
    opacity: float = 0.5,
) -> list[str]:
    """Write a PNG with one row a picture.

    Args:
        run: the experiment folder.
        candidates: whose labels; a column each, after the truth where it is known.
        split: of the pictures.
        out: where to.
        ids: which pictures.
        count: without ids so many, evenly spaced.
        opacity: of the labels, 0 to 1.

    Returns:
        The ids of the pictures.

    Raises:
        BadRun: no such split or candidate.
        BadData: no such picture.
        BadLabels: labels that are no class.
    """
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    data, classes = DataSet.load(run.data(split)), run_classes(run)
    places = _places(data, ids, count)
    columns: dict[str, Labels] = {}
    if data.masks is not None:
        columns["truth"] = np.asarray(data.masks[places])
    for name in candidates:
        labels = np.asarray(read_labels(run, name, split)[places])
        if labels.max(initial=0) >= len(classes):
            raise BadLabels(
                f"{name} holds labels up to {labels.max()}; expected 0 to {len(classes) - 1};"
                " remove them and postprocess again"
            )
        columns[name] = labels
    chosen = [data.ids[place] for place in places]
    pictures = np.asarray(data.pictures[places])
    write_sheet(out, pictures, columns, classes=classes, captions=chosen, opacity=opacity)
    return chosen


def _places(data: DataSet, ids: Sequence[str], count: int) -> list[int]:
    if not ids:
        return spaced(len(data), count)
    known = {name: place for place, name in enumerate(data.ids)}
    for name in ids:
        if name not in known:
            raise BadData(f"no picture {name!r}; expected ids such as {data.ids[0]}")
    return [known[name] for name in ids]
