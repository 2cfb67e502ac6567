"""Confusion counts compared with reading the labels once, torchmetrics and scikit-learn.

.venv/bin/python -m benchmarks.score
"""

import warnings
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from benchmarks.command import run_command
from benchmarks.synthetic import CLASSES, COLS, ROWS
from ensemble.cli.options import json_option, log, print_result, rounds_option
from ensemble.pipeline.bench.timing import compared, interleaved, machine
from evaluation.confusion import confusion
from evaluation.core.errors import BadRun
from evaluation.core.progress import Log
from evaluation.core.types import Array, Labels

SQUARE_PX = 16
NOISE = 0.1
SEED = 0
PASS, READ, OURS = "one pass", "only read", "ours"


@click.command("score")
@click.option(
    "--images", type=click.IntRange(1), default=1024, show_default=True, help="Number of images."
)
@rounds_option(7)
@json_option
def score(images: int, rounds: int, as_json: bool) -> None:
    """Time confusion counts of synthetic label maps, 64 x 128, 5 classes, on one thread."""
    document = bench_score(images, rounds, log)
    print_result(format_score(document), document, as_json=as_json)


def bench_score(images: int, rounds: int, log: Log) -> dict[str, Any]:
    """Time ways of counting the same label maps, in turns, each in one thread.

    One pass is the sum of all labels of both arrays (`target.sum()`, `pred.sum()`), which reads
    every label once and adds it up; only to read them, `max()` takes a twentieth of that. Ours
    counts per image, as a bootstrap over images needs; torchmetrics and scikit-learn make one table
    of all images, and torchmetrics is also called image by image.

    Args:
        images: number of label maps, 64 x 128 of 5 classes, uint8.
        rounds: measurements per contender.
        log: receives a line of progress.

    Returns:
        A JSON document: the machine, the sizes, what a pass is, and for each contender seconds and
        ratios to ours: `ratio` of medians, `ratio_of_minima`; `passes`: our time in passes.

    Raises:
        BadRun: torchmetrics or scikit-learn is not installed.
    """
    target, pred = _draw_labels(images)
    contenders = _contenders(target, pred)
    _check_counts(contenders)
    log(f"{len(contenders)} contenders give the same counts; timing them")
    sides = compared(interleaved(contenders, rounds), OURS)
    return {
        "machine": machine(),
        "threads": 1,
        "images": images,
        "shape": [ROWS, COLS],
        "classes": CLASSES,
        "rounds": rounds,
        "one_pass": "target.sum() and pred.sum(): every label of both arrays is read and added up",
        "only_read": "target.max() and pred.max(): as little as can be done with every label",
        "sides": sides,
        "passes": 1 / sides[PASS]["ratio"],
        "passes_of_minima": 1 / sides[PASS]["ratio_of_minima"],
    }


def _draw_labels(images: int) -> tuple[Labels, Labels]:
    """Draw squares of one class each, as in real labels, and a prediction with wrong pixels."""
    rng = np.random.default_rng(SEED)
    shape = (images, ROWS // SQUARE_PX, COLS // SQUARE_PX)
    squares = rng.integers(0, CLASSES, shape, dtype=np.uint8)
    target = np.ascontiguousarray(squares.repeat(SQUARE_PX, axis=1).repeat(SQUARE_PX, axis=2))
    other = rng.integers(0, CLASSES, target.shape, dtype=np.uint8)
    return target, np.where(rng.random(target.shape) < NOISE, other, target)


def _contenders(target: Labels, pred: Labels) -> dict[str, Callable[[], Any]]:
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
    t, p = torch.from_numpy(target).long(), torch.from_numpy(pred).long()

    def image_by_image() -> Array:
        pairs = zip(p, t, strict=True)
        return np.stack([multiclass_confusion_matrix(*pair, CLASSES) for pair in pairs])

    return {
        PASS: lambda: (target.sum(), pred.sum()),
        READ: lambda: (target.max(), pred.max()),
        OURS: lambda: confusion(target, pred, classes=CLASSES),
        "torchmetrics": lambda: np.asarray(multiclass_confusion_matrix(p, t, CLASSES)),
        "torchmetrics, by image": image_by_image,
        "scikit-learn": lambda: confusion_matrix(
            target.ravel(), pred.ravel(), labels=np.arange(CLASSES)
        ),
    }


def _check_counts(contenders: dict[str, Callable[[], Any]]) -> None:
    """Check that all contenders give the same counts."""
    counts = contenders[OURS]()
    for name, count in contenders.items():
        if name not in (PASS, READ, OURS):
            table = count()
            ours = counts if table.ndim == 3 else counts.sum(axis=0)
            assert np.array_equal(table, ours), f"counts of {name} differ"


def format_score(document: dict[str, Any]) -> str:
    """Return what `bench_score` returns as a table."""
    lines = [f"{document['images']} images; one pass: {document['one_pass']}"]
    lines.append(f"{'':26}{'median ms':>12}{'x ours':>9}{'of minima':>11}")
    for name, side in document["sides"].items():
        lines.append(
            f"{name:26}{1000 * side['median_s']:12.3f}{side['ratio']:9.2f}"
            f"{side['ratio_of_minima']:11.2f}"
        )
    passes, minima = document["passes"], document["passes_of_minima"]
    return "\n".join([*lines, f"ours takes {passes:.2f} passes ({minima:.2f} of minima)"])


if __name__ == "__main__":
    run_command(score, "benchmarks.score")
