"""Cross-validate mixtures of losses; those whose first fold misses a threshold are stopped."""

import ast
import csv
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.data.prepare import read_folds, run_classes
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.search.held_out import (
    held_out_counts,
    prepare_search,
    score_counts,
    searched_metric,
)
from ensemble.pipeline.search.space import NAME, apply_options
from evaluation.core.classes import Classes
from evaluation.core.errors import BadSpec, EnsError
from evaluation.core.files import atomic_file, read_json, write_json
from evaluation.core.progress import Log, progress
from evaluation.core.provenance import digest_of, is_current, record
from evaluation.core.run_folder import OOF, Run, run_lock
from evaluation.core.specs import Spec, parse_spec, parse_sum
from evaluation.formatting import format_columns, format_decimal
from evaluation.iou import Tables
from evaluation.scores import nan_to_none
from members.data.dataset import DataSet
from members.devices import devices
from members.jobs import device_slots, run_parallel
from members.losses import check_loss
from members.recipe import Member, Recipe
from members.train import Fold

FOLDER, TABLE = "search-loss", "results.csv"
MAX_MIXTURES = 1000
MIN_STEP = Fraction(1, 1000)


@dataclass
class Mixture:
    """A mixture of losses: its scores (by the run's metric) by fold so far, or why it failed."""

    text: str
    scores: dict[int, float] = field(default_factory=dict)
    failed: str = ""


@dataclass(frozen=True)
class LossRow:
    """A mixture's row of the table.

    A score is None where the fold was not trained; `mean` and `sd` (of a single fold) are None
    unless all folds were scored. `state` is `complete`, or why it was stopped or failed.
    """

    loss: str
    scores: list[float | None]
    mean: float | None
    sd: float | None
    state: str


@dataclass(frozen=True)
class LossSearchResult:
    """A row per mixture, complete ones first by their mean; and the recipe that was trained."""

    rows: list[LossRow]
    recipe: Recipe

    @property
    def best(self) -> Recipe | None:
        """The recipe with the loss of the highest mean; None if no mixture is complete."""
        if self.rows[0].mean is None:
            return None
        return self.recipe.model_copy(update={"loss": self.rows[0].loss})

    @property
    def best_option(self) -> str | None:
        """The best recipe as `train-members --member` takes it."""
        if self.best is None:
            return None
        return f"{NAME}={json.dumps(self.best.model_dump(mode='json', exclude_defaults=True))}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "mixtures": [asdict(row) for row in self.rows],
            "best": None if self.best is None else self.best.model_dump(mode="json"),
        }


def search_losses(
    run: Run,
    experiment: Experiment,
    recipe: Recipe,
    losses: Sequence[str],
    *,
    threshold: float,
    device: str,
    workers: int | None,
    log: Log,
) -> LossSearchResult:
    """Score mixtures over the folds of a run; what an earlier call trained is kept.

    The folder `search-loss` of the run gets a result per mixture and fold, and the table. The loss
    of the recipe is replaced by each mixture; one whose first fold scores below the threshold is
    stopped.

    Raises:
        EnsError: bad input before any training, or no mixture that could be trained.
    """
    device_names = devices(device)
    members = [Member(NAME, apply_options(recipe, {"loss": loss})) for loss in losses]
    mixtures = [Mixture(loss) for loss in losses]
    with run_lock(run.path):
        inputs = prepare_search(run, experiment, [recipe], log)
        first, *others = read_folds(run)
        metric, classes = searched_metric(run, experiment), run_classes(run)

        def train(pairs: Sequence[tuple[Mixture, Member]], folds: Sequence[Fold]) -> None:
            jobs = [
                _FoldJob(run, mixture, member, fold, experiment.seed, inputs, metric)
                for mixture, member in pairs
                for fold in folds
            ]
            _train(jobs, device_names, workers, classes, log)

        pairs = list(zip(mixtures, members, strict=True))
        train(pairs, [first])
        train([pair for pair in pairs if not _is_stopped(pair[0], threshold)], others)
    if all(mixture.failed for mixture in mixtures):
        raise EnsError(f"no mixture could be trained; the first: {mixtures[0].failed}")
    result = LossSearchResult(rank_mixtures(mixtures, experiment.folds, threshold), recipe)
    _write_table(run.path / FOLDER / TABLE, result.rows)
    return result


def rank_mixtures(mixtures: Sequence[Mixture], folds: int, threshold: float) -> list[LossRow]:
    """Return a row per mixture: complete ones first, by their mean."""
    rows = [_row(mixture, folds, threshold) for mixture in mixtures]
    return sorted(rows, key=lambda row: -math.inf if row.mean is None else row.mean, reverse=True)


def format_losses(result: LossSearchResult) -> str:
    """Format the table, and how far its first row can be trusted."""
    cells = [_header(result.rows)]
    cells += [
        [row.loss, *map(format_decimal, [*row.scores, row.mean, row.sd]), row.state]
        for row in result.rows
    ]
    lines = format_columns(cells, left=len(cells[0]))
    complete = sum(row.mean is not None for row in result.rows)
    if not complete:
        lines.append("No mixture reached the threshold in its first fold; take a lower one.")
    else:
        lines += [
            f"The first row is the highest of {complete} on the images they were compared on:",
            "its mean is optimistic. Folds share training images, so sd is too small. `ens score`",
            "evaluates it on validation.",
        ]
    return "\n".join(lines)


def expand_mixtures(written: Sequence[str], losses: str | None, step: float) -> list[str]:
    """Return the mixtures to compare, each once and in canonical form.

    Args:
        written: such as `0.5*dice + 0.5*focal`.
        losses: such as `dice,focal(gamma=2)`: all their mixtures whose weights sum to 1; or None.
        step: between two weights of those.

    Raises:
        BadSpec: no mixture, a weight that is not positive, an unknown loss, or a step that does not
            divide 1.

    Examples:
        >>> expand_mixtures([], "dice,focal", 0.5)
        ['dice', '0.5*dice + 0.5*focal', 'focal']
    """
    mixtures = [_parse_mixture(text) for text in written]
    if losses is not None:
        mixtures += _weight_grid(_parse_losses(losses), step)
    if not mixtures:
        raise BadSpec("no mixture; write --mixture '0.5*dice + 0.5*focal', or --losses dice,focal")
    for mixture in mixtures:
        check_loss(mixture)
    return list(dict.fromkeys(mixtures))


@dataclass(frozen=True, eq=False)
class _FoldJob:
    """Train a mixture in a fold and count the held-out pixels; a picklable job."""

    run: Run
    mixture: Mixture
    member: Member
    fold: Fold
    seed: int
    inputs: dict[str, str]
    metric: str

    @property
    def name(self) -> str:
        return f"fold-{self.fold.index}"

    @property
    def config(self) -> dict[str, Any]:
        recipe = self.member.recipe.model_dump(mode="json")
        return {"recipe": recipe, "seed": self.seed}

    @property
    def folder(self) -> Path:
        return self.run.path / FOLDER / digest_of(self.config)[:12]

    def __call__(self, device: str) -> Tables:
        data = DataSet.load(self.run.data(OOF))
        return held_out_counts(
            self.member, data, self.fold, seed=self.seed, device=device, metric=self.metric
        )

    def saved(self) -> Tables | None:
        """Return the counts of an earlier call."""
        config = {**self.config, "fold": self.fold.index}
        if not is_current(self.folder, config=config, inputs=self.inputs, part=self.name):
            return None
        return np.array(read_json(self.folder / f"{self.name}.json")["counts"], np.int64)

    def save(self, counts: Tables) -> None:
        document = {"loss": self.mixture.text, "counts": counts.tolist()}
        write_json(self.folder / f"{self.name}.json", document)
        config = {**self.config, "fold": self.fold.index}
        record(self.folder, config=config, inputs=self.inputs, part=self.name)

    def add_score(self, counts: Tables, classes: Classes) -> float:
        score = score_counts(counts, self.metric, classes)
        self.mixture.scores[self.fold.index] = score
        return score


def _train(
    jobs: list[_FoldJob],
    device_names: Sequence[str],
    workers: int | None,
    classes: Classes,
    log: Log,
) -> None:
    missing = []
    for job in jobs:
        counts = job.saved()
        if counts is None:
            missing.append(job)
        else:
            job.add_score(counts, classes)
    slots = device_slots(device_names, workers, len(missing))
    results = run_parallel((job for job in missing if not job.mixture.failed), slots)
    for job, outcome in progress(results, "folds", total=len(missing)):
        if isinstance(outcome, EnsError):
            job.mixture.failed = str(outcome)
            log(f"{job.mixture.text}, {job.name}: failed: {outcome}")
            continue
        job.save(outcome)
        log(f"{job.mixture.text}, {job.name}: {job.add_score(outcome, classes):.4f}")


def _is_stopped(mixture: Mixture, threshold: float) -> bool:
    """Tell whether a mixture stops after its first fold; NaN reaches no threshold."""
    return bool(mixture.failed) or not next(iter(mixture.scores.values())) >= threshold


def _row(mixture: Mixture, folds: int, threshold: float) -> LossRow:
    scores = [nan_to_none(mixture.scores.get(fold, math.nan)) for fold in range(folds)]
    known = [score for score in scores if score is not None]
    mean, sd, state = None, None, "complete"
    if mixture.failed:
        state = f"failed: {mixture.failed}"
    elif _is_stopped(mixture, threshold):
        state = f"stopped after fold 0: {format_decimal(scores[0])} < {format_decimal(threshold)}"
    elif len(known) < folds:
        state = "a fold without scored pixels"
    else:
        mean, sd = statistics.fmean(known), statistics.stdev(known)
    return LossRow(mixture.text, scores, mean, sd, state)


def _header(rows: Sequence[LossRow]) -> list[str]:
    return ["loss", *(f"fold {k}" for k in range(len(rows[0].scores))), "mean", "sd", "state"]


def _write_table(path: Path, rows: Sequence[LossRow]) -> None:
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_header(rows))
        writer.writerows([row.loss, *row.scores, row.mean, row.sd, row.state] for row in rows)


def _parse_mixture(text: str) -> str:
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        nodes = []  # parse_sum refuses it
    if any(isinstance(node, ast.Sub) for node in nodes):
        raise BadSpec(f"mixture {text!r} has a negative weight; expected weights above 0")
    return _format_sum(parse_sum(text))


def _parse_losses(text: str) -> list[Spec]:
    losses = [parse_spec(str(name)) for name in parse_spec(f"losses({text})").arguments]
    if len({str(loss) for loss in losses}) < max(2, len(losses)):
        raise BadSpec(f"losses {text!r}; expected two or more that differ, such as dice,focal")
    for loss in losses:
        check_loss(str(loss))
    return losses


def _weight_grid(losses: list[Spec], step: float) -> list[str]:
    exact = Fraction(step).limit_denominator(MIN_STEP.denominator)
    if not 0 < exact < 1 or exact.numerator != 1:
        raise BadSpec(f"step {step:g}; expected a part of 1, such as 0.5, 0.25 or 0.1")
    parts = exact.denominator
    count = comb(parts + len(losses) - 1, parts)
    if count > MAX_MIXTURES:
        raise BadSpec(
            f"{len(losses)} losses by steps of {step:g} make {count} mixtures; expected at most"
            f" {MAX_MIXTURES}: take larger steps or fewer losses"
        )
    return [
        _format_sum([(n / parts, loss) for n, loss in zip(counts, losses, strict=True) if n])
        for counts in _compositions(parts, len(losses))
    ]


def _compositions(total: int, terms: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to write a total as a sum of so many terms, 0 included."""
    if terms == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for others in _compositions(total - first, terms - 1):
            yield (first, *others)


def _format_sum(terms: list[tuple[float, Spec]]) -> str:
    return " + ".join(str(loss) if weight == 1 else f"{weight:g}*{loss}" for weight, loss in terms)
