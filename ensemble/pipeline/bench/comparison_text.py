"""The comparison of chains for people: a table, what it means, and the ledger."""

from collections.abc import Sequence
from typing import Any

from evaluation.formatting import (
    GAP,
    NOTHING,
    decimal,
    document_ends,
    in_columns,
    ruled,
)

ARGMAX = "plain argmax"


def as_text(document: dict[str, Any]) -> str:
    """Write what `bench_postproc` returns; widths follow the content, so that nothing wraps."""
    where = f"{document['source']} of {document['run']} over {document['split']}"
    sizes = f"{document['images']:,} images, {document['groups']} groups"
    return "\n".join(
        [
            f"{where}: {sizes}",
            "",
            *_scores(document),
            "",
            *_remarks(document),
            "",
            *_ledger(document["chains"]),
        ]
    )


def _scores(document: dict[str, Any]) -> list[str]:
    percent = f"{100 * document['interval_level']:.4g}% interval"
    head = ["chain", "masked", "gain", percent, "", "keras", "gain", percent, "metric's"]
    head += ["images/s", "x argmax", "MB", "over argmax"]
    return _table([head, *(_row(row) for row in (document["plain"], *document["chains"]))])


def _row(row: dict[str, Any]) -> list[str]:
    masked, keras = row["protocols"]["masked"], row["protocols"]["keras"]
    metrics = None if masked["gain"] is None else keras["gain"] - masked["gain"]
    return [
        row["name"] or ARGMAX,
        decimal(masked["miou"]),
        decimal(masked["gain"], "+"),
        document_ends(masked["interval"], "+"),
        _verdict(masked["interval"]),
        decimal(keras["miou"]),
        decimal(keras["gain"], "+"),
        document_ends(keras["interval"], "+"),
        decimal(metrics, "+"),
        f"{row['images_per_s']:,.0f}",
        f"{row['times_as_long']:.1f}",
        NOTHING if row["peak_mb"] is None else f"{row['peak_mb']:.0f}",
        NOTHING if row["peak_mb_over_plain"] is None else f"{row['peak_mb_over_plain']:+.1f}",
    ]


def _remarks(document: dict[str, Any]) -> list[str]:
    count, level = len(document["chains"]), f"{100 * document['level']:g}%"
    return [
        f"Gains are over the {ARGMAX}; intervals are paired, over groups of images,",
        f"and so wide that all {count} hold together at {level}.",
        "Under keras, one scored pixel predicted as the ignored class is one more class in the mean,",
        'of IoU 0. "metric\'s" is what the keras gain has beyond the masked one: it comes from the',
        "number of classes that is divided by, not from pixels.",
        "A chain chosen from this table is chosen by its exam: choose on --split oof.",
        "images/s: by processor time of one core, maps in memory, chains timed in turns, median",
        f"of {document['rounds']} rounds. MB: peak of a process of its own with one block.",
    ]


def _ledger(chains: Sequence[dict[str, Any]]) -> list[str]:
    """Write a row a step, under its chain where that has a name of its own."""
    classes = list(
        dict.fromkeys(name for c in chains for s in c["ledger"] for name in s["classes"])
    )
    rows = [["pixels by step", "fixed", "broken", "net", "moved", *classes]]
    for chain in chains:
        if chain["ledger"] and chain["name"] != chain["chain"]:
            rows.append([chain["name"]])
        rows += [_step(step, classes) for step in chain["ledger"]]
    return [
        *_table(rows),
        "",
        "fixed: a wrong pixel becomes right; broken: a right one becomes wrong; moved: from one",
        "wrong class to another. By true class: +fixed -broken.",
    ]


def _step(step: dict[str, Any], classes: Sequence[str]) -> list[str]:
    each = (step["classes"][name] for name in classes)
    return [
        f"{GAP}{step['step']}",
        f"{step['fixed']:,}",
        f"{step['broken']:,}",
        f"{step['fixed'] - step['broken']:+,}",
        f"{step['moved']:,}",
        *(f"+{one['fixed']:,} -{one['broken']:,}" for one in each),
    ]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    full = [[*row, *[""] * (len(rows[0]) - len(row))] for row in rows]
    return ruled(in_columns(full, left=1))


def _verdict(interval: dict[str, float] | None) -> str:
    if interval is None:
        return ""
    return "better" if interval["low"] > 0 else "worse" if interval["high"] < 0 else ""
