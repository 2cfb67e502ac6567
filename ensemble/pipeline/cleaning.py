"""Clean a data set: find what to drop, show it on a page, and write the rest where asked."""

from pathlib import Path
from typing import Any

import numpy as np

from evaluation.ground.arrays import Kept
from evaluation.ground.errors import BadData
from members.data.cleaning.apply import refuse_target, write_kept
from members.data.cleaning.find import find
from members.data.cleaning.lists import named_in, read_drop_list
from members.data.cleaning.page import PAGE, RINGED, refuse_folder, write_page
from members.data.cleaning.reasons import Findings, Reason, Rules
from members.data.dataset import DataSet
from members.data.load import load

Document = dict[str, Any]


def clean_data(
    path: Path,
    *,
    page: Path,
    rules: Rules,
    drop: Path | None = None,
    keep: Path | None = None,
    out: Path | None = None,
) -> Document:
    """Find what to drop from the labelled pictures (or, without labels, from all of them).

    Args:
        path: the data set; it is never changed.
        page: folder of the page and the lists.
        rules: what counts as a reason.
        drop: list of ids to drop.
        keep: list of ids that no other reason may drop.
        out: the new file; None writes none.

    Returns:
        A JSON document: counts, ids and words by reason, and where things lie.

    Raises:
        BadData: data, lists or names that cannot be used, or a class that would lose its last
            picture.
    """
    if out is not None:
        refuse_target(out)
    refuse_folder(page)
    sets = load(path)
    data = sets.get("training") or sets["test"]
    listed, exempt = _lists(data, drop, keep)
    findings = find(data, listed=listed, exempt=exempt, rules=rules)
    write_page(findings, path.name, page)
    if out is not None:
        write_kept(path, data, findings.kept, out)
    return _document(path, findings) | {
        "page": str(page / PAGE),
        "out": None if out is None else str(out),
    }


def as_text(document: Document) -> str:
    """Write the document of `clean_data` for people."""
    dropped = document["pictures"] - document["kept"]
    lines = [f"{document['data']}: {dropped} of {document['pictures']} pictures to drop"]
    width = max(len(reason) for reason in document["counts"])
    for reason, count in document["counts"].items():
        first = document["ids"][reason][:1]
        example = f"  (first: {first[0]}: {document['why'][first[0]]})" if first else ""
        lines.append(f"  {reason:{width}}  {count:5}{example}")
    lines.append(f"page: {document['page']} (and dropped.csv, dropped.txt beside it)")
    if document["out"] is None:
        lines.append("nothing is written but the page; --apply --out FILE.npz writes the rest")
    else:
        lines.append(f"{document['out']}: {document['kept']} pictures")
    return "\n".join(lines)


def _lists(data: DataSet, drop: Path | None, keep: Path | None) -> tuple[Kept, Kept]:
    nothing = np.zeros(len(data), bool)
    listed = nothing if drop is None else ~read_drop_list(drop, data.ids)
    exempt = nothing if keep is None else named_in(keep, data.ids)
    both = np.flatnonzero(listed & exempt)
    if len(both):
        raise BadData(
            f"{data.ids[both[0]]} stands in {drop} and in {keep}; expected each id in one of them"
        )
    return listed, exempt


def _document(path: Path, findings: Findings) -> Document:
    ids = findings.data.ids
    by_reason = {
        str(reason): [ids[drop.place] for drop in findings.of(reason)] for reason in Reason
    }
    return {
        "data": str(path),
        "pictures": len(ids),
        "kept": int(findings.kept.sum()),
        "counts": {reason: len(dropped) for reason, dropped in by_reason.items()},
        "ids": by_reason,
        "why": {ids[drop.place]: drop.why for drop in findings.drops},
        "strangest_kept": [
            {"id": ids[place], "score": float(findings.scores[place])}
            for place in findings.strangest_kept(RINGED)
        ],
    }
