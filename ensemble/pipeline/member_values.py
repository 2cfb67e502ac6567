"""What each member is worth to the mean of all, what it costs, and who can go."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ensemble.diversity.elimination import eliminate, without_one
from ensemble.diversity.growth import Size, growth
from ensemble.diversity.judge import Judge
from ensemble.diversity.pairs import Measure, count_both_right, measure_pairs
from ensemble.diversity.shapley import Formula, formula_for, shapley
from ensemble.diversity.subsets import SubsetCounts, group_places
from ensemble.pipeline.ensemble_maps import EnsembleMaps, open_members
from ensemble.pipeline.folds import OOF
from ensemble.pipeline.member_advice import advise, change_document
from ensemble.pipeline.member_costs import member_cost
from ensemble.pipeline.sources import Sources, run_experiment
from evaluation.ground.errors import BadRun
from evaluation.ground.layout import Run
from evaluation.iou import Score
from evaluation.protocols import PROTOCOLS
from evaluation.scores import iou_by_name, number
from evaluation.table import interval_document
from members.data.dataset import DataSet

VALIDATION = "validation"
STRATEGY, PROTOCOL = "mean", "masked"

Document = dict[str, Any]


def value_members(
    run: Run, *, split: str, circles: int, tolerance: float, tell: Callable[[str], None]
) -> Document:
    """Tell what each member of a run is worth to the mean of all, and advise whom to drop.

    Advice from `oof` is examined on `validation` too, where all members have maps of it.

    Args:
        run: the experiment folder.
        split: where the members are valued; it must have truth.
        circles: how many circles of the members Shapley values are drawn from, where members are
            too many for all orders; see `ensemble.diversity.shapley.sampled`.
        tolerance: the largest loss of mean IoU that dropping members may cost.
        tell: gets a line for whatever was left out.

    Returns:
        A JSON document: the `miou` of all, `members` by falling Shapley value, `growth` by number
        of members, `pairs`, `advice`.

    Raises:
        BadRun: no such split, one without truth or scored pixels, or fewer than two members.
        BadMaps: maps of other pictures.
        Leak: maps of pictures that the member was trained on.
    """
    sources, rng = Sources.of(run), np.random.default_rng(run_experiment(run).seed)
    maps = open_members(sources, split, tell)
    everyone = tuple(range(len(maps.names)))
    shares = formula_for(len(everyone), circles=circles, rng=rng)
    subsets = [*shares.subsets, *((m,) for m in everyone), *without_one(everyone), everyone]
    judge = judge_of(sources, maps, len(subsets))
    judge.counts.of(subsets)  # in one pass, which leaves all that follows to memory
    whole = _by_class(judge.score([everyone]), 0, maps)
    if whole["miou"] is None:
        raise BadRun(f"split {split!r} of {run.path} has no scored pixel; take another --split")
    rows = _rows(sources, maps, judge, shares)
    found = eliminate(judge, len(everyone), tolerance=tolerance)
    advice = advise(found, maps.names, [row["milliseconds"] for row in rows])
    if split == OOF and advice["drop"]:
        advice["examined"] = _examined(sources, maps.names, advice["keep"])
    return {
        "split": split,
        "strategy": STRATEGY,
        "protocol": PROTOCOL,
        "pictures": len(maps.data),
        "groups": judge.counts.groups,
        **whole,
        "members": sorted(rows, key=lambda row: -row["shapley"]["value"]),
        "growth": [_size_document(size) for size in growth(judge, shares.subsets)],
        "circles": None if shares.exact else len(shares.weights),
        "pairs": _pairs(maps),
        "tolerance": tolerance,
        "advice": advice,
    }


def judge_of(sources: Sources, maps: EnsembleMaps, subsets: int) -> Judge:
    """Return who scores means of a run's members.

    Args:
        sources: of the run.
        maps: of all members.
        subsets: how many means will be asked for.

    Raises:
        BadRun: the split has no truth.
    """
    data, seed = maps.data, run_experiment(sources.run).seed
    if data.masks is None:
        raise BadRun(f"split {maps.split!r} has no truth to score by; take another --split")
    rng = np.random.default_rng(seed)
    places = group_places(data.group_names(), subsets=subsets, classes=len(data.classes), rng=rng)
    counts = SubsetCounts(maps.readers, data.truth(), places)
    return Judge(counts, PROTOCOLS.build(PROTOCOL), data.classes.ignore, seed)


def _rows(sources: Sources, maps: EnsembleMaps, judge: Judge, shares: Formula) -> list[Document]:
    everyone = tuple(range(len(maps.names)))
    alone = judge.score((member,) for member in everyone)
    values = shapley(judge, shares)
    rows = []
    for member, others in zip(everyone, without_one(everyone), strict=True):
        gain = judge.change(everyone, others)
        cost = member_cost(sources, maps.names[member], maps.data)
        rows.append(
            {
                "name": maps.names[member],
                **_by_class(alone, member, maps),
                "leave_one_out": change_document(gain),
                "shapley": {
                    "value": float(values.value[member]),
                    "interval": interval_document(values.intervals[member]),
                    "sampling_error": float(values.errors[member]),
                },
                "milliseconds": cost.milliseconds,
                "parameters": cost.parameters,
                "bytes": cost.bytes,
            }
        )
    return rows


def _by_class(scores: Score, place: int, maps: EnsembleMaps) -> Document:
    one = Score(scores.iou[place], np.asarray(scores.miou[place]))
    return {"miou": number(float(one.miou)), "iou": iou_by_name(one, maps.data.classes)}


def _size_document(size: Size) -> Document:
    gain = None if size.gain is None else change_document(size.gain)
    return {"members": size.members, "miou": number(size.miou), "gain": gain}


def _pairs(maps: EnsembleMaps) -> Document:
    data = maps.data
    both, pixels = count_both_right(maps.readers, data.truth(), ignore=data.classes.ignore)
    found = measure_pairs(both, pixels)

    def listed(measure: Measure) -> list[list[float | None]]:
        return [[number(value) for value in line] for line in measure.tolist()]

    return {
        "members": list(maps.names),
        "disagreement": listed(found.disagreement),
        "double_fault": listed(found.double_fault),
        "correlation": listed(found.correlation),
    }


def _examined(sources: Sources, names: tuple[str, ...], kept: list[str]) -> Document | None:
    """Return what dropping changes on pictures that it was not chosen on."""
    run = sources.run
    there = VALIDATION in run.splits() and all(VALIDATION in sources.splits(n) for n in names)
    if not there or DataSet.load(run.data(VALIDATION)).masks is None:
        return None
    maps = open_members(sources, VALIDATION, lambda _: None)
    new, old = (
        tuple(place for place, name in enumerate(maps.names) if name in among)
        for among in (kept, names)
    )
    change = judge_of(sources, maps, 2).change(new, old)
    return {"split": VALIDATION, **change_document(change)}
