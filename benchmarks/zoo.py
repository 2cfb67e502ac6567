"""Every row of the reports' tables on the real tiles: one fold each, the same compute for all.

    nice .venv/bin/python benchmarks/zoo.py train --run runs/reports    # goes on where it stopped
    .venv/bin/python benchmarks/zoo.py table                            # the results as Markdown

Networks stand in benchmarks/reports.yaml, rows in benchmarks/reports.csv. How many epochs fill the
minutes is found once, by trying steps, and the run's budget.json keeps it. On a CPU the
minutes are its own, so that other work beside it shortens no training; on a GPU they pass on the
wall. The rows of a network are in the results as soon as it is trained.
"""

import csv
import json
import time
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch

from ensemble.pipeline.experiment import Experiment, read_experiment
from ensemble.pipeline.pace import network_pace
from ensemble.pipeline.postprocessing import make_candidate
from ensemble.pipeline.prepare import prepare, read_folds, run_classes
from ensemble.pipeline.scoring import counts_of
from ensemble.pipeline.sources import Sources
from ensemble.pipeline.training import check_trainable, is_made, predict_members, training_job
from evaluation.bootstrap import interval
from evaluation.ground.errors import BadRun, EnsError
from evaluation.ground.files import read_json, whole_file, write_json
from evaluation.ground.layout import Run
from evaluation.ground.locks import writing
from evaluation.protocols import PROTOCOLS
from evaluation.scores import iou_by_name, number
from members.data.dataset import DataSet
from members.devices import devices
from members.jobs import run_jobs
from members.network import Network
from members.recipe import Member
from members.train import BINARY, HOLDOUT_SHARE

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results" / "zoo.csv"
BUDGET = "budget.json"
EXAMINED = "validation"
TRIALS = 3
HEADS = ["report", "row", "reported", "`keras`", "`masked`", "95 % interval"]
Row = dict[str, str]


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
    """

    def __init__(
        self, run: Run, asked: Experiment, minutes: float, rows: list[Row], device: str
    ) -> None:
        self.run, self.asked, self.rows, self.device = run, asked, rows, device
        self.minutes = {row["network"]: minutes * float(row["budget"]) for row in rows}
        begun = {"minutes": minutes, "device": device.partition(":")[0]}
        self.state: dict[str, Any] = {**begun, "epoch_seconds": {}, "spent": {}}
        if (run.path / BUDGET).is_file():
            self.state = read_json(run.path / BUDGET)
        for key, value in begun.items():
            if self.state[key] != value:
                known = f"{run.path} was begun with {key} {self.state[key]}"
                raise BadRun(f"{known}, not {value}; take that, or another --run")
        with writing(run.path):
            prepare(run, asked, click.echo)
            write_json(run.path / BUDGET, self.state)
            self.data, self.fold = DataSet.load(run.data("oof")), read_folds(run)[0]
            self.experiment = self._with_epochs()

    def train(self, network: str) -> None:
        """Train a network where that is missing, and write its maps of the examined pictures."""
        run, members = self.run, self._members(network)
        with writing(run.path):
            for member in members:
                job = training_job(run, self.experiment, member, self.fold)
                if is_made(job):
                    continue
                started = self._clock()
                for _, error in run_jobs([job], [self.device], workers=1):
                    if error is not None:
                        raise error
                self.state["spent"][member.name] = (self._clock() - started) / 60
                write_json(run.path / BUDGET, self.state)
            predict_members(
                run,
                members,
                [EXAMINED],
                [self.device],
                dtype=self.experiment.store_dtype,
                workers=1,
                tell=click.echo,
                folds=(self.fold,),
            )

    def results(self, network: str) -> dict[int, dict[str, Any]]:
        """Score the rows of a network; none where it has no maps yet. By place in the tables."""
        if EXAMINED not in Sources.of(self.run).splits(network):
            return {}
        places = [place for place, row in enumerate(self.rows) if row["network"] == network]
        return {place: self._scored(self.rows[place]) for place in places}

    def _scored(self, row: Row) -> dict[str, Any]:
        run, classes, members = self.run, run_classes(self.run), self._members(row["network"])
        with writing(run.path):
            of, chain = row["network"], row["chain"]
            name = make_candidate(Sources.of(run), of, chain, name=None, tell=_silent)
        (found,) = counts_of(run, [name], split=EXAMINED, tell=_silent)
        table, ignore = found.counts.sum(axis=0), classes.ignore
        masked = PROTOCOLS.build("masked")
        score, ends = masked(table, ignore), interval(found.counts, found.groups, masked, ignore)
        spent = [self.state["spent"].get(member.name) for member in members]
        return {
            **row,
            "keras": number(float(PROTOCOLS.build("keras")(table, ignore).miou)),
            "masked": number(float(score.miou)),
            "low": ends and ends.low,
            "high": ends and ends.high,
            **iou_by_name(score, classes),
            "epochs": members[0].recipe.epochs,
            "minutes": None if None in spent else sum(spent),
            "parameters": sum(_parameters(member, self.data) for member in members),
            "seed": self.experiment.seed,
            "recipe": json.dumps(self.asked.defaults | self.asked.members[row["network"]]),
        }

    def _members(self, network: str) -> list[Member]:
        """Return the network of a name, or its specialists."""
        members = self.experiment.expanded(run_classes(self.run))
        return [member for member in members if network in (member.name, member.family)]

    def _clock(self) -> float:
        return time.process_time() if self.device == "cpu" else time.perf_counter()

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
        network = Network(member.recipe.architecture, channels=data.channels, classes=logits)
    return sum(parameter.numel() for parameter in network.parameters())


def _silent(_: str) -> None:
    pass


@click.group(help=__doc__.partition("\n")[0])
def main() -> None:
    """Hold the two commands."""


@main.command("train")
@click.option("--run", "path", type=click.Path(path_type=Path), required=True)
@click.option("--minutes", type=float, default=5, show_default=True, help="For each network.")
@click.option("--device", default="auto", show_default=True, help="A GPU where there is one.")
@click.option("--experiment", type=click.Path(path_type=Path), default=HERE / "reports.yaml")
@click.option("--rows", type=click.Path(path_type=Path), default=HERE / "reports.csv")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS)
def train(path: Path, minutes: float, device: str, experiment: Path, rows: Path, out: Path) -> None:
    """Train what is missing, and write the results row by row."""
    try:
        asked = read_experiment(experiment)
        zoo = Zoo(Run(path), asked, minutes, read_rows(rows), devices(device)[0])
    except EnsError as error:
        raise click.ClickException(str(error)) from None
    found: dict[int, dict[str, Any]] = {}
    for network in asked.members:
        found |= zoo.results(network)
    for network in asked.members:
        try:
            zoo.train(network)
        except EnsError as error:
            click.echo(f"{network}: {error}", err=True)
        found |= zoo.results(network)
        with whole_file(out) as partial:
            lines = [found[place] for place in sorted(found)]
            pd.DataFrame(lines).to_csv(partial, index=False, float_format="%.4f")
        click.echo(f"{time.strftime('%H:%M')} {network}: {len(found)} of {len(zoo.rows)} rows")


@main.command("table")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def table(results: Path) -> None:
    """Print the results as a Markdown table."""
    frame = pd.read_csv(results, dtype={"reported": str}, na_filter=False)
    columns = list(frame.columns)
    classes = columns[columns.index("high") + 1 : columns.index("epochs")]
    heads = [*HEADS, *classes, "epochs", "minutes", "parameters", "network"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for row in frame.to_dict("records"):
        chained = f"`{row['network']}`" + (f", `{row['chain']}`" if row["chain"] else "")
        about = f"{row['row']} (of {row['ablation_of']})" if row["ablation_of"] else row["row"]
        cells = [row["table"], about, row["reported"]]
        cells += [_short(row["keras"]), _short(row["masked"])]
        cells += [f"{_short(row['low'])} to {_short(row['high'])}"]
        cells += [_short(row[name]) for name in classes]
        cells += [str(row["epochs"]), f"{float(row['minutes'] or 'nan'):.1f}"]
        cells += [f"{row['parameters'] / 1e6:.2f} M", chained]
        print("| " + " | ".join(cells) + " |")


def _short(value: float | str) -> str:
    return "" if value == "" else f"{float(value):.3f}".removeprefix("0")


if __name__ == "__main__":
    main()
