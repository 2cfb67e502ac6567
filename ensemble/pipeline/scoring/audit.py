"""Compare two candidates under every protocol, and split the gain into its parts."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.scoring.plain_files import count_files
from ensemble.pipeline.scoring.score import counts_of
from evaluation.audit import GainDecomposition, audit
from evaluation.core.classes import Classes, numbered
from evaluation.core.run_folder import Run
from evaluation.core.types import Counts
from evaluation.formatting import MISSING, format_decimal
from evaluation.protocols import PROTOCOLS
from evaluation.scores import nan_to_none, score

Document = dict[str, Any]

LEGEND = (
    "pixels: gain of the IoUs over the same classes; denominator: gain by averaging over other"
    " classes; they add up to the gain"
)


def audit_run(
    run: Run, names: tuple[str, str], *, split: str, log: Callable[[str], None]
) -> Document:
    """Audit the gain of the second candidate over the first; what is stale is made again before.

    Raises:
        BadRun: no such candidate or split, or a split without target.
    """
    first, second = counts_of(run, names, split=split, log=log)
    return {"split": split} | _document(names, (first.counts, second.counts), run_classes(run))


def audit_files(target: Path, preds: tuple[Path, Path], *, classes: int, ignore: int) -> Document:
    """Audit label maps in two files by the same target.

    Args:
        target: (image, row, col), integers; 255 where there is no label.
        preds: two files, of the same shape.
        classes: number of classes.
        ignore: the class that is not scored.

    Raises:
        BadLabels: labels outside the classes, shapes that differ; names the files.
    """
    first, second = (count_files(target, pred, classes=classes, ignore=ignore) for pred in preds)
    names = (str(preds[0]), str(preds[1]))
    return _document(names, (first, second), numbered(classes, ignore=ignore))


def _document(names: tuple[str, str], counts: tuple[Counts, Counts], classes: Classes) -> Document:
    document = {
        "before": names[0],
        "after": names[1],
        "images": len(counts[0]),
        "protocols": {
            name: _gain(audit(PROTOCOLS.build(name), *counts, classes.ignore))
            for name in list(PROTOCOLS)
        },
    }
    for each in counts:
        warning = score(each, [], classes).get("warning")
        if warning:
            document["warning"] = warning
    return document


def _gain(gain: GainDecomposition) -> Document:
    before, after = gain.averaged
    numbers = {
        name: nan_to_none(value) for name, value in asdict(gain).items() if name != "averaged"
    }
    return numbers | {
        "gain": nan_to_none(gain.after - gain.before),
        "averaged": {"before": nan_to_none(before), "after": nan_to_none(after)},
    }


def format_audit(document: Document) -> str:
    """Format an audit as text, one line per protocol."""
    heads = ("before", "after", "gain", "pixels", "denominator", "classes averaged")
    lines = [
        f"from {document['before']} to {document['after']}, {document['images']} images",
        f"{'protocol':12}" + "".join(f"{head:>12}" for head in heads[:5]) + f"  {heads[5]}",
    ]
    for name, gain in document["protocols"].items():
        values = [format_decimal(gain[key], places=4) for key in heads[:2]]
        values += [format_decimal(gain[key], "+", places=4) for key in heads[2:5]]
        counts = [_num_classes(gain["averaged"][key]) for key in ("before", "after")]
        averaged = "none" if MISSING in counts else " -> ".join(counts)
        lines.append(f"{name:12}" + "".join(f"{value:>12}" for value in values) + f"  {averaged}")
    lines.append(LEGEND)
    if "warning" in document:
        lines.append(f"warning: {document['warning']}")
    return "\n".join(lines)


def _num_classes(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g}"
