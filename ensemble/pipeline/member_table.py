"""The document of `value_members` as text for people, and as a figure."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from ensemble.pipeline.member_advice import advice_line
from evaluation.cells import NOTHING, decimal, document_ends, in_columns
from evaluation.ground.files import whole_file
from evaluation.report.figures.drawing import standalone
from evaluation.report.figures.members import Grown, member_growth

SHOWN_PAIRS = 3

Document = dict[str, Any]


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
        *in_columns(_pairs(document), left=2),
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
    with whole_file(file) as partial:
        partial.write_text(standalone(member_growth(found)), encoding="utf-8")


def _head(document: Document) -> str:
    return (
        f"{len(document['members'])} members on {document['split']}: {document['pictures']}"
        f" pictures, {document['groups']} groups; {document['protocol']} mIoU"
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
    yield "mIoU of all. ms: a picture through one fold's network on one core of this machine."
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


def _pairs(document: Document) -> list[list[str]]:
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
