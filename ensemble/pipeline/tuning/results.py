"""What a tuning found: as a document, on disk, and for people.

What a tuning was made of, and whether that is so today.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.data.prepare import classes_identity, split_identity
from ensemble.pipeline.run.open_run import OOF, RunMembers
from ensemble.pipeline.tuning.cross_validation import Pool
from ensemble.pipeline.tuning.selection import PROTOCOL, Judge, Verdict
from ensemble.pipeline.tuning.trials import Tried, read_journal
from evaluation.core.files import atomic_file, read_json, write_json
from evaluation.core.provenance import digest, is_current, record
from evaluation.core.types import Array, Counts
from postproc.chain import Chain

RESULT, TABLE = "result.json", "trials.csv"

Document = dict[str, Any]


@dataclass(frozen=True)
class Examined:
    """What one search found, and how it does on the images that examine it.

    Args:
        name: of the search.
        trials: in order.
        chain: what is left after elimination.
        fitted: the same, fitted on all images that were searched.
        verdicts: a step each.
        tuned: score on the images that were searched.
        counts: of the chain on the examined images; for the search on all, on these.
        plain: of no post-processing on the same.
        groups: of the same images.
    """

    name: str
    trials: Sequence[Tried]
    chain: Chain
    fitted: Chain
    verdicts: Sequence[Verdict]
    tuned: float
    counts: Counts
    plain: Counts
    groups: Array

    def document(self, judge: Judge) -> Document:
        """Return it as JSON values; `judge` is of the examined images."""
        return {
            "search": self.name,
            "chain": str(self.chain),
            "fitted": str(self.fitted),
            "steps": [verdict.document() for verdict in self.verdicts],
            "trials": dict(Counter(tried.state for tried in self.trials)),
            "tuned": self.tuned,
            "score": judge.score(self.counts),
            "plain": judge.score(self.plain),
        }


def document(found: Sequence[Examined], pool: Pool) -> Document:
    """Put the search on all images and those without a fold each together.

    Args:
        found: the search on all images first.
        pool: of all images.

    Returns:
        `chain`, `fitted`, `steps`; `plain`, `tuned` and `examined` scores, `optimism` (tuned minus
        examined), `gain` (examined minus plain, with interval); `folds`, one entry each.
    """
    overall, *folds = found
    groups = np.concatenate([fold.groups for fold in folds])
    judge = Judge(pool.classes, groups)
    counts = np.concatenate([fold.counts for fold in folds])
    plain = np.concatenate([fold.plain for fold in folds])
    examined = judge.score(counts)
    each = [fold.document(Judge(pool.classes, fold.groups)) for fold in folds]
    return {
        "protocol": PROTOCOL,
        "images": len(counts),
        "groups": len(np.unique(groups)),
        "chain": str(overall.chain),
        "fitted": str(overall.fitted),
        "steps": [verdict.document() for verdict in overall.verdicts],
        "trials": dict(Counter(t.state for one in found for t in one.trials)),
        "plain": judge.score(plain),
        "tuned": overall.tuned,
        "examined": examined,
        "optimism": overall.tuned - examined,
        "examined_gain": judge.gain(counts, plain).document(),
        "classes_that_fall": judge.falls(counts, plain),
        "folds": each,
    }


def write_result(
    folder: Path, result: Document, *, asked: Mapping[str, Any], inputs: Mapping[str, str]
) -> None:
    """Write `trials.csv`, `result.json` and the record that makes the folder whole."""
    with atomic_file(folder / TABLE) as partial, partial.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["search", "number", "state", "score", "seconds", "chain", "reason"])
        for journal in sorted(folder.glob("*.jsonl")):
            for t in read_journal(journal)[: asked["trials"]]:
                score = "" if t.score is None else f"{t.score:.6f}"
                row = [journal.stem, t.number, t.state, score, t.seconds, t.chain, t.reason]
                table.writerow(row)
    write_json(folder / RESULT, result)
    record(folder, asked=asked, inputs=inputs)


def read_result(folder: Path) -> Document:
    """Read what `write_result` wrote."""
    return dict(read_json(folder / RESULT))


def as_text(result: Document) -> str:
    """Write a result for people."""
    trials = ", ".join(f"{number} {state}" for state, number in result["trials"].items())
    gain = result["examined_gain"]
    searches = f"{1 + len(result['folds'])} searches: {trials}"
    lines = [
        f"{result['run']}: tuning {result['name']} of {result['of']} ({searches})",
        f"chain: {result['chain'] or 'none; no step is shown to help'}",
        *map(_step, result["steps"]),
        f"masked mIoU over {result['images']} out-of-fold images of {result['groups']} groups",
        f"  no post-processing  {result['plain']:.4f}",
        f"  tuned               {result['tuned']:.4f}  what the search saw",
        f"  examined            {result['examined']:.4f}  chosen and fitted without these images",
        f"  optimism            {result['optimism']:+.4f}  tuned minus examined",
        f"  examined gain       {gain['gain']:+.4f}  {_interval(gain['interval'])}",
    ]
    if result["classes_that_fall"]:
        lines.append(f"  classes that fall   {', '.join(result['classes_that_fall'])}")
    for fold in result["folds"]:
        change = f"{fold['plain']:.4f} -> {fold['score']:.4f}"
        lines.append(f"{fold['search']}: {change} by {fold['chain'] or 'no step'}")
    return "\n".join(lines)


def _step(step: Document) -> str:
    why = "kept"
    if not step["kept"]:
        falls = step["classes_that_fall"]
        why = f"dropped: {', '.join(falls)} falls" if falls else "dropped: not shown to help"
    return f"  {step['gain']:+.4f} {_interval(step['interval'])}  {step['step']}  {why}"


def _interval(interval: Document | None) -> str:
    if interval is None:
        return "(no interval: one group)"
    return f"({interval['low']:+.4f} to {interval['high']:+.4f})"


def tuned_from(sources: RunMembers, source: str) -> dict[str, str]:
    """Return the identities of all that a tuning of a fusion or member learns from."""
    return {
        "maps": str(sources.identity(source, OOF)),
        "data": split_identity(sources.run, OOF),
        "folds": digest(sources.run.folds),
        "classes": classes_identity(sources.run),
    }


def is_tuned(sources: RunMembers, name: str, asked: dict[str, object]) -> bool:
    """Tell whether a finished tuning would see the same maps, target and folds today."""
    folder = sources.run.path / "tuning" / name
    return is_current(folder, asked=asked, inputs=tuned_from(sources, str(asked["of"])))
