"""How much each stage of an ensemble gives on images that chose nothing, with intervals.

    .venv/bin/python -m benchmarks.stages --run RUN --split S --stages STAGES.yaml

A stage is a candidate of the run, or a member's network of the first fold alone. Its gain is over
the stage before it, or over the one that `over` names: paired, under two definitions of the score,
with one interval over groups of images and one over sites: groups whose names begin alike, since
neighbouring positions of one site resemble each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from ensemble.cli.options import json_option, print_result
from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.scoring.score import counts_of
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadSpec, EnsError
from evaluation.core.files import atomic_file
from evaluation.core.progress import progress
from evaluation.core.run_folder import Run
from evaluation.core.safe_yaml import read_yaml
from evaluation.core.types import Groups
from evaluation.formatting import format_decimal, format_interval
from evaluation.intervals import LEVEL, Interval, interval, paired_interval
from evaluation.protocols import PROTOCOLS, Protocol
from evaluation.report.figures import Estimate, dot_rows
from evaluation.report.svg import standalone
from evaluation.scores import ScoredImages
from members.data.dataset import DataSet
from members.predict import predict
from members.train import load_network

DEFINITIONS = ("masked", "keras")


@dataclass(frozen=True)
class Stage:
    """A candidate, or one network, and what it is compared with.

    Args:
        name: of the stage.
        candidate: of the run; None for one network.
        network: the member whose network of the first fold labels alone.
        over: name of an earlier stage; None is the stage before.
    """

    name: str
    candidate: str | None = None
    network: str | None = None
    over: str | None = None


def read_stages(path: Path) -> list[Stage]:
    """Read a list of stages.

    Raises:
        BadSpec: not a list of mappings with a name and one of `candidate` and `network`.
    """
    content = read_yaml(path, "a file of stages")
    try:
        stages = [Stage(**entry) for entry in content]
    except TypeError as error:
        raise BadSpec(f"{path}: {error}; expected a list of name, candidate or network") from None
    for index, stage in enumerate(stages):
        if (stage.candidate is None) == (stage.network is None):
            raise BadSpec(f"{path}: stage {stage.name!r}; expected candidate or network")
        if stage.over not in {None, *(before.name for before in stages[:index])}:
            raise BadSpec(f"{path}: {stage.name!r} is over {stage.over!r}, no stage before it")
    return stages


def count_network(run: Run, member: str, split: str) -> ScoredImages:
    """Count what the network of a member's first fold labels by itself."""
    known = {one.name: one for one in RunMembers.of(run).members}
    if member not in known:
        raise BadSpec(f"no member {member!r} in {run.path}; known: {', '.join(known)}")
    one = known[member]
    data, fold = DataSet.load(run.data(split)), read_folds(run)[0]
    classes = len(data.classes)
    network = load_network(
        one, run.model(member, fold.index), channels=data.channels, classes=classes
    )
    tables = []
    parts = blocks(data.extent)
    for block in progress(parts, member, len(parts)):
        maps = predict(network, np.array(data.images[block]), "cpu", one)
        target = np.asarray(data.target()[block])
        tables.append(confusion(target, argmax(maps), classes=classes))
    return ScoredImages(np.concatenate(tables), data.ids, data.group_names())


def count_stages(run: Run, stages: Sequence[Stage], split: str) -> list[ScoredImages]:
    """Return the counts of every stage; candidates that are missing are made."""
    log = partial(click.echo, err=True)
    names = [stage.candidate for stage in stages if stage.candidate is not None]
    by_name = dict(zip(names, counts_of(run, names, split=split, log=log), strict=True))
    return [
        by_name[stage.candidate]
        if stage.candidate is not None
        else count_network(run, str(stage.network), split)
        for stage in stages
    ]


def compare_stages(
    stages: Sequence[Stage], counted: Sequence[ScoredImages], *, ignore: int | None, prefix: int
) -> list[dict[str, Any]]:
    """Return scores and gains of each stage.

    Args:
        stages: in order.
        counted: their counts, of the same images.
        ignore: the ignored class.
        prefix: groups whose names share so many first characters are of one site.
    """
    groups = np.asarray(counted[0].groups).astype(str)
    by = {"groups": groups, "sites": np.array([name[:prefix] for name in groups])}
    rows = []
    for index, stage in enumerate(stages):
        row: dict[str, Any] = {"stage": stage.name, "candidate": stage.candidate or stage.network}
        if index:
            names = [other.name for other in stages]
            before = counted[index - 1 if stage.over is None else names.index(stage.over)]
            row["over"] = stage.over or names[index - 1]
        for definition in DEFINITIONS:
            protocol = PROTOCOLS.build(definition)
            row[definition] = _score(counted[index], protocol, ignore)
            row[f"{definition}_intervals"] = {
                key: _ends(interval(counted[index].counts, each, protocol, ignore))
                for key, each in by.items()
            }
            if index:
                row[f"{definition}_gain"] = row[definition] - _score(before, protocol, ignore)
                row[f"{definition}_gain_intervals"] = {
                    key: _paired(counted[index], before, each, protocol, ignore)
                    for key, each in by.items()
                }
        rows.append(row)
    return rows


def _score(scored: ScoredImages, protocol: Protocol, ignore: int | None) -> float:
    return float(protocol(scored.counts.sum(axis=0), ignore).miou)


def _paired(
    scored: ScoredImages,
    before: ScoredImages,
    groups: Groups,
    protocol: Protocol,
    ignore: int | None,
) -> list[float] | None:
    return _ends(paired_interval(scored.counts, before.counts, groups, protocol, ignore))


def _ends(found: Interval | None) -> list[float] | None:
    return None if found is None else [found.low, found.high]


def format_stages(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    lines = [
        "| stage | `masked` | gain | by group | by site | `keras` | gain |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["stage"], format_decimal(row["masked"])]
        if "over" in row:
            intervals = row["masked_gain_intervals"]
            cells += [format_decimal(row["masked_gain"], "+")]
            cells += [_words(intervals[key]) for key in ("groups", "sites")]
            cells += [format_decimal(row["keras"]), format_decimal(row["keras_gain"], "+")]
        else:
            cells += ["", "", "", format_decimal(row["keras"]), ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _words(ends: list[float] | None) -> str:
    return "" if ends is None else format_interval(Interval(*ends, LEVEL), "+")


def draw_stages(rows: Sequence[dict[str, Any]]) -> str:
    """Draw the gains with their intervals as an SVG document."""
    columns = {
        "masked, over groups": ("masked", "groups"),
        "masked, over sites": ("masked", "sites"),
        "keras, over groups": ("keras", "groups"),
    }
    gained = [row for row in rows if "over" in row]
    estimates = {
        name: [
            Estimate(row[f"{key}_gain"], *(row[f"{key}_gain_intervals"][by] or ()))
            for row in gained
        ]
        for name, (key, by) in columns.items()
    }
    names = [row["stage"] for row in gained]
    drawn = dot_rows("stages", names, estimates, what="stage", axis="gain in mIoU")
    return standalone(drawn.svg)


@click.command(help=__doc__.partition("\n")[0])
@click.option("--run", "path", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--split", default="validation", show_default=True)
@click.option("--stages", type=click.Path(path_type=Path), required=True)
@click.option("--prefix", type=click.IntRange(1), default=4, show_default=True,
              help="Characters of a group's name that say its site.")  # fmt: skip
@click.option("--figure", type=click.Path(path_type=Path), help="A new SVG file of the gains.")
@json_option
def main(
    path: Path, split: str, stages: Path, prefix: int, figure: Path | None, as_json: bool
) -> None:
    """Count, compare, print and draw."""
    try:
        run, chosen = Run(path), read_stages(stages)
        counted = count_stages(run, chosen, split)
        ignore = DataSet.load(run.data(split)).classes.ignore
        rows = compare_stages(chosen, counted, ignore=ignore, prefix=prefix)
        if figure is not None:
            with atomic_file(figure) as partial_file:
                partial_file.write_text(draw_stages(rows), encoding="utf-8")
    except EnsError as error:
        raise click.ClickException(str(error)) from None
    print_result(format_stages(rows), rows, as_json=as_json)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
