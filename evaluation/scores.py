"""Scores as a JSON document, and on disk with the counts they come from.

Candidates scored on the same images, with and without each group of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.files import (
    atomic_file,
    open_array,
    read_json,
    write_json,
)
from evaluation.core.provenance import verify_outputs
from evaluation.core.types import Array, Counts, Groups
from evaluation.intervals import (
    GroupSums,
    Interval,
    LeftOut,
    additive_sums,
    as_interval,
    leave_one_out,
    student_ends,
)
from evaluation.iou import Protocol, Score, any_pixel, iou_per_class
from evaluation.protocols import PROTOCOLS, score_images

NOTHING_SCORED = (
    "no pixel can be scored: all of the target is the ignored class or missing; scores are null"
)


@dataclass(frozen=True)
class ScoredImages:
    """Counts of a candidate on the images of a split.

    Args:
        counts: one table an image.
        ids: the images' names.
        groups: which group each image belongs to.

    Raises:
        BadData: not as many ids or groups as images.
    """

    counts: Counts
    ids: tuple[str, ...]
    groups: Array

    def __post_init__(self) -> None:
        """Look whether the three are of the same images."""
        images = len(self.counts)
        for name, number in (("ids", len(self.ids)), ("groups", len(self.groups))):
            if number != images:
                raise BadData(f"{number} {name} for {images} scored images; expected one each")


def score(counts: Counts, protocols: Iterable[str], classes: Classes) -> dict[str, Any]:
    """Score a set of images and give the numbers as a JSON document.

    Args:
        counts: one table an image.
        protocols: names, or specs, of protocols.
        classes: names, and the ignored class.

    Returns:
        `{"images": N, "protocols": {NAME: {"miou": x, "iou": {CLASS: x}, "absent": POLICY}},
        "absent": [CLASS], "confusion": rows}`: the classes in neither target nor prediction, and what
        they counted under each protocol; None is no number. The ignored class is named only
        where a protocol gives it an IoU, so that the mean of what is there is the mean of a
        protocol that averages classes last. Where no pixel can be scored, `warning` says so.

    Raises:
        BadSpec: an unknown protocol.
    """
    table = counts.sum(axis=0)
    scores = {
        name: score_images(PROTOCOLS.build(name), counts, classes.ignore) for name in protocols
    }
    lacking = np.isnan(iou_per_class(table, classes.ignore))
    document = {
        "images": len(counts),
        "protocols": {
            name: {
                "miou": number(float(found.miou)),
                "iou": iou_by_name(found, classes),
                "absent": found.absent,
            }
            for name, found in scores.items()
        },
        "absent": [classes.names[label] for label in classes.scored if lacking[label]],
        "confusion": table.tolist(),
    }
    if not any_pixel(table, classes.ignore):
        document["warning"] = NOTHING_SCORED
    return document


def iou_by_name(found: Score, classes: Classes) -> dict[str, float | None]:
    """Give the IoU of one set by class name; None for absent, the ignored class only if scored."""
    named = zip(classes.names, found.iou, strict=True)
    values = {name: number(float(value)) for name, value in named}
    if classes.ignore is not None and values[classes.names[classes.ignore]] is None:
        del values[classes.names[classes.ignore]]
    return values


def number(value: float) -> float | None:
    """Give None for NaN, which JSON lacks."""
    return None if math.isnan(value) else value


def write_scores(
    folder: Path,
    split: str,
    counts: Counts,
    document: Mapping[str, Any],
    ids: Sequence[str],
    groups: Groups,
) -> None:
    """Write `SPLIT.npz` (counts, ids, groups), then `SPLIT.json`, each whole or not at all.

    Args:
        folder: of the candidate, `scores/CANDIDATE`.
        split: the split's name.
        counts: one table an image.
        document: what `score` gave.
        ids: the images' names.
        groups: which group each image belongs to.

    Raises:
        BadData: not as many ids or groups as images.
    """
    scored = ScoredImages(counts, tuple(str(name) for name in ids), groups)
    # Arrays of objects would be pickled; text is what they become instead.
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
        BadRun: not what was written, by the record beside them.
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
    """What is known of candidates on one split.

    Args:
        sums: what each group adds to each candidate's score.
        scorer: what scores sums of it.
        ignore: the ignored class, or None.
        whole: the candidates' scores.
        left_out: each candidate's scores without each group.
    """

    sums: GroupSums
    scorer: Protocol
    ignore: int | None
    whole: tuple[Score, ...]
    left_out: tuple[Score, ...]

    @classmethod
    def of(
        cls, examined: Sequence[ScoredImages], protocol: Protocol, ignore: int | None
    ) -> "CandidateScores":
        """Score candidates on the same images."""
        counts = [one.counts for one in examined]
        sums, scorer = additive_sums(counts, examined[0].groups, protocol, ignore)
        whole = tuple(scorer(one.sum(axis=0), ignore) for one in sums)
        left_out = tuple(leave_one_out(one, scorer, ignore) for one in sums)
        return cls(sums, scorer, ignore, whole, left_out)

    @property
    def groups(self) -> int:
        """How many groups of images there are."""
        return int(self.sums.shape[1])

    @property
    def mious(self) -> Float[np.ndarray, " candidate"]:
        """The candidates' scores under the protocol."""
        return np.array([float(found.miou) for found in self.whole])

    def interval(self, place: int, level: float) -> Interval | None:
        """Return the interval of a candidate's score; None for one group, or nothing scored."""
        whole, left_out = self.whole[place], self.left_out[place]
        return _share(float(whole.miou), left_out.miou, level)

    def class_intervals(
        self, place: int, classes: Classes, level: float
    ) -> dict[str, Interval | None]:
        """Return the interval of each class's IoU, by name; None where the class is absent."""
        whole, left_out = self.whole[place].iou, self.left_out[place].iou
        named = zip(classes.names, whole, left_out.T, strict=True)
        return {name: _share(float(iou), left, level) for name, iou, left in named}

    def difference(self, place: int, other: int, level: float) -> Interval | None:
        """Return the paired interval of one candidate's score minus another's."""
        value = float(self.mious[place] - self.mious[other])
        left_out = self.left_out[place].miou - self.left_out[other].miou
        return as_interval(student_ends(value, left_out, level=level, is_share=False), level)


def _share(value: float, left_out: LeftOut, level: float) -> Interval | None:
    return as_interval(student_ends(value, left_out, level=level, is_share=True), level)
