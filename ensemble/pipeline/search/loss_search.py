"""Cross-validate mixtures of losses; those whose first fold misses a threshold are stopped.

Mixtures of losses: as they are written, or all whose weights are multiples of a step.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.data.prepare import read_folds, run_classes
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.search.held_out import HeldOut, data_identity, lay_out, masked_miou
from ensemble.pipeline.search.space import NAME, filled
from ensemble.pipeline.search.trials import side_by_side
from evaluation.core.errors import BadSpec, EnsError
from evaluation.core.files import read_json, write_json
from evaluation.core.progress import progress
from evaluation.core.provenance import digest_of, is_current, record
from evaluation.core.run_folder import Run, run_lock
from evaluation.core.specs import Spec, parse_spec, parse_sum
from evaluation.iou import Tables
from members.devices import devices
from members.jobs import device_slots
from members.losses import check_loss
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
        log: receives a line a fold.
    """

    run: Run
    experiment: Experiment
    recipe: Recipe
    threshold: float
    device: str
    workers: int | None
    log: Callable[[str], None]

    def __call__(self, losses: Sequence[str]) -> list[Mixture]:
        """Return the mixtures with their scores; what an earlier call trained is kept.

        Raises:
            EnsError: bad input before any training, or no mixture that could be trained.
        """
        where = devices(self.device)
        members = [Member(NAME, filled(self.recipe, {"loss": loss})) for loss in losses]
        with run_lock(self.run.path):
            lay_out(self.run, self.experiment, [self.recipe], self.log)
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
                self.log(f"{fold.mixture.text}, {fold.part}: failed: {outcome}")
                continue
            fold.keep(outcome)
            score = self._enter(fold, outcome)
            self.log(f"{fold.mixture.text}, {fold.part}: {score:.4f}")

    def _enter(self, fold: _Fold, counts: Tables) -> float:
        score = masked_miou(counts, run_classes(self.run).ignore)
        fold.mixture.scores[fold.work.fold.index] = score
        return score


def is_stopped(mixture: Mixture, threshold: float) -> bool:
    """Tell whether a mixture is given up after its first fold; NaN reaches no threshold."""
    return bool(mixture.failed) or not next(iter(mixture.scores.values())) >= threshold


def _unless_failed(folds: list[_Fold]) -> Iterator[_Fold]:
    return (fold for fold in folds if not fold.mixture.failed)


MOST = 1000
FINEST = 1000  # parts of 1 in a step


def mixtures(written: Sequence[str], losses: str | None, step: float) -> list[str]:
    """Return the mixtures to compare, each once and in one form.

    Args:
        written: such as `0.5*dice + 0.5*focal`.
        losses: such as `dice,focal(gamma=2)`: all their mixtures whose weights sum to 1; or None.
        step: between two weights of those.

    Raises:
        BadSpec: nothing given, a weight that is not positive, an unknown loss, or a step that
            does not divide 1.
    """
    found = [_read(text) for text in written]
    if losses is not None:
        found += _grid(_losses(losses), step)
    if not found:
        raise BadSpec("no mixture; write --mixture '0.5*dice + 0.5*focal', or --losses dice,focal")
    for mixture in found:
        check_loss(mixture)
    return list(dict.fromkeys(found))


def _read(text: str) -> str:
    try:
        parts = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parts = []  # what is no expression, parse_sum says
    if any(isinstance(part, ast.Sub) for part in parts):
        raise BadSpec(f"mixture {text!r} takes a loss away; expected weights above 0")
    return _sum(parse_sum(text))


def _losses(text: str) -> list[Spec]:
    names = parse_spec(f"losses({text})").arguments
    losses = [parse_spec(str(name)) for name in names]
    if len({str(loss) for loss in losses}) < max(2, len(losses)):
        raise BadSpec(f"losses {text!r}; expected two or more that differ, such as dice,focal")
    for loss in losses:
        check_loss(str(loss))
    return losses


def _grid(losses: list[Spec], step: float) -> list[str]:
    exact = Fraction(step).limit_denominator(FINEST)
    if not 0 < exact < 1 or exact.numerator != 1:
        raise BadSpec(f"step {step:g}; expected a part of 1, such as 0.5, 0.25 or 0.1")
    parts = exact.denominator
    number = comb(parts + len(losses) - 1, parts)
    if number > MOST:
        raise BadSpec(
            f"{len(losses)} losses by steps of {step:g} make {number} mixtures; expected {MOST} at"
            " most: take larger steps or fewer losses"
        )
    return [
        _sum([(share / parts, loss) for share, loss in zip(shares, losses, strict=True) if share])
        for shares in _shares(parts, len(losses))
    ]


def _shares(parts: int, losses: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to deal out so many parts."""
    if losses == 1:
        yield (parts,)
        return
    for first in range(parts, -1, -1):
        for others in _shares(parts - first, losses - 1):
            yield (first, *others)


def _sum(terms: list[tuple[float, Spec]]) -> str:
    return " + ".join(str(loss) if weight == 1 else f"{weight:g}*{loss}" for weight, loss in terms)
