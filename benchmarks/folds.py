"""Does fusion still gain when the folds of one network are averaged already?

    .venv/bin/python benchmarks/folds.py --run runs/ensemble

A member predicts new images by the mean of its fold models, but out-of-fold images by one of them.
So members look weaker on oof than on validation, and fusing them looks better. Here one split is
predicted by each fold's models alone, and by all of them. Specialists are left out; the last line
compares with the member that scores highest by all folds.
"""

from pathlib import Path

import click
import numpy as np
import torch

from ensemble.pipeline.data.prepare import read_folds, run_classes
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.strategies import STRATEGIES
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.progress import progress
from evaluation.core.run_folder import Run
from evaluation.core.types import Counts, Maps
from evaluation.formatting import format_decimal, format_interval
from evaluation.intervals import paired_interval
from evaluation.protocols import PROTOCOLS
from members.data.dataset import DataSet
from members.predict import predict
from members.recipe import Member
from members.train import load_network

MASKED = PROTOCOLS.build("masked")


@click.command(help=__doc__.partition("\n")[0])
@click.option("--run", "path", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--split", default="validation", show_default=True, help="Split to use; needs labels."
)
@click.option(
    "--strategy",
    default="geometric_mean",
    show_default=True,
    help="A strategy that learns nothing.",
)
def main(path: Path, split: str, strategy: str) -> None:
    """Print a Markdown table."""
    run = Run(path)
    members = [member for member in RunMembers.of(run).members if member.label is None]
    data, classes = DataSet.load(run.data(split)), run_classes(run)
    counts = count_by_fold(run, members, data, strategy)
    folds = counts.shape[0] - 1
    print("| | " + " | ".join([*(f"fold {k}" for k in range(folds)), "all folds"]) + " |")
    print("|---" * (folds + 2) + "|")
    for column, name in enumerate([*(member.name for member in members), strategy]):
        print(
            f"| `{name}` | "
            + " | ".join(format_decimal(miou(of_fold[column], classes)) for of_fold in counts)
            + " |"
        )
    best = max(range(len(members)), key=lambda column: miou(counts[-1, column], classes))
    gains = []
    for of_fold in counts:
        gain = miou(of_fold[-1], classes) - miou(of_fold[best], classes)
        interval = paired_interval(of_fold[-1], of_fold[best], data.groups, MASKED, classes.ignore)
        gains.append(f"{format_decimal(gain, '+')} ({format_interval(interval, '+')})")
    print(f"| over `{members[best].name}` | " + " | ".join(gains) + " |")


def count_by_fold(run: Run, members: list[Member], data: DataSet, strategy: str) -> Counts:
    """Return counts (folds and their mean, members and their fusion, image, target, pred)."""
    classes = len(data.classes)
    fuse = STRATEGIES.build(strategy, classes=classes, ignore=data.classes.ignore)
    networks = [
        [
            load_network(
                member, run.model(member.name, fold.index), channels=data.channels, classes=classes
            )
            for member in members
        ]
        for fold in read_folds(run)
    ]
    shape = (len(networks) + 1, len(members) + 1, len(data), classes, classes)
    counts = np.zeros(shape, np.int64)
    for block in progress(blocks(len(data)), "images", len(blocks(len(data)))):
        images, target = np.array(data.images[block]), np.asarray(data.target()[block])
        fold_maps: Maps = np.array(
            [
                [
                    predict(network, images, "cpu", m)
                    for network, m in zip(fold_networks, members, strict=True)
                ]
                for fold_networks in networks
            ]
        )
        for row, maps in enumerate([*fold_maps, fold_maps.mean(axis=0)]):
            for column, scores in enumerate([*maps, fuse(maps)]):
                counts[row, column, block] = confusion(target, argmax(scores), classes=classes)
    return counts


def miou(counts: Counts, classes: Classes) -> float:
    """Return the masked mIoU of counts (image, target, pred)."""
    return float(MASKED(counts.sum(axis=0), classes.ignore).miou)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
