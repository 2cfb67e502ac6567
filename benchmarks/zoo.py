"""Every row of the reports' tables on the real tiles: one fold each, the same compute for all.

    nice .venv/bin/python benchmarks/zoo.py --run runs/reports    # goes on where it stopped
    .venv/bin/python -m benchmarks.zoo_tables                     # the results as Markdown

Networks stand in benchmarks/reports.yaml, rows in benchmarks/reports.csv: what each was reported to
score, and against which other network it is to be held. How many epochs fill the minutes is found
once, by trying steps, and the run's budget.json keeps it. On a CPU the minutes are a core's own, so
that other work beside it shortens no training; on a GPU they pass on the wall. The rows of a
network are in the results as soon as it is trained.
"""

import csv
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch

from ensemble.pipeline.analysis.timing import network_pace
from ensemble.pipeline.candidates.postprocess import update_candidate
from ensemble.pipeline.data.prepare import prepare, read_folds, run_classes
from ensemble.pipeline.members.train import (
    check_trainable,
    is_predicted,
    predict_members,
    training_job,
    weights_are_current,
)
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
from evaluation.scores import iou_by_name, number
from members.data.dataset import DataSet
from members.devices import devices
from members.jobs import TrainJob, run_jobs
from members.network import NormalisedNetwork
from members.recipe import Member
from members.train import BINARY, HOLDOUT_SHARE

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results" / "zoo.csv"
GAINS = ("keras_gain", "keras_pixels", "keras_denominator", "gain")
BUDGET = "budget.json"
SPENT = "minutes.json"
EXAMINED = "validation"
TRIALS = 3
MASKED, KERAS = PROTOCOLS.build("masked"), PROTOCOLS.build("keras")
Row = dict[str, str]


@dataclass(frozen=True, eq=False)
class Timed:
    """Train, and leave beside the weights how many minutes it took."""

    job: TrainJob

    def __call__(self, device: str) -> None:
        """Write the fold's folder; on the CPU the minutes are this process's own."""
        clock = time.process_time if device == "cpu" else time.perf_counter
        started = clock()
        self.job(device)
        write_json(self.job.folder / SPENT, (clock() - started) / 60)


def read_rows(path: Path) -> list[Row]:
    """Read what each row is called, what it was reported to score, and what it is made of."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Zoo:
    """A run in which the first fold of each network is trained.

    Args:
        run: the experiment folder.
        asked: data and recipes.
        minutes: that each network is trained for; where its rows say so, a multiple.
        rows: of the tables.
        device: `cpu` or `cuda:K`.

    Raises:
        BadRun: the run was begun with other minutes or on a device of another kind.
        BadSpec: a network without a row, or a row without its network.
    """

    def __init__(
        self, run: Run, asked: Experiment, minutes: float, rows: list[Row], device: str
    ) -> None:
        self.run, self.asked, self.rows, self.device = run, asked, rows, device
        self._scores: dict[int, dict[str, Any]] = {}
        named = {name for row in rows for name in (row["network"], row["against"]) if name}
        if odd := sorted(named ^ set(asked.members)):
            raise BadSpec(f"networks and rows do not go together; {odd[0]!r} is in one of them")
        self.minutes = {row["network"]: minutes * float(row["budget"]) for row in rows}
        begun = {"minutes": minutes, "device": device.partition(":")[0]}
        self.state: dict[str, Any] = {**begun, "epoch_seconds": {}}
        if (run.path / BUDGET).is_file():
            self.state = read_json(run.path / BUDGET)
        for key, value in begun.items():
            if self.state[key] != value:
                known = f"{run.path} was begun with {key} {self.state[key]}"
                raise BadRun(f"{known}, not {value}; take that, or another --run")
        with run_lock(run.path):
            prepare(run, asked, click.echo)
            write_json(run.path / BUDGET, self.state)
            self.data, self.fold = DataSet.load(run.data("oof")), read_folds(run)[0]
            self.experiment = self._with_epochs()

    def train(self, workers: int) -> Iterator[str]:
        """Train and predict what is missing; say what the results can be written of.

        The run is not locked meanwhile, but for each prediction, so that rows can be scored.

        Args:
            workers: trainings side by side.
        """
        left = {name: self._missing(name) for name in self.asked.members}
        for name, jobs in left.items():
            if not jobs:
                _told(name, self._predict, name)
        yield "what was there"
        waiting = [Timed(job) for jobs in left.values() for job in jobs]
        for done, error in run_jobs(waiting, [self.device], workers=workers):
            name = next(name for name, jobs in left.items() if done.job in jobs)
            if error is not None:
                click.echo(f"{name}: {error}", err=True)
                continue
            left[name].remove(done.job)
            if not left[name]:
                _told(name, self._predict, name)
                yield name

    def _missing(self, network: str) -> list[TrainJob]:
        members = self._members(network)
        jobs = [training_job(self.run, self.experiment, member, self.fold) for member in members]
        return [job for job in jobs if not weights_are_current(job)]

    def _predict(self, network: str) -> None:
        with run_lock(self.run.path):
            predict_members(
                self.run,
                self._members(network),
                [EXAMINED],
                [self.device],
                dtype=self.experiment.store_dtype,
                workers=1,
                log=click.echo,
                folds=(self.fold,),
            )

    def results(self, changed: str) -> list[dict[str, Any]]:
        """Score the rows whose network has maps, in the order of the tables.

        Args:
            changed: the network whose rows, and whose rivals', are scored again; others once.
        """
        for place, row in enumerate(self.rows):
            known = place in self._scores and changed not in (row["network"], row["against"])
            if not known and self._is_predicted(row["network"]):
                self._scores[place] = self._scored(row)
        return [self._scores[place] for place in sorted(self._scores)]

    def _is_predicted(self, network: str) -> bool:
        """Tell whether a network's maps are there, and would come out the same today."""
        dtype = self.experiment.store_dtype
        return not self._missing(network) and all(
            is_predicted(self.run, member, EXAMINED, (self.fold,), dtype)
            for member in self._members(network)
        )

    def _scored(self, row: Row) -> dict[str, Any]:
        classes, members = run_classes(self.run), self._members(row["network"])
        found = self._images(row["network"], row["chain"])
        table, ignore = found.counts.sum(axis=0), classes.ignore
        score = MASKED(table, ignore)
        spent = [self._spent(member) for member in members]
        return {
            **row,
            "keras": number(float(KERAS(table, ignore).miou)),
            "masked": number(float(score.miou)),
            **_ends("", interval(found.counts, found.groups, MASKED, ignore)),
            **self._gain(row["against"], found, float(score.miou)),
            "as_ignored": _as_ignored(table, ignore),
            **iou_by_name(score, classes),
            "training": self._fitted(members),
            "epochs": members[0].recipe.epochs,
            "minutes": None if None in spent else sum(spent),
            "parameters": sum(_parameters(member, self.data) for member in members),
            "seed": self.experiment.seed,
            "recipe": json.dumps(self.asked.defaults | self.asked.members[row["network"]]),
        }

    def _gain(self, against: str, found: ScoredImages, miou: float) -> dict[str, Any]:
        """Hold a row against another network, on the same images."""
        if not against or not self._is_predicted(against):
            return {**dict.fromkeys(GAINS), **_ends("gain_", None)}
        ignore, other = run_classes(self.run).ignore, self._images(against, "")
        ends = paired_interval(found.counts, other.counts, found.groups, MASKED, ignore)
        gain = miou - float(MASKED(other.counts.sum(axis=0), ignore).miou)
        keras = audit(KERAS, other.counts, found.counts, ignore)
        parts = (keras.after - keras.before, keras.pixels, keras.denominator, gain)
        return {**dict(zip(GAINS, map(number, parts), strict=True)), **_ends("gain_", ends)}

    def _images(self, network: str, chain: str) -> ScoredImages:
        with run_lock(self.run.path):
            name = update_candidate(RunMembers.of(self.run), network, chain, name=None, log=_silent)
        (found,) = counts_of(self.run, [name], split=EXAMINED, log=_silent)
        return found

    def _fitted(self, members: list[Member]) -> float | None:
        """Return how well a network knew its training images in its last epoch, by `masked`."""
        if len(members) > 1:  # of two classes each
            return None
        history = self.run.model(members[0].name, self.fold.index) / "history.csv"
        return float(pd.read_csv(history)["training_miou"].iloc[-1])

    def _spent(self, member: Member) -> Any:
        path = self.run.model(member.name, self.fold.index) / SPENT
        return read_json(path) if path.is_file() else None

    def _members(self, network: str) -> list[Member]:
        """Return the network of a name, or its specialists."""
        members = self.experiment.expanded(run_classes(self.run))
        return [member for member in members if network in (member.name, member.family)]

    def _with_epochs(self) -> Experiment:
        """Write, and return, the experiment with epochs that fill the minutes.

        A network takes as long under one loss as under another: it is tried once, lest the noise
        of its pace give it more epochs in one row than in the next.
        """
        paces: dict[str, float] = self.state["epoch_seconds"]
        lasting = {}
        for name, recipe in self.asked.recipes().items():
            key = f"{recipe.procedure} {recipe.architecture}"
            if key not in paces:
                members = Member.expand(name, recipe, self.data.classes)
                check_trainable(members, self.data)
                paces[key] = sum(self._epoch_seconds(member) for member in members)
                write_json(self.run.path / BUDGET, self.state)
                click.echo(f"{key}: {paces[key]:.1f} s an epoch")
            epochs = max(1, round(60 * self.minutes[name] / paces[key]))
            lasting[name] = recipe.model_copy(update={"epochs": epochs, "patience": epochs})
        emptied = self.asked.model_copy(update={"members": {}, "defaults": {}})
        experiment = emptied.with_members(lasting)
        experiment.write(self.run.experiment)
        return experiment

    def _epoch_seconds(self, member: Member) -> float:
        held = len(self.fold.training) * HOLDOUT_SHARE
        learnt = len(self.fold.training) - held
        paces = [network_pace(member, self.data, self.device) for _ in range(TRIALS)]
        return min(pace.learn_seconds * learnt + pace.predict_seconds * held for pace in paces)


def _parameters(member: Member, data: DataSet) -> int:
    logits = len(data.classes) if member.label is None else BINARY
    with torch.device("meta"):
        network = NormalisedNetwork(
            member.recipe.architecture, channels=data.channels, classes=logits
        )
    return sum(parameter.numel() for parameter in network.parameters())


def _as_ignored(table: Counts, ignore: int | None) -> int:
    """Count the scored pixels that are predicted as the class that is not."""
    return 0 if ignore is None else int(table[:, ignore].sum() - table[ignore, ignore])


def _ends(prefix: str, ends: Interval | None) -> dict[str, float | None]:
    low, high = (ends.low, ends.high) if ends else (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}


def _told(what: str, work: Callable[..., Any], *arguments: str) -> Any:
    """Do some work; tell what prevents it, such as another verb at work in the run, and go on."""
    try:
        return work(*arguments)
    except EnsError as error:
        click.echo(f"{what}: {error}", err=True)
        return None


def _silent(_: str) -> None:
    pass


@click.command(help=__doc__.partition("\n")[0])
@click.option("--run", "path", type=click.Path(path_type=Path), required=True)
@click.option("--minutes", type=float, default=5, show_default=True, help="For each network.")
@click.option("--device", default="auto", show_default=True, help="A GPU where there is one.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Trainings side by side; a core each, while on a GPU they take time from each other.",
)
@click.option("--experiment", type=click.Path(path_type=Path), default=HERE / "reports.yaml")
@click.option("--rows", type=click.Path(path_type=Path), default=HERE / "reports.csv")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS)
def main(
    path: Path,
    minutes: float,
    device: str,
    workers: int,
    experiment: Path,
    rows: Path,
    out: Path,
) -> None:
    """Train what is missing, and write the results row by row."""
    try:
        asked = read_experiment(experiment)
        zoo = Zoo(Run(path), asked, minutes, read_rows(rows), devices(device)[0])
        for what in zoo.train(workers):
            if not (found := _told(what, zoo.results, what)):
                continue
            with atomic_file(out) as partial:
                pd.DataFrame(found).to_csv(partial, index=False, float_format="%.4f")
            click.echo(f"{time.strftime('%H:%M')} {what}: {len(found)} of {len(zoo.rows)} rows")
    except EnsError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
