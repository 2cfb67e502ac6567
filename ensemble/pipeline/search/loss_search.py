"""Cross-validate mixtures of losses; those whose first fold misses a threshold are stopped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.experiment import Experiment
from ensemble.pipeline.prepare import read_folds, run_classes
from ensemble.pipeline.search.data import data_identity, lay_out
from ensemble.pipeline.search.held_out import HeldOut, masked_miou
from ensemble.pipeline.search.paths import NAME, filled
from ensemble.pipeline.search.side_by_side import side_by_side
from evaluation.ground.errors import EnsError
from evaluation.ground.files import read_json, write_json
from evaluation.ground.layout import Run
from evaluation.ground.locks import writing
from evaluation.ground.progress import progress
from evaluation.ground.provenance import digest_of, is_current, record
from evaluation.iou import Tables
from members.devices import devices
from members.jobs import device_slots
from members.recipe import Member, Recipe
from members.train import Fold

FOLDER = "search-loss"


@dataclass
class Mixture:
    """A mixture and what came of it so far.

    Args:
        text: the loss.
        scores: masked mIoU of each fold that was trained, by fold.
        failed: why it could not be trained; empty where it could.
    """

    text: str
    scores: dict[int, float] = field(default_factory=dict)
    failed: str = ""


@dataclass(frozen=True, eq=False)
class _Fold:
    """A mixture in a fold: a job, and where its result is kept."""

    mixture: Mixture
    work: HeldOut
    folder: Path
    asked: dict[str, Any]
    inputs: dict[str, str]

    @property
    def part(self) -> str:
        return f"fold-{self.work.fold.index}"

    def __call__(self, device: str) -> Tables:
        return self.work(device)

    def kept(self) -> Tables | None:
        """Return the counts of an earlier call."""
        if not is_current(self.folder, asked=self.asked, inputs=self.inputs, part=self.part):
            return None
        return np.array(read_json(self.folder / f"{self.part}.json")["counts"], np.int64)

    def keep(self, counts: Tables) -> None:
        document = {"loss": self.mixture.text, "counts": counts.tolist()}
        write_json(self.folder / f"{self.part}.json", document)
        record(self.folder, asked=self.asked, inputs=self.inputs, part=self.part)


@dataclass(frozen=True, eq=False)
class LossSearch:
    """Mixtures of losses over the folds of a run.

    Args:
        run: the experiment folder; its folder `search-loss` gets a result a mixture and fold.
        experiment: data, folds, seed.
        recipe: what is trained; its loss gives way to the mixtures.
        threshold: masked mIoU below which a mixture is stopped after its first fold.
        device: see `members.devices.devices`.
        workers: processes on each device.
        tell: gets a line a fold.
    """

    run: Run
    experiment: Experiment
    recipe: Recipe
    threshold: float
    device: str
    workers: int | None
    tell: Callable[[str], None]

    def __call__(self, losses: Sequence[str]) -> list[Mixture]:
        """Return the mixtures with their scores; what an earlier call trained is kept.

        Raises:
            EnsError: bad input before any training, or no mixture that could be trained.
        """
        where = devices(self.device)
        members = [Member(NAME, filled(self.recipe, {"loss": loss})) for loss in losses]
        with writing(self.run.path):
            lay_out(self.run, self.experiment, [self.recipe], self.tell)
            inputs = data_identity(self.run)
            first, *others = read_folds(self.run)
            found = [Mixture(loss) for loss in losses]
            pairs = list(zip(found, members, strict=True))
            self._train([self._fold(m, member, first, inputs) for m, member in pairs], where)
            good = [pair for pair in pairs if not is_stopped(pair[0], self.threshold)]
            rest = [self._fold(*pair, fold, inputs) for pair in good for fold in others]
            self._train(rest, where)
        if all(mixture.failed for mixture in found):
            raise EnsError(f"no mixture could be trained; the first: {found[0].failed}")
        return found

    def _fold(self, mixture: Mixture, member: Member, fold: Fold, inputs: dict[str, str]) -> _Fold:
        seed = self.experiment.seed
        work = HeldOut(member, self.run.data("oof"), fold, seed)
        asked = {"recipe": member.recipe.model_dump(mode="json"), "seed": seed}
        folder = self.run.path / FOLDER / digest_of(asked)[:12]
        return _Fold(mixture, work, folder, {**asked, "fold": fold.index}, inputs)

    def _train(self, folds: list[_Fold], where: Sequence[str]) -> None:
        missing = []
        for fold in folds:
            counts = fold.kept()
            if counts is None:
                missing.append(fold)
            else:
                self._enter(fold, counts)
        slots = device_slots(where, self.workers, len(missing))
        done = side_by_side(_unless_failed(missing), slots)
        for fold, outcome in progress(done, "folds", total=len(missing)):
            if isinstance(outcome, EnsError):
                fold.mixture.failed = str(outcome)
                self.tell(f"{fold.mixture.text}, {fold.part}: failed: {outcome}")
                continue
            fold.keep(outcome)
            score = self._enter(fold, outcome)
            self.tell(f"{fold.mixture.text}, {fold.part}: {score:.4f}")

    def _enter(self, fold: _Fold, counts: Tables) -> float:
        score = masked_miou(counts, run_classes(self.run).ignore)
        fold.mixture.scores[fold.work.fold.index] = score
        return score


def is_stopped(mixture: Mixture, threshold: float) -> bool:
    """Tell whether a mixture is given up after its first fold; NaN reaches no threshold."""
    return bool(mixture.failed) or not next(iter(mixture.scores.values())) >= threshold


def _unless_failed(folds: list[_Fold]) -> Iterator[_Fold]:
    return (fold for fold in folds if not fold.mixture.failed)
