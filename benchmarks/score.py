"""Confusion counts beside reading the same labels once, torchmetrics and scikit-learn.

`ens bench score`: confusion counts beside reading the labels once and beside other scorers.
"""

import warnings
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from ensemble.cli.options import (
    json_option,
    log,
    print_result,
    rounds_option,
)
from ensemble.pipeline.bench.timing import compared, in_turns, machine
from evaluation.confusion import confusion
from evaluation.core.errors import BadRun
from evaluation.core.types import Array, Labels

CLASSES, ROWS, COLS = 5, 64, 128
SQUARE_PX = 16
NOISE = 0.1
SEED = 0
PASS, READ, OURS = "one pass", "only read", "ours"


def bench_score(images: int, rounds: int, log: Callable[[str], None]) -> dict[str, Any]:
    """Time ways of counting the same label maps, in turns, each in one thread.

    One pass is the sum of all labels of both arrays (`target.sum()`, `pred.sum()`), which reads
    every label once and adds it up; only to read them, `max()` takes a twentieth of that. Ours
    counts each image by itself, as a bootstrap over images needs; torchmetrics and scikit-learn
    make one table of all of them, and torchmetrics called image by image stands beside.

    Args:
        images: how many, 64 x 128 of 5 classes, uint8.
        rounds: how often each side is timed.
        log: gets a line for what is being done.

    Returns:
        A JSON document: the machine, the sizes, what a pass is, and for each side seconds and
        ratios to ours: `ratio` of medians, `ratio_of_minima`; `passes`: our time in passes.

    Raises:
        BadRun: torchmetrics or scikit-learn is not installed.
    """
    target, pred = _drawn(images)
    sides = _sides(target, pred)
    _check(sides)
    log(f"{len(sides)} ways count the same; they are timed")
    found = compared(in_turns(sides, rounds), OURS)
    return {
        "machine": machine(),
        "threads": 1,
        "images": images,
        "shape": [ROWS, COLS],
        "classes": CLASSES,
        "rounds": rounds,
        "one_pass": "target.sum() and prediction.sum(): every label of both arrays is read and added up",
        "only_read": "target.max() and prediction.max(): as little as can be done with every label",
        "sides": found,
        "passes": 1 / found[PASS]["ratio"],
        "passes_of_minima": 1 / found[PASS]["ratio_of_minima"],
    }


def _drawn(images: int) -> tuple[Labels, Labels]:
    """Draw squares of one class each, as labels have them, and a prediction with wrong pixels."""
    rng = np.random.default_rng(SEED)
    shape = (images, ROWS // SQUARE_PX, COLS // SQUARE_PX)
    squares = rng.integers(0, CLASSES, shape, dtype=np.uint8)
    target = np.ascontiguousarray(squares.repeat(SQUARE_PX, axis=1).repeat(SQUARE_PX, axis=2))
    other = rng.integers(0, CLASSES, target.shape, dtype=np.uint8)
    return target, np.where(rng.random(target.shape) < NOISE, other, target)


def _sides(target: Labels, pred: Labels) -> dict[str, Callable[[], Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
            from sklearn.metrics import confusion_matrix
            from torchmetrics.functional.classification import multiclass_confusion_matrix
    except ImportError as error:
        raise BadRun(
            f"{error.name} is not installed; run `pip install -e '.[bench]'` in the source folder"
        ) from None
    torch.set_num_threads(1)
    t, g = torch.from_numpy(target).long(), torch.from_numpy(pred).long()

    def each_image() -> Array:
        tables = [
            multiclass_confusion_matrix(mine, theirs, CLASSES)
            for mine, theirs in zip(g, t, strict=True)
        ]
        return np.stack(tables)

    return {
        PASS: lambda: (target.sum(), pred.sum()),
        READ: lambda: (target.max(), pred.max()),
        OURS: lambda: confusion(target, pred, classes=CLASSES),
        "torchmetrics": lambda: np.asarray(multiclass_confusion_matrix(g, t, CLASSES)),
        "torchmetrics, by image": each_image,
        "scikit-learn": lambda: confusion_matrix(
            target.ravel(), pred.ravel(), labels=np.arange(CLASSES)
        ),
    }


def _check(sides: dict[str, Callable[[], Any]]) -> None:
    """See that all sides count the same."""
    counts = sides[OURS]()
    for name, count in sides.items():
        if name not in (PASS, READ, OURS):
            table = count()
            ours = counts if table.ndim == 3 else counts.sum(axis=0)
            assert np.array_equal(table, ours), f"{name} counts otherwise"


def as_text(document: dict[str, Any]) -> str:
    """Write what `bench_score` returns for people."""
    lines = [f"{document['images']} images; one pass: {document['one_pass']}"]
    lines.append(f"{'':26}{'median ms':>12}{'x ours':>9}{'of minima':>11}")
    for name, found in document["sides"].items():
        lines.append(
            f"{name:26}{1000 * found['median_s']:12.3f}{found['ratio']:9.2f}"
            f"{found['ratio_of_minima']:11.2f}"
        )
    passes, minima = document["passes"], document["passes_of_minima"]
    return "\n".join([*lines, f"ours takes {passes:.2f} passes ({minima:.2f} of minima)"])


@click.command("score", short_help="Confusion counts against other scorers.")
@click.option(
    "--images", type=click.IntRange(1), default=1024, show_default=True, help="How many images."
)
@rounds_option(7)
@json_option
def score(images: int, rounds: int, as_json: bool) -> None:
    """Time confusion counts of drawn label maps, 64 x 128, 5 classes, on one thread."""
    document = bench_score(images, rounds, log)
    print_result(as_text(document), document, as_json=as_json)
