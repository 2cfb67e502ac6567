"""Pictures with label maps laid over them, side by side: the truth, and each candidate's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ensemble.pipeline.postprocessing import read_labels
from ensemble.pipeline.prepare import run_classes
from ensemble.pipeline.reporting.picked import Pick, picked
from evaluation.ground.arrays import Labels
from evaluation.ground.errors import BadData, BadLabels, BadRun
from evaluation.ground.layout import Run
from members.data.dataset import DataSet
from members.data.sheet import write_sheet


def overlay(
    run: Run,
    candidates: Sequence[str],
    split: str,
    out: Path,
    *,
    ids: Sequence[str] = (),
    pick: Pick = "spread",
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
        pick: which without ids; the first candidate is asked.
        count: without ids so many.
        opacity: of the labels, 0 to 1.

    Returns:
        The ids of the pictures.

    Raises:
        BadRun: no such split or candidate, or nothing to pick by.
        BadData: no such picture.
        BadLabels: labels that are no class.
    """
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    data, classes = DataSet.load(run.data(split)), run_classes(run)
    found = {name: read_labels(run, name, split) for name in candidates}
    if ids:
        why = dict.fromkeys(_places(data, ids), "")
    else:
        first = candidates[0]
        why = picked(run, first, split, labels=found[first], data=data, pick=pick, count=count)
    places = list(why)
    columns: dict[str, Labels] = {}
    if data.masks is not None:
        columns["truth"] = np.asarray(data.masks[places])
    for name, everywhere in found.items():
        labels = np.asarray(everywhere[places])
        if labels.max(initial=0) >= len(classes):
            raise BadLabels(
                f"{name} holds labels up to {labels.max()}; expected 0 to {len(classes) - 1};"
                " remove them and postprocess again"
            )
        columns[name] = labels
    captions = [f"{data.ids[place]}  {note}".rstrip() for place, note in why.items()]
    pictures = np.asarray(data.pictures[places])
    write_sheet(out, pictures, columns, classes=classes, captions=captions, opacity=opacity)
    return [data.ids[place] for place in places]


def _places(data: DataSet, ids: Sequence[str]) -> list[int]:
    known = {name: place for place, name in enumerate(data.ids)}
    for name in ids:
        if name not in known:
            raise BadData(f"no picture {name!r}; expected ids such as {data.ids[0]}")
    return [known[name] for name in ids]
