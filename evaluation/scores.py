"""Scores as a JSON document, on disk with the counts they come from, and without each group."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.files import atomic_file, open_array, read_json, write_json
from evaluation.core.provenance import verify_outputs
from evaluation.core.specs import parse_spec
from evaluation.core.types import Array, Counts, Groups
from evaluation.intervals import (
    Interval,
    LeftOut,
    additive_sums,
    as_interval,
    leave_one_out,
    student_ends,
)
from evaluation.iou import Protocol, Score, any_pixel, iou_per_class
from evaluation.protocols import PROTOCOLS, build_protocol, score_images

NOTHING_SCORED = (
    "no pixel can be scored: every target pixel is unlabelled or of the ignored class; scores are"
    " null"
)


@dataclass(frozen=True)
class ScoredImages:
    """Counts of a candidate on the images of a split.

    Raises:
        BadData: another number of ids or groups than of images.
    """

    counts: Counts
    ids: tuple[str, ...]
    groups: Array

    def __post_init__(self) -> None:
        """Check the lengths."""
        images = len(self.counts)
        for name, length in (("ids", len(self.ids)), ("groups", len(self.groups))):
            if length != images:
                raise BadData(f"{length} {name} for {images} scored images; expected one each")


def by_group(scored: ScoredImages) -> ScoredImages:
    """Return the counts of each group as of one image: of a case of many slices, say.

    Examples:
        >>> counts = np.array([[[1, 0], [0, 1]], [[2, 0], [0, 0]], [[0, 3], [0, 0]]])
        >>> groups = np.array(["b", "a", "b"])
        >>> by_group(ScoredImages(counts, ("x", "y", "z"), groups)).counts[:, 0].tolist()
        [[2, 0], [1, 3]]
    """
    names, number = np.unique(scored.groups, return_inverse=True)
    counts = np.zeros((len(names), *scored.counts.shape[1:]), scored.counts.dtype)
    np.add.at(counts, number, scored.counts)
    return ScoredImages(counts, tuple(map(str, names)), names)


def score(counts: Counts, protocols: Iterable[str], classes: Classes) -> dict[str, Any]:
    """Score a set of images; return JSON values.

    Returns:
        `{"images": N, "protocols": {NAME: {"miou": x, "iou": {CLASS: x}, "absent": POLICY}},
        "absent": [CLASS], "confusion": rows}`: the classes in neither target nor prediction, and
        their value under each protocol; missing numbers are None. The ignored class is listed only
        under protocols that give it an IoU, so that a protocol that averages classes last is the
        mean of what is listed. If no pixel can be scored, or a protocol has no number, `warning`
        says so.

    Raises:
        BadSpec: an unknown protocol or class.

    Examples:
        >>> report = score(np.array([[[4, 4], [1, 3]]]), ["masked"], Classes(("sand", "rock")))
        >>> report["protocols"]["masked"]["iou"]["rock"]
        0.375
    """
    table = counts.sum(axis=0)
    scores = {
        name: score_images(build_protocol(name, classes), counts, classes.ignore)
        for name in protocols
    }
    absent = np.isnan(iou_per_class(table, classes.ignore))
    report = {
        "images": len(counts),
        "protocols": {
            name: {
                "miou": nan_to_none(float(result.miou)),
                "iou": iou_by_name(result, classes),
                "absent": result.absent,
            }
            for name, result in scores.items()
        },
        "absent": [classes.names[label] for label in classes.scored if absent[label]],
        "confusion": table.tolist(),
    }
    if not any_pixel(table, classes.ignore):
        report["warning"] = NOTHING_SCORED
    for name, result in scores.items():
        if parse_spec(name).name not in PROTOCOLS and np.isnan(result.miou):
            report["warning"] = (
                f"{name} is undefined: what it measures is in neither target nor prediction"
            )
    return report


def iou_by_name(result: Score, classes: Classes) -> dict[str, float | None]:
    """Return the IoU of one set by class name; None if absent, the ignored class only if scored."""
    named = zip(classes.names, result.iou, strict=True)
    values = {name: nan_to_none(float(value)) for name, value in named}
    if classes.ignore is not None and values[classes.names[classes.ignore]] is None:
        del values[classes.names[classes.ignore]]
    return values


def nan_to_none(value: float) -> float | None:
    """Return None for NaN, which JSON lacks."""
    return None if math.isnan(value) else value


def write_class_table(path: Path, document: Mapping[str, Any]) -> None:
    """Write the scores of all classes as CSV: a row per class, a column per protocol.

    Args:
        path: of the file.
        document: what `score` returned.
    """
    protocols = document["protocols"]
    names = dict.fromkeys(name for result in protocols.values() for name in result["iou"])
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *protocols])
        writer.writerow(["mean", *(result["miou"] for result in protocols.values())])
        for name in names:
            writer.writerow([name, *(result["iou"].get(name) for result in protocols.values())])


def write_scores(
    folder: Path,
    split: str,
    counts: Counts,
    document: Mapping[str, Any],
    ids: Sequence[str],
    groups: Groups,
) -> None:
    """Write `SPLIT.npz` (counts, ids, groups), then `SPLIT.json`, each whole or not at all.

    `document` is what `score` returned; `folder` is the candidate's, `scores/CANDIDATE`.

    Raises:
        BadData: another number of ids or groups than of images.
    """
    scored = ScoredImages(counts, tuple(str(name) for name in ids), groups)
    # Arrays of objects would be pickled; they become text instead.
    named = groups.astype(str) if groups.dtype.kind == "O" else groups
    with atomic_file(folder / f"{split}.npz") as partial:
        np.savez_compressed(
            partial, counts=counts, ids=np.array(scored.ids, dtype=str), groups=named
        )
    write_json(folder / f"{split}.json", document)


def read_scores(folder: Path, split: str) -> tuple[dict[str, Any], ScoredImages]:
    """Read what `write_scores` wrote.

    Raises:
        BadData: missing or damaged.
        BadRun: changed since it was written, by the record next to it.
    """
    verify_outputs(folder, split)
    document: dict[str, Any] = read_json(folder / f"{split}.json")
    archive = folder / f"{split}.npz"
    counts, ids, groups = (np.array(open_array(archive, k)) for k in ("counts", "ids", "groups"))
    square = counts.ndim == 3 and counts.shape[1] == counts.shape[2] and counts.dtype.kind in "iu"
    if not square or counts.min(initial=0) < 0:
        raise BadData(
            f"{archive} (counts) is {counts.dtype} of shape {counts.shape}; expected counts"
            " (image, target, prediction) of 0 and more; score again"
        )
    return document, ScoredImages(counts, tuple(ids.tolist()), groups)


@dataclass(frozen=True)
class CandidateScores:
    """Scores of candidates on one split, with and without each group of images.

    Args:
        groups: number of groups of images.
        whole: the candidates' scores.
        left_out: each candidate's scores without each group.
    """

    groups: int
    whole: tuple[Score, ...]
    left_out: tuple[Score, ...]

    @classmethod
    def of(
        cls, examined: Sequence[ScoredImages], protocol: Protocol, ignore: int | None
    ) -> "CandidateScores":
        """Score candidates on the same images."""
        counts = [candidate.counts for candidate in examined]
        sums, scorer = additive_sums(counts, examined[0].groups, protocol, ignore)
        whole = tuple(scorer(groups.sum(axis=0), ignore) for groups in sums)
        left_out = tuple(leave_one_out(groups, scorer, ignore) for groups in sums)
        return cls(sums.shape[1], whole, left_out)

    @property
    def mious(self) -> Float[np.ndarray, " candidate"]:
        """The candidates' scores under the protocol."""
        return np.array([float(result.miou) for result in self.whole])

    def interval(self, index: int, level: float) -> Interval | None:
        """Return the interval of a candidate's score; None with one group, or nothing scored."""
        whole, left_out = self.whole[index], self.left_out[index]
        return _share_interval(float(whole.miou), left_out.miou, level)

    def class_intervals(
        self, index: int, classes: Classes, level: float
    ) -> dict[str, Interval | None]:
        """Return the interval of each class's IoU, by name; None if the class is absent."""
        whole, left_out = self.whole[index].iou, self.left_out[index].iou
        named = zip(classes.names, whole, left_out.T, strict=True)
        return {name: _share_interval(float(iou), left, level) for name, iou, left in named}


def _share_interval(value: float, left_out: LeftOut, level: float) -> Interval | None:
    return as_interval(student_ends(value, left_out, level=level, is_share=True), level)
