"""Train every row of the reports' tables on the real tiles: one fold each, with equal compute.

    nice .venv/bin/python benchmarks/zoo.py --run runs/reports    # resumes where it stopped
    .venv/bin/python -m benchmarks.zoo_tables                     # the results as Markdown

benchmarks/reports.yaml holds the networks; benchmarks/reports.csv the rows: the reported score, and
the network that the row is compared with. The number of epochs that fills the minutes is measured
once, by trial steps, and kept in the run's budget.json. On a CPU the minutes are the process's own,
so that other work shortens no training; on a GPU they are wall time. The rows of a network are
written as soon as it is trained.

One training says little about its recipe. With --repeats R each network is trained R times, and a
row tells whether its recipe differs from the other one: over trainings and over images.
"""

import csv
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch

from ensemble.pipeline.analysis.timing import measure_network
from ensemble.pipeline.candidates.postprocess import update_candidate
from ensemble.pipeline.data.prepare import prepare, read_folds, run_classes
from ensemble.pipeline.members.jobs import is_predicted, job_is_current, training_job
from ensemble.pipeline.members.predict import predict_members
from ensemble.pipeline.members.train import check_trainable
from ensemble.pipeline.run.experiment import Experiment, read_experiment
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.scoring.score import ScoredImages, counts_of
from evaluation.audit import audit
from evaluation.core.errors import BadRun, BadSpec, EnsError
from evaluation.core.files import atomic_file, read_json, write_json
from evaluation.core.run_folder import Run, run_lock
from evaluation.core.types import Counts
from evaluation.intervals import Interval, interval, paired_interval
from evaluation.protocols import PROTOCOLS
from evaluation.recipes import RecipeScores, compare_recipes
from evaluation.scores import CandidateScores, iou_by_name, nan_to_none
from members.data.dataset import DataSet
from members.devices import devices
from members.jobs import TrainJob, run_jobs
from members.network import NormalisedNetwork
from members.recipe import REPEATS, Member, repeat_members
from members.train import BINARY, HOLDOUT_SHARE

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results" / "zoo.csv"
GAINS = ("keras_gain", "keras_pixels", "keras_denominator", "gain")
BUDGET = "budget.json"
SPENT = "minutes.json"
EVALUATED = "validation"
TRIALS = 3
MASKED, KERAS = PROTOCOLS.build("masked"), PROTOCOLS.build("keras")
Row = dict[str, str]


@dataclass(frozen=True, eq=False)
class TimedJob:
    """Train, and write the minutes that it took next to the weights."""

    job: TrainJob

    def __call__(self, device: str) -> None:
        """Write the fold's folder; on the CPU the minutes are this process's processor time."""
        clock = time.process_time if device == "cpu" else time.perf_counter
        started = clock()
        self.job(device)
        write_json(self.job.folder / SPENT, (clock() - started) / 60)


def read_rows(path: Path) -> list[Row]:
    """Read the rows of the tables: name, reported score, network, chain, budget, rival."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def select(
    experiment: Experiment, rows: list[Row], networks: list[str]
) -> tuple[Experiment, list[Row]]:
    """Keep some networks, and the rows that are about these alone.

    Raises:
        BadSpec: no such network.
    """
    for name in networks:
        if name not in experiment.members:
            raise BadSpec(f"--only {name!r}; known are {', '.join(experiment.members)}")
    kept = {name: recipe for name, recipe in experiment.members.items() if name in networks}
    about = [row for row in rows if {row["network"], row["against"]} <= {*networks, ""}]
    return experiment.model_copy(update={"members": kept}), about


class Zoo:
    """A run in which the first fold of each network is trained.

    Args:
        run: the experiment folder.
        experiment: data and recipes.
        minutes: of each training; rows may multiply it by their `budget`.
        rows: of the tables.
        device: `cpu` or `cuda:K`.
        repeats: trainings of each network.

    Raises:
        BadRun: the run was started with other minutes or on a device of another kind.
        BadSpec: a network without a row, or a row without its network.
    """

    def __init__(
        self,
        run: Run,
        experiment: Experiment,
        minutes: float,
        rows: list[Row],
        device: str,
        repeats: int = 1,
    ) -> None:
        self.run, self.config, self.rows, self.device = run, experiment, rows, device
        self.trainings = {
            name: list(repeat_members({name: {REPEATS: repeats}}, {})[0])
            for name in experiment.members
        }
        self._scores: dict[int, dict[str, Any]] = {}
        named = {name for row in rows for name in (row["network"], row["against"]) if name}
        if unpaired := sorted(named ^ set(experiment.members)):
            raise BadSpec(f"network {unpaired[0]!r} is in only one of --experiment and --rows")
        self.minutes = {row["network"]: minutes * float(row["budget"]) for row in rows}
        settings = {"minutes": minutes, "device": device.partition(":")[0]}
        self.state: dict[str, Any] = {**settings, "epoch_seconds": {}}
        if (run.path / BUDGET).is_file():
            self.state = read_json(run.path / BUDGET)
        for key, value in settings.items():
            if self.state[key] != value:
                started = f"{run.path} was started with {key} {self.state[key]}"
                raise BadRun(f"{started}, not {value}; use that, or another --run")
        with run_lock(run.path):
            prepare(run, experiment, click.echo)
            write_json(run.path / BUDGET, self.state)
            self.data, self.fold = DataSet.load(run.data("oof")), read_folds(run)[0]
            self.experiment = self._with_epochs()

    def train(self, workers: int) -> Iterator[str]:
        """Train and predict what is missing; yield each network whose rows can now be scored.

        The run is locked only during predictions, so that rows can be scored meanwhile.

        Args:
            workers: trainings side by side.
        """
        missing = {name: self._missing(name) for name in self.config.members}
        for name, jobs in missing.items():
            if not jobs:
                _attempt(name, self._predict, name)
        yield "earlier results"
        queue = [TimedJob(job) for jobs in missing.values() for job in jobs]
        for done, error in run_jobs(queue, [self.device], workers=workers):
            name = next(name for name, jobs in missing.items() if done.job in jobs)
            if error is not None:
                click.echo(f"{name}: {error}", err=True)
                continue
            missing[name].remove(done.job)
            if not missing[name]:
                _attempt(name, self._predict, name)
                yield name

    def _missing(self, network: str) -> list[TrainJob]:
        members = [m for training in self.trainings[network] for m in self._members(training)]
        jobs = [training_job(self.run, self.experiment, member, self.fold) for member in members]
        return [job for job in jobs if not job_is_current(job)]

    def _predict(self, network: str) -> None:
        with run_lock(self.run.path):
            predict_members(
                self.run,
                [m for training in self.trainings[network] for m in self._members(training)],
                [EVALUATED],
                [self.device],
                dtype=self.experiment.store_dtype,
                workers=1,
                log=click.echo,
                folds=(self.fold,),
            )

    def results(self, changed: str) -> list[dict[str, Any]]:
        """Score the rows whose network has maps, in the order of the tables.

        Args:
            changed: network whose rows, and those compared with it, are scored again.
        """
        for index, row in enumerate(self.rows):
            known = index in self._scores and changed not in (row["network"], row["against"])
            if not known and self._is_predicted(row["network"]):
                self._scores[index] = self._score_row(row)
        return [self._scores[index] for index in sorted(self._scores)]

    def _is_predicted(self, network: str) -> bool:
        """Tell whether a network's maps exist and are current."""
        dtype = self.experiment.store_dtype
        return not self._missing(network) and all(
            is_predicted(self.run, member, EVALUATED, dtype, (self.fold,))
            for training in self.trainings[network]
            for member in self._members(training)
        )

    def _score_row(self, row: Row) -> dict[str, Any]:
        classes, members = run_classes(self.run), self._members(self.trainings[row["network"]][0])
        trainings = self._images(row["network"], row["chain"])
        images = trainings[0]
        table, ignore = images.counts.sum(axis=0), classes.ignore
        score = MASKED(table, ignore)
        minutes = [self._minutes(member) for member in members]
        return {
            **row,
            "keras": nan_to_none(float(KERAS(table, ignore).miou)),
            "masked": nan_to_none(float(score.miou)),
            **_bounds("", interval(images.counts, images.groups, MASKED, ignore)),
            **self._gain(row, trainings, float(score.miou)),
            "as_ignored": _as_ignored(table, ignore),
            **iou_by_name(score, classes),
            "training": self._training_miou(members),
            "epochs": members[0].recipe.epochs,
            "minutes": None if None in minutes else sum(minutes),
            "parameters": sum(_parameters(member, self.data) for member in members),
            "seed": self.experiment.seed,
            "recipe": json.dumps(self.config.defaults | self.config.members[row["network"]]),
        }

    def _gain(self, row: Row, trainings: list[ScoredImages], miou: float) -> dict[str, Any]:
        """Compare a row with another network, on the same images."""
        if not row["against"] or not self._is_predicted(row["against"]):
            empty = {**dict.fromkeys(GAINS), **_bounds("gain_", None), "trainings": len(trainings)}
            return {**empty, "recipe_gain": None, **_bounds("recipe_", None)}
        ignore, others = run_classes(self.run).ignore, self._images(row["against"], "")
        images, other = trainings[0], others[0]
        bounds = paired_interval(images.counts, other.counts, images.groups, MASKED, ignore)
        gain = miou - float(MASKED(other.counts.sum(axis=0), ignore).miou)
        keras = audit(KERAS, other.counts, images.counts, ignore)
        parts = (keras.after - keras.before, keras.pixels, keras.denominator, gain)
        return {
            **dict(zip(GAINS, map(nan_to_none, parts), strict=True)),
            **_bounds("gain_", bounds),
            **_recipe_gain(trainings, others, ignore),
        }

    def _images(self, network: str, chain: str) -> list[ScoredImages]:
        """Return the counts of each training of a network."""
        with run_lock(self.run.path):
            run_members = RunMembers.of(self.run)
            names = [
                update_candidate(run_members, training, chain, name=None, log=_silent)
                for training in self.trainings[network]
            ]
        return counts_of(self.run, names, split=EVALUATED, log=_silent)

    def _training_miou(self, members: list[Member]) -> float | None:
        """Return the masked mIoU on training images in the last epoch; None for specialists."""
        if len(members) > 1:
            return None
        history = self.run.model(members[0].name, self.fold.index) / "history.csv"
        return float(pd.read_csv(history)["training_miou"].iloc[-1])

    def _minutes(self, member: Member) -> Any:
        path = self.run.model(member.name, self.fold.index) / SPENT
        return read_json(path) if path.is_file() else None

    def _members(self, training: str) -> list[Member]:
        """Return the member of a training, or its specialists."""
        members = self.experiment.expanded(run_classes(self.run))
        return [member for member in members if training in (member.name, member.family)]

    def _with_epochs(self) -> Experiment:
        """Write, and return, the experiment with epochs that fill the minutes.

        A network takes as long with one loss as with another, so it is timed once: otherwise noise
        would give it more epochs in one row than in the next.
        """
        seconds: dict[str, float] = self.state["epoch_seconds"]
        recipes = {}
        for name, recipe in self.config.recipes().items():
            key = f"{recipe.trainer} {recipe.architecture}"
            if key not in seconds:
                members = Member.expand(name, recipe, self.data.classes)
                check_trainable(members, self.data, self.config.store_dtype)
                seconds[key] = sum(self._epoch_seconds(member) for member in members)
                write_json(self.run.path / BUDGET, self.state)
                click.echo(f"{key}: {seconds[key]:.1f} s an epoch")
            epochs = max(1, round(60 * self.minutes[name] / seconds[key]))
            whole = recipe.model_copy(update={"epochs": epochs, "patience": epochs})
            recipes |= dict.fromkeys(self.trainings[name], whole)
        empty = self.config.model_copy(update={"members": {}, "defaults": {}})
        experiment = empty.with_members(recipes)
        experiment.write(self.run.experiment)
        return experiment

    def _epoch_seconds(self, member: Member) -> float:
        train = len(self.fold.training) * (1 - HOLDOUT_SHARE)
        pixels = self.data.extent.take(self.fold.training).pixels * HOLDOUT_SHARE
        timings = [measure_network(member, self.data, self.device) for _ in range(TRIALS)]
        return min(t.train_step_seconds * train + t.predict_seconds * pixels for t in timings)


def _parameters(member: Member, data: DataSet) -> int:
    logits = len(data.classes) if member.label is None else BINARY
    with torch.device("meta"):
        network = NormalisedNetwork(
            member.recipe.architecture, channels=data.channels, classes=logits
        )
    return sum(parameter.numel() for parameter in network.parameters())


def _recipe_gain(
    trainings: list[ScoredImages], others: list[ScoredImages], ignore: int | None
) -> dict[str, Any]:
    """Return the gain in the mean score of a new training; None with a single training."""
    result = {"trainings": len(trainings), "recipe_gain": None, **_bounds("recipe_", None)}
    if len(trainings) < 2:
        return result
    scores = CandidateScores.of([*trainings, *others], MASKED, ignore)
    left_out = np.stack([score.miou for score in scores.left_out])
    parts = slice(len(trainings)), slice(len(trainings), None)
    after, before = (RecipeScores("", scores.mious[part], left_out[part]) for part in parts)
    difference = compare_recipes(after, before)
    bounds = _bounds("recipe_", difference.interval)
    return {**result, "recipe_gain": difference.value, **bounds}


def _as_ignored(table: Counts, ignore: int | None) -> int:
    """Count the scored pixels that are predicted as the ignored class."""
    return 0 if ignore is None else int(table[:, ignore].sum() - table[ignore, ignore])


def _bounds(prefix: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _attempt(label: str, work: Callable[..., Any], *arguments: str) -> Any:
    """Do some work; if it fails, as when another command writes into the run, say so and go on."""
    try:
        return work(*arguments)
    except EnsError as error:
        click.echo(f"{label}: {error}", err=True)
        return None


def _silent(_: str) -> None:
    pass


@click.command(help=__doc__.partition("\n")[0])
@click.option("--run", "path", type=click.Path(path_type=Path), required=True)
@click.option("--minutes", type=float, default=5, show_default=True, help="Per training.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Trainings of each network; with two or more, rows compare recipes.",
)
@click.option("--device", default="auto", show_default=True, help="A GPU if there is one.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Trainings side by side, one core each; on a GPU they slow each other down.",
)
@click.option("--experiment", type=click.Path(path_type=Path), default=HERE / "reports.yaml")
@click.option("--only", help="Networks, with commas between; by default all.")
@click.option("--rows", type=click.Path(path_type=Path), default=HERE / "reports.csv")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS)
def main(
    path: Path,
    minutes: float,
    repeats: int,
    device: str,
    workers: int,
    experiment: Path,
    only: str | None,
    rows: Path,
    out: Path,
) -> None:
    """Train what is missing, and write the results row by row."""
    try:
        recipes, table = read_experiment(experiment), read_rows(rows)
        if only:
            recipes, table = select(recipes, table, only.split(","))
        zoo = Zoo(Run(path), recipes, minutes, table, devices(device)[0], repeats)
        for name in zoo.train(workers):
            if not (results := _attempt(name, zoo.results, name)):
                continue
            with atomic_file(out) as partial:
                pd.DataFrame(results).to_csv(partial, index=False, float_format="%.4f")
            click.echo(f"{time.strftime('%H:%M')} {name}: {len(results)} of {len(zoo.rows)} rows")
    except EnsError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
