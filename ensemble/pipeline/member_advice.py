"""Which members of a run to drop, as a document and in one line."""

from collections.abc import Sequence
from typing import Any

from ensemble.diversity.elimination import Elimination, Step
from ensemble.diversity.judge import Change
from evaluation.table import interval_document

Document = dict[str, Any]


def advise(
    found: Elimination, names: Sequence[str], milliseconds: Sequence[float | None]
) -> Document:
    """Say who can go.

    Args:
        found: by backward elimination.
        names: of the members.
        milliseconds: a picture; None where it is not known.

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


def change_document(change: Change) -> Document:
    """Give a change as JSON."""
    ends = interval_document(change.interval)
    return {"change": change.value, "interval": ends, "half_width": change.half_width}


def _step(step: Step, names: Sequence[str]) -> Document:
    return {"dropped": names[step.dropped], **change_document(step.change)}


def _signed(change: Document, decimals: int = 3) -> str:
    width = change["half_width"]
    noise = "" if width is None else f" +- {width:.{decimals}f}"
    return f"{change['change']:+.{decimals}f}{noise}"
