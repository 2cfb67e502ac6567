"""A picture of what a chain gives over two options: pictures, truth, argmax, then the grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.folds import OOF
from ensemble.pipeline.sources import Sources
from ensemble.pipeline.tuning.judge import Judge
from ensemble.pipeline.tuning.space import ChainSpace
from evaluation.counts import confusion
from evaluation.ground.arrays import Array, Labels
from evaluation.ground.errors import BadRun, BadSpec
from evaluation.ground.layout import Run
from evaluation.ground.specs import Spec, parse_spec
from members.data.dataset import DataSet
from members.data.sheet import write_sheet
from postproc.chain import Chain, Surroundings, parse_chain
from postproc.postprocess import postprocess

EXAMPLE = "crf.bilateral_sxy=5,15,30"
SHOWN = 2


@dataclass(frozen=True)
class Axis:
    """One option and its values.

    Args:
        step: its name.
        option: of the step.
        values: to be shown.
    """

    step: str
    option: str
    values: tuple[Any, ...]


def draw_grid(
    run: Run, source: str, axes: Sequence[str], *, chain: str, out: Path
) -> dict[str, Any]:
    """Write a PNG of what a chain gives of out-of-fold maps over two options.

    Shown are the pictures whose labels differ most over the grid; the score of each cell is of all
    pictures.

    Args:
        run: the experiment folder.
        source: name of the fusion or member.
        axes: two of `STEP.OPTION=A,B,...`: the rows, and the columns.
        chain: what the options are set in; empty for the steps that are named.
        out: the file.

    Returns:
        `out`, `of`, `chain`, `cells` and `scores`, row by row.

    Raises:
        BadSpec: axes that cannot be read, or a chain that learns.
        BadRun: no out-of-fold maps.
    """
    if out.suffix != ".png" or out.exists():
        raise BadSpec(f"--out {out}; expected a new file that ends in .png")
    rows, cols = (read_axis(text) for text in axes)
    maps, data = Sources.of(run).open(source, OOF), DataSet.load(run.data(OOF))
    if maps.ids != data.ids:
        raise BadRun(f"{source!r} has maps of other pictures than {OOF}; make them again")
    around = Surroundings(len(maps.classes), maps.classes.ignore, maps.floor)
    parsed = parse_chain(chain, classes=around.classes, ignore=around.ignore, floor=around.floor)
    specs, space = list(parsed.specs) or _named(rows, cols), ChainSpace({}, around)
    chains = [
        [space.chain(_set(specs, (rows, r), (cols, c))) for c in cols.values] for r in rows.values
    ]
    if chains[0][0].learns:
        raise BadSpec(f"chain {chains[0][0]} learns; write what it has learned, or leave it out")
    plain = _labelled(space.chain([]), maps, data)
    labels = [[_labelled(one, maps, data) for one in line] for line in chains]
    judge = Judge(data.classes, np.array(data.ids), 0)
    scores = [[_score(judge, data, found) for found in line] for line in [*labels, [plain]]]
    _write(out, data, rows, cols, plain, labels, scores)
    return {
        "out": str(out),
        "of": source,
        "chain": str(chains[0][0]),
        "cells": len(rows.values) * len(cols.values),
        "plain": scores.pop()[0],
        "scores": scores,
    }


def read_axis(text: str) -> Axis:
    """Read `STEP.OPTION=A,B,...`.

    Raises:
        BadSpec: anything else.
    """
    path, equals, values = text.partition("=")
    step, dot, option = path.strip().partition(".")
    if not (equals and dot and step.isidentifier() and option.isidentifier()):
        raise BadSpec(f"--grid {text!r}; expected STEP.OPTION=A,B,... such as {EXAMPLE}")
    given = parse_spec(f"{step}({option}=[{values}])").options[option]
    if not given:
        raise BadSpec(f"--grid {text!r} names no value; expected {EXAMPLE}")
    return Axis(step, option, tuple(given))


def _named(rows: Axis, cols: Axis) -> list[Spec]:
    return [Spec(name) for name in dict.fromkeys([rows.step, cols.step])]


def _set(specs: list[Spec], *chosen: tuple[Axis, Any]) -> list[Spec]:
    for axis, value in chosen:
        if all(spec.name != axis.step for spec in specs):
            raise BadSpec(f"--grid {axis.step}.{axis.option}; --chain has no step {axis.step!r}")
        specs = [
            Spec(spec.name, spec.arguments, {**spec.options, axis.option: value})
            if spec.name == axis.step
            else spec
            for spec in specs
        ]
    return specs


def _labelled(chain: Chain, maps: Any, data: DataSet) -> Labels:
    labels: Labels = np.empty((len(data), *data.shape), np.uint8)
    for block, part in postprocess(maps.read, len(data), chain, pictures=data.pictures):
        labels[block] = part
    return labels


def _score(judge: Judge, data: DataSet, labels: Labels) -> float:
    return judge.score(confusion(np.asarray(data.truth()), labels, classes=len(data.classes)))


def _write(
    out: Path,
    data: DataSet,
    rows: Axis,
    cols: Axis,
    plain: Labels,
    labels: list[list[Labels]],
    scores: list[list[float]],
) -> None:
    """Draw a line for each shown picture and value of the rows."""
    shown = np.repeat(_telling(plain, labels), len(rows.values))
    line = np.tile(np.arange(len(rows.values)), len(shown) // len(rows.values))
    columns = {"truth": data.truth()[shown], f"argmax {scores[-1][0]:.3f}": plain[shown]}
    for j, value in enumerate(cols.values):
        cells = [labels[i][j][place] for i, place in zip(line, shown, strict=True)]
        columns[f"{cols.option}={value}"] = np.stack(cells)
    captions = [
        f"{data.ids[place]}  {rows.option}={rows.values[i]}  mIoU of all pictures: "
        + "  ".join(f"{score:.3f}" for score in scores[i])
        for i, place in zip(line, shown, strict=True)
    ]
    pictures = np.asarray(data.pictures[shown])
    write_sheet(out, pictures, columns, classes=data.classes, captions=captions)


def _telling(plain: Labels, labels: list[list[Labels]]) -> Array:
    """Return the places of the pictures whose pixels change most over the grid."""
    changes = sum((found != plain).sum(axis=(1, 2)) for line in labels for found in line)
    spread = (labels[0][0] != labels[-1][-1]).sum(axis=(1, 2))
    places: Array = np.argsort(-(changes + spread), kind="stable")[:SHOWN]
    return places
