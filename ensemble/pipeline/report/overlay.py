"""A contact sheet of images with label maps over them: the target, and each candidate's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ensemble.pipeline.candidates.postprocess import read_labels
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.report.candidate_trace import CandidateTrace
from ensemble.pipeline.report.gallery import DISPUTED, stage_shares, top_indices, wrong_shares
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.confusion import scored_pixels
from evaluation.core.arrays import evenly_spaced
from evaluation.core.classes import Classes
from evaluation.core.errors import BadLabels, BadRun
from evaluation.core.ragged import Stack
from evaluation.core.run_folder import Run
from evaluation.core.types import Array
from members.data.cleaning.id_lists import indices_of
from members.data.contact_sheet import write_sheet
from members.data.dataset import DataSet

Pick = Literal["spread", "worst", "disputed"]
PICK_LABELS = {"worst": "wrong", "disputed": "disputed"}


def overlay(
    run: Run,
    candidates: Sequence[str],
    split: str,
    out: Path,
    *,
    errors_of: Sequence[str] = (),
    ids: Sequence[str] = (),
    pick: Pick = "spread",
    count: int = 12,
    opacity: float = 0.5,
) -> list[str]:
    """Write a PNG with one row per image.

    Args:
        run: the experiment folder.
        candidates: one column of labels each, after the target if there is one.
        split: split of the images.
        out: the PNG file.
        errors_of: candidates whose wrong pixels are marked, in one more column each.
        ids: images to draw; the other choices apply only without them.
        pick: how to choose images; `worst` and `disputed` refer to the first candidate.
        count: maximum number of chosen images.
        opacity: of the labels, 0 to 1.

    Returns:
        The ids of the images.

    Raises:
        BadRun: no such split or candidate, nothing to choose by, or errors without targets.
        BadData: no such image.
        BadLabels: labels outside the classes.
    """
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    data, classes = DataSet.load(run.data(split)), run_classes(run)
    if errors_of and data.masks is None:
        raise BadRun(f"split {split!r} has no labels to find errors by; leave --errors out")
    label_maps = {name: read_labels(run, name, split) for name in candidates}
    wrong_maps = {name: read_labels(run, name, split) for name in errors_of}
    if ids:
        notes = dict.fromkeys(indices_of(ids, data.ids, split), "")
    else:
        first = candidates[0]
        notes = select_images(
            run, first, split, labels=label_maps[first], data=data, pick=pick, count=count
        )
    indices = list(notes)
    columns = {
        name: _labels_of(name, labels, indices, classes) for name, labels in label_maps.items()
    }
    if data.masks is not None:
        columns = {"target": [data.masks[index] for index in indices]} | columns
    write_sheet(
        out,
        [data.images[index] for index in indices],
        columns,
        classes=classes,
        captions=[f"{data.ids[index]}  {note}".rstrip() for index, note in notes.items()],
        opacity=opacity,
        marked={
            f"errors of {name}": _wrong_pixels(labels, data, indices)
            for name, labels in wrong_maps.items()
        },
    )
    return [data.ids[index] for index in indices]


def _labels_of(name: str, labels: Stack, indices: Sequence[int], classes: Classes) -> list[Array]:
    chosen = [labels[index] for index in indices]
    highest = max(int(one.max(initial=0)) for one in chosen)
    if highest >= len(classes):
        raise BadLabels(
            f"{name} holds labels up to {highest}; expected 0 to {len(classes) - 1};"
            " remove them and postprocess again"
        )
    return chosen


def _wrong_pixels(labels: Stack, data: DataSet, indices: Sequence[int]) -> list[Array]:
    targets = [np.asarray(data.target()[index]) for index in indices]
    return [
        (np.asarray(labels[index]) != target) & scored_pixels(target, data.classes.ignore)
        for index, target in zip(indices, targets, strict=True)
    ]


def select_images(
    run: Run, candidate: str, split: str, *, labels: Stack, data: DataSet, pick: Pick, count: int
) -> dict[int, str]:
    """Choose up to `count` images, in the order in which to draw them.

    Args:
        run: the experiment folder.
        candidate: the candidate whose errors, or whose members' disagreement, decide.
        split: split of the images.
        labels: of the candidate, (image, row, col).
        data: the images.
        pick: `spread`, evenly spaced; `worst`, by the share of wrong pixels; `disputed`, by how
            much members disagree; the largest first.
        count: maximum number of images.

    Returns:
        A note by image index; empty notes for `spread`.

    Raises:
        BadRun: nothing to choose by.
    """
    if pick == "spread":
        return dict.fromkeys(evenly_spaced(len(data), count), "")
    if pick == "worst":
        if data.masks is None:
            raise BadRun(
                f"split {split!r} has no labels, so errors cannot be ranked; use --pick spread"
            )
        shares = wrong_shares(labels, data)
    else:
        trace = CandidateTrace.open(RunMembers.of(run), candidate, split, None)
        if len(trace.members) < 2:
            raise BadRun(
                f"{candidate} has only one member, so there is no disagreement; give a candidate"
                " of a fusion"
            )
        shares = stage_shares(trace, [DISPUTED])[DISPUTED]
    indices = top_indices(shares, count)
    if not indices:
        raise BadRun(f"no scored pixel of {split} is {PICK_LABELS[pick]}; use --pick spread")
    return {index: f"{shares[index]:.0%} {PICK_LABELS[pick]}" for index in indices}
