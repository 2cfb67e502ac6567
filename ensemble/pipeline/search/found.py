"""What a search found, as a document and as text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from members.recipe import Recipe

IMPORTANCE = "importance.png"


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        experiment: file that `train-members --experiment` takes.
        trials: how many there are of each state.
        number: of the best trial.
        score: its masked mIoU over the held-out pictures.
        options: its options.
        recipe: the whole of it.
        importance: share of each option in what single options explain of the scores; None where
            it cannot be told.
        unknown: why it cannot be told; empty where it can.
        folds: whose held-out pictures the scores are of.
    """

    experiment: Path
    trials: dict[str, int]
    number: int
    score: float
    options: dict[str, Any]
    recipe: Recipe
    importance: dict[str, float] | None
    unknown: str
    folds: list[int]

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        best = {
            "trial": self.number,
            "score": self.score,
            "options": self.options,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        return {
            "experiment": str(self.experiment),
            "trials": self.trials,
            "folds": self.folds,
            "best": best,
            "importance": self.importance,
        }

    def text(self) -> str:
        """Write it for people."""
        counts = ", ".join(f"{number} {state}" for state, number in self.trials.items())
        folds = " and ".join(str(fold) for fold in self.folds)
        width = max(len(path) for path in self.options)
        shares = self.importance or {}
        best = f"trial {self.number}, masked mIoU {self.score:.4f}"
        lines = [
            f"{self.experiment.parent}: {sum(self.trials.values())} trials ({counts})",
            f"best: {best} on the held-out pictures of fold {folds}",
        ]
        for path, value in self.options.items():
            share = f"  importance {shares[path]:.2f}" if path in shares else ""
            shown = f"{value:.4g}" if isinstance(value, float) else value
            lines.append(f"  {path:{width}}  {shown}{share}")
        lines += [f"no {IMPORTANCE}: {self.unknown}"] if self.unknown else []
        lines.append(
            f"That score is optimistic: it is the highest of {self.trials['complete']} on the"
            " pictures they were compared on. `ens score` examines it on validation."
        )
        return "\n".join(lines)
