"""One trial: a recipe, trained in the folds of the search unless it is hopeless before."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import TrialPruned
from optuna.pruners import BasePruner

from ensemble.pipeline.search.held_out import held_out_counts, masked_miou
from ensemble.pipeline.search.paths import NAME, filled
from ensemble.pipeline.search.space import Space
from ensemble.pipeline.search.study import opened, quiet
from evaluation.ground.errors import EnsError
from members.data.dataset import DataSet
from members.recipe import Member
from members.train import Fold


@dataclass(frozen=True, eq=False)
class TrialJob:
    """Score a trial's recipe; picklable.

    Args:
        number: of the trial.
        space: with the recipe.
        drawn: what Optuna drew for each option.
        data: folder of the training pictures.
        folds: in which it is trained, one after the other.
        seed: of the training, the same in all trials.
        study: file that gets the score of each epoch of the first fold.
        pruner: stops the trial by them.
    """

    number: int
    space: Space
    drawn: dict[str, Any]
    data: Path
    folds: tuple[Fold, ...]
    seed: int
    study: Path
    pruner: BasePruner

    @property
    def options(self) -> dict[str, Any]:
        """The value of each option."""
        return self.space.decoded(self.drawn)

    def __call__(self, device: str) -> float | None:
        """Return the masked mIoU over all held-out pictures together; None where it is pruned.

        Raises:
            EnsError: the recipe cannot be trained, or nothing in the pictures can be scored.
        """
        member = Member(NAME, filled(self.space.recipe, self.options))
        data = DataSet.load(self.data)
        first, *others = self.folds
        with opened(self.study, self.pruner) as found:
            trial = found.trial(self.number)

            def watch(epoch: int, score: float) -> None:
                with quiet():
                    trial.report(score, epoch)
                    if trial.should_prune():
                        raise TrialPruned

            try:
                counts = held_out_counts(
                    member, data, first, seed=self.seed, device=device, watch=watch
                )
            except TrialPruned:
                return None
        for fold in others:
            counts = counts + held_out_counts(member, data, fold, seed=self.seed, device=device)
        score = masked_miou(counts, data.classes.ignore)
        if math.isnan(score):
            raise EnsError("no held-out pixel can be scored; take other folds or more data")
        return score
