"""The trials of a search on disk, a line each: a search that was killed goes on as if it had not.

Optuna's own storage keeps trials that were begun and not ended, which then differ from those of a
search that nobody interrupted; so only what has ended is kept, and the study is made of it anew.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from ensemble.pipeline.tuning.space import ChainSpace


@dataclass(frozen=True)
class Tried:
    """A trial that has ended.

    Args:
        number: which.
        chain: what was tried.
        state: `complete`, `pruned` or `failed`.
        score: masked mean IoU over the pictures looked at; None where it failed.
        looks: the score after each share of the blocks, by how many these are.
        seconds: that it took.
        params: what was drawn.
        reason: why it failed.
    """

    number: int
    chain: str
    state: str
    score: float | None
    looks: dict[str, float]
    seconds: float
    params: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    def frozen(self, space: ChainSpace) -> FrozenTrial:
        """Return it as Optuna has it."""
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        return create_trial(
            state=states.get(self.state, TrialState.FAIL),
            value=self.score,
            params=self.params,
            distributions={path: space.distribution(path) for path in self.params},
            intermediate_values={int(seen): score for seen, score in self.looks.items()},
        )


def read_journal(file: Path) -> list[Tried]:
    """Read the trials that have ended; a line that was cut off is none."""
    if not file.is_file():
        return []
    *whole, _ = file.read_text(encoding="utf-8").split("\n")
    return [Tried(**json.loads(line)) for line in whole]


def repair(file: Path) -> None:
    """Cut off a last line that was not written to its end."""
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        file.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")


def enter(file: Path, tried: Tried) -> None:
    """Add a trial."""
    with file.open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(asdict(tried)) + "\n")
        journal.flush()
        os.fsync(journal.fileno())
