"""What has left a run, as a submission or a package, and what it was made of."""

from pathlib import Path
from typing import Any, Literal

from evaluation.core.files import read_json, write_json
from evaluation.core.provenance import identity
from evaluation.core.run_folder import Run

NOTES = "handed_over.json"

Kind = Literal["submission", "package"]


def record_export(run: Run, out: Path, kind: Kind, candidate: str, split: str) -> None:
    """Write down what was handed over where; the same place is noted once.

    Args:
        run: the experiment folder, held for writing.
        out: the file or folder.
        kind: of it.
        candidate: whose labels or networks it holds.
        split: whose label maps say what it is: they follow from all that it was made of.
    """
    made_of = {"kind": kind, "candidate": candidate, "split": split}
    made_of["labels"] = str(identity(run.labels(candidate, split)))
    write_json(run.path / NOTES, {**exports_of(run), str(out.resolve()): made_of})


def exports_of(run: Run) -> dict[str, dict[str, Any]]:
    """Return what was noted, by path; what is no longer there is left out."""
    file = run.path / NOTES
    noted = read_json(file) if file.is_file() else {}
    return {path: made_of for path, made_of in noted.items() if Path(path).exists()}


def export_is_current(run: Run, made_of: dict[str, Any]) -> bool:
    """Tell whether the label maps that were handed over are those of today."""
    labels = run.labels(made_of["candidate"], made_of["split"])
    return bool(made_of["labels"] == identity(labels))
