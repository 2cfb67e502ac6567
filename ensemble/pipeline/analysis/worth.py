"""What each member is worth to the mean of all, what it costs, and who can go.

Which members of a run to drop, as a document and in one line.

The document of `value_members` as text for people, and as a figure.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.diversity.disagreement import Measure, count_both_right, measure_pairs
from ensemble.diversity.member_worth import (
    Elimination,
    Removal,
    ShapleyEstimator,
    SizeScore,
    eliminate,
    formula_for,
    shapley,
    size_curve,
    without_one,
)
from ensemble.diversity.subset_scorer import (
    ScoreDifference,
    SubsetCounts,
    SubsetScorer,
    group_indices,
)
from ensemble.pipeline.analysis.inference_cost import member_cost
from ensemble.pipeline.run.open_run import OOF, RunMembers, run_experiment
from ensemble.pipeline.run.opened_members import OpenedMembers, open_members
from evaluation.core.errors import BadRun
from evaluation.core.files import atomic_file
from evaluation.core.run_folder import Run
from evaluation.formatting import (
    NOTHING,
    decimal,
    document_ends,
    in_columns,
)
from evaluation.iou import Score
from evaluation.leaderboard_text import interval_document
from evaluation.protocols import PROTOCOLS
from evaluation.report.figure_base import standalone
from evaluation.report.figures import Grown, member_growth
from evaluation.scores import iou_by_name, number
from members.data.dataset import DataSet

Document = dict[str, Any]


def advise(
    found: Elimination, names: Sequence[str], milliseconds: Sequence[float | None]
) -> Document:
    """Say who can go.

    Args:
        found: by backward elimination.
        names: of the members.
        milliseconds: an image; None where it is not known.

    Returns:
        `drop`, `keep`, `steps`, the `refused` step, `time_saved` as a share (None where a member's
        time is not known), and `examined`, None as yet.
    """
    everyone = range(len(names))
    kept = found.steps[-1].kept if found.steps else tuple(everyone)
    times = [time for time in milliseconds if time is not None]
    saved = None if len(times) < len(names) else 1 - sum(times[m] for m in kept) / sum(times)
    return {
        "drop": [names[step.dropped] for step in found.steps],
        "keep": [names[member] for member in kept],
        "time_saved": saved,
        "steps": [_step(step, names) for step in found.steps],
        "refused": found.refused and _step(found.refused, names),
        "examined": None,
    }


def advice_line(document: Document) -> str:
    """Write the advice in one line: who can go, what that changes, what it saves."""
    advice, split = document["advice"], document["split"]
    if not advice["drop"]:
        least = advice["refused"]
        tolerated = f"{document['tolerance']:g} within noise is tolerated"
        return f"drop none: {split} {_signed(least, 4)} without {least['dropped']}; {tolerated}"
    of = f"{len(advice['drop'])} of {len(document['members'])}"
    told = f"{split} {_signed(advice['steps'][-1])}"
    if advice["examined"]:
        told += f", {advice['examined']['split']} {_signed(advice['examined'])}"
    saved = advice["time_saved"]
    time = "time not known" if saved is None else f"{saved:.0%} less time"
    return f"drop {', '.join(advice['drop'])} ({of}): {told} and {time}"


def change_document(change: ScoreDifference) -> Document:
    """Give a change as JSON."""
    ends = interval_document(change.interval)
    return {"change": change.value, "interval": ends, "half_width": change.half_width}


def _step(step: Removal, names: Sequence[str]) -> Document:
    return {"dropped": names[step.dropped], **change_document(step.change)}


def _signed(change: Document, decimals: int = 3) -> str:
    width = change["half_width"]
    noise = "" if width is None else f" +- {width:.{decimals}f}"
    return f"{change['change']:+.{decimals}f}{noise}"


VALIDATION = "validation"
STRATEGY, PROTOCOL = "mean", "masked"


def value_members(
    run: Run, *, split: str, circles: int, tolerance: float, log: Callable[[str], None]
) -> Document:
    """Tell what each member of a run is worth to the mean of all, and advise whom to drop.

    Advice from `oof` is examined on `validation` too, where all members have maps of it.

    Args:
        run: the experiment folder.
        split: where the members are valued; it must have target.
        circles: how many circles of the members Shapley values are drawn from, where members are
            too many for all orders; see `ensemble.diversity.member_worth.sampled`.
        tolerance: the largest loss of mean IoU that dropping members may cost.
        log: receives a line for whatever was left out.

    Returns:
        A JSON document: the `miou` of all, `members` by falling Shapley value, `size_curve` by number
        of members, `pairs`, `advice`.

    Raises:
        BadRun: no such split, one without target or scored pixels, or fewer than two members.
        BadMaps: maps of other images.
        Leak: maps of images that the member was trained on.
    """
    sources, rng = RunMembers.of(run), np.random.default_rng(run_experiment(run).seed)
    maps = open_members(sources, split, log)
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
        "images": len(maps.data),
        "groups": judge.counts.groups,
        **whole,
        "members": sorted(rows, key=lambda row: -row["shapley"]["value"]),
        "growth": [_size_document(size) for size in size_curve(judge, shares.subsets)],
        "circles": None if shares.exact else len(shares.weights),
        "pairs": _pairs(maps),
        "tolerance": tolerance,
        "advice": advice,
    }


def judge_of(sources: RunMembers, maps: OpenedMembers, subsets: int) -> SubsetScorer:
    """Return who scores means of a run's members.

    Args:
        sources: of the run.
        maps: of all members.
        subsets: how many means will be asked for.

    Raises:
        BadRun: the split has no target.
    """
    data, seed = maps.data, run_experiment(sources.run).seed
    if data.masks is None:
        raise BadRun(f"split {maps.split!r} has no target to score by; take another --split")
    rng = np.random.default_rng(seed)
    places = group_indices(data.group_names(), subsets=subsets, classes=len(data.classes), rng=rng)
    counts = SubsetCounts(maps.readers, data.target(), places)
    return SubsetScorer(counts, PROTOCOLS.build(PROTOCOL), data.classes.ignore, seed)


def _rows(
    sources: RunMembers, maps: OpenedMembers, judge: SubsetScorer, shares: ShapleyEstimator
) -> list[Document]:
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


def _by_class(scores: Score, place: int, maps: OpenedMembers) -> Document:
    one = Score(scores.iou[place], np.asarray(scores.miou[place]))
    return {"miou": number(float(one.miou)), "iou": iou_by_name(one, maps.data.classes)}


def _size_document(size: SizeScore) -> Document:
    gain = None if size.gain is None else change_document(size.gain)
    return {"members": size.members, "miou": number(size.miou), "gain": gain}


def _pairs(maps: OpenedMembers) -> Document:
    data = maps.data
    both, pixels = count_both_right(maps.readers, data.target(), ignore=data.classes.ignore)
    found = measure_pairs(both, pixels)

    def listed(measure: Measure) -> list[list[float | None]]:
        return [[number(value) for value in line] for line in measure.tolist()]

    return {
        "members": list(maps.names),
        "disagreement": listed(found.disagreement),
        "double_fault": listed(found.double_fault),
        "correlation": listed(found.correlation),
    }


def _examined(sources: RunMembers, names: tuple[str, ...], kept: list[str]) -> Document | None:
    """Return what dropping changes on images that it was not chosen on."""
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


SHOWN_PAIRS = 3


def as_text(document: Document) -> str:
    """Write scores, values with costs, the pairs that stand out, and the advice."""
    lines = [
        _head(document),
        "",
        *in_columns(_scores(document), left=1),
        "",
        *in_columns(_values(document), left=1),
        *_remarks(document),
        "",
        *in_columns(_growth(document), left=1),
        "",
        *in_columns(_pairs_member_table(document), left=2),
        "",
        advice_line(document),
    ]
    return "\n".join(lines)


def draw_growth(document: Document, file: Path) -> None:
    """Draw the score by the number of members as SVG; lines are intervals of the last one's gain.

    Args:
        document: of `value_members`.
        file: where to.
    """
    found: list[Grown] = []
    for size in document["growth"]:
        ends = size["gain"] and size["gain"]["interval"]
        low = high = size["miou"]
        if found and ends is not None:
            low, high = (found[-1].miou + ends[end] for end in ("low", "high"))
        found.append(Grown(size["members"], size["miou"], low, high))
    with atomic_file(file) as partial:
        partial.write_text(standalone(member_growth(found)), encoding="utf-8")


def _head(document: Document) -> str:
    return (
        f"{len(document['members'])} members on {document['split']}: {document['images']}"
        f" images, {document['groups']} groups; {document['protocol']} mIoU"
    )


def _scores(document: Document) -> list[list[str]]:
    names = list(document["iou"])
    everyone = {"name": f"{document['strategy']} of all", **document}
    return [
        ["member", "mIoU", *names],
        *(
            [row["name"], decimal(row["miou"]), *(decimal(row["iou"].get(n)) for n in names)]
            for row in [everyone, *document["members"]]
        ),
    ]


def _values(document: Document) -> list[list[str]]:
    head = ["member", "gain", "95% interval", "Shapley", "95% interval", "ms", "params", "disk"]
    return [head, *(_value(row) for row in document["members"])]


def _value(row: Document) -> list[str]:
    gain, shapley = row["leave_one_out"], row["shapley"]
    time, parameters = row["milliseconds"], row["parameters"]
    return [
        row["name"],
        decimal(gain["change"], "+"),
        document_ends(gain["interval"], "+"),
        decimal(shapley["value"]),
        document_ends(shapley["interval"]),
        NOTHING if time is None else f"{time:.1f}",
        NOTHING if parameters is None else f"{parameters / 1e6:.2f} M",
        f"{row['bytes'] / 1e6:.0f} MB",
    ]


def _remarks(document: Document) -> Iterator[str]:
    yield "gain: what the member adds to the mean of the others, paired; Shapley values sum to the"
    yield "mIoU of all. ms: an image through one fold's network on one core of this machine."
    if document["circles"] is not None:
        worst = max(row["shapley"]["sampling_error"] for row in document["members"])
        yield f"Shapley values: {document['circles']} random circles, standard error {worst:.4f}."


def _growth(document: Document) -> list[list[str]]:
    """List what any so many members score on average, and what the last of them gained."""
    head = ["any members", "mIoU", "one more gained", "95% interval"]
    return [head, *(_size(size) for size in document["growth"])]


def _size(size: Document) -> list[str]:
    gain = size["gain"]
    told = [NOTHING, NOTHING]
    if gain is not None:
        told = [decimal(gain["change"], "+"), document_ends(gain["interval"], "+")]
    return [str(size["members"]), decimal(size["miou"]), *told]


def _pairs_member_table(document: Document) -> list[list[str]]:
    """List the pairs whose errors are most alike, then those whose errors differ most."""
    pairs = document["pairs"]
    names, correlation = pairs["members"], pairs["correlation"]
    known = [(a, b) for a, b in combinations(range(len(names)), 2) if correlation[a][b] is not None]
    known.sort(key=lambda pair: -correlation[pair[0]][pair[1]])
    few = len(known) <= 2 * SHOWN_PAIRS
    shown = known if few else [*known[:SHOWN_PAIRS], *known[-SHOWN_PAIRS:]]
    head = ["pair, most alike first", "", "correlation of errors", "disagreement", "both wrong"]
    measures = ("correlation", "disagreement", "double_fault")
    return [
        head,
        *([names[a], names[b], *(decimal(pairs[m][a][b]) for m in measures)] for a, b in shown),
    ]
