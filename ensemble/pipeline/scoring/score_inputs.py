"""What scores were made of, and whether that is so today."""

from collections.abc import Sequence
from typing import Any

from ensemble.pipeline.data.prepare import run_classes, split_identity
from ensemble.pipeline.run.open_run import OOF
from evaluation.core.provenance import identity, is_current
from evaluation.core.run_folder import Run
from evaluation.protocols import PROTOCOLS

LEADERBOARD = "leaderboard"


def is_scored(run: Run, name: str, split: str) -> bool:
    """Tell whether a candidate's scores are there and would come out the same today."""
    asked, inputs = scored_from(run, name, split)
    return is_current(run.scores(name), asked=asked, inputs=inputs, part=split)


def scored_from(run: Run, name: str, split: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what is asked of a candidate's scores, and the identities of what they are made of."""
    labels = str(identity(run.labels(name, split)))
    inputs = {"labels": labels, "data": split_identity(run, split)}
    return {"protocols": sorted(PROTOCOLS), "classes": list(run_classes(run).names)}, inputs


def scores_of(run: Run, candidates: Sequence[str], split: str) -> dict[str, str]:
    """Return the identities of candidates' scores on a split, and on `oof`."""
    return {
        f"{name}/{part}": str(identity(run.scores(name), part))
        for name in candidates
        for part in dict.fromkeys((OOF, split))
    }
