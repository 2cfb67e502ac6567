"""An image of what a chain gives over two options: images, target, argmax, then the grid.

One option of a step and its values, from the command line into a chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.run.open_run import OOF, RunMembers
from ensemble.pipeline.tuning.selection import Judge
from ensemble.pipeline.tuning.space import ChainSpace
from evaluation.confusion import confusion
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.run_folder import Run
from evaluation.core.specs import Spec, parse_spec
from evaluation.core.types import Array, Labels
from members.data.contact_sheet import write_sheet
from members.data.dataset import DataSet
from members.maps import MapReader
from postproc.chain import Chain, StepContext, parse_chain
from postproc.postprocess import postprocess

EXAMPLE = "crf.bilateral_sxy=5,15,30"


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


def named(rows: Axis, cols: Axis) -> list[Spec]:
    """Return the steps of two axes, each once, with nothing set."""
    return [Spec(name) for name in dict.fromkeys([rows.step, cols.step])]


def with_options(specs: Sequence[Spec], *chosen: tuple[Axis, Any]) -> list[Spec]:
    """Set options of the steps in a chain.

    Raises:
        BadSpec: the chain has no such step.
    """
    for axis, value in chosen:
        if all(spec.name != axis.step for spec in specs):
            raise BadSpec(f"--grid {axis.step}.{axis.option}; --chain has no step {axis.step!r}")
        specs = [
            Spec(spec.name, spec.arguments, {**spec.options, axis.option: value})
            if spec.name == axis.step
            else spec
            for spec in specs
        ]
    return list(specs)


SHOWN = (0.05, 0.2)
"""Places of the images shown, in the order of how much changes, as shares of all."""


@dataclass(frozen=True)
class Drawn:
    """What is drawn.

    Args:
        rows: the option whose values go down.
        cols: the option whose values go across.
        chains: row by row.
        scores: theirs.
        plain_score: of the argmax.
        plain: its labels.
    """

    rows: Axis
    cols: Axis
    chains: list[list[Chain]]
    scores: list[list[float]]
    plain_score: float
    plain: Labels


def draw_grid(
    run: Run,
    source: str,
    axes: Sequence[str],
    *,
    chain: str,
    images: Sequence[str] = (),
    out: Path,
) -> dict[str, Any]:
    """Write a PNG of what a chain gives of out-of-fold maps over two options.

    The scores are of all images.

    Args:
        run: the experiment folder.
        source: name of the fusion or member.
        axes: two of `STEP.OPTION=A,B,...`: the rows, and the columns.
        chain: what the options are set in; empty for the steps that are named.
        images: ids of those to show; by default two of which much changes over the grid.
        out: the file.

    Returns:
        `out`, `of`, `chain`, `images` shown, `cells`, the score `plain` and `scores`, row by row.

    Raises:
        BadSpec: axes that cannot be read, or a chain that learns.
        BadRun: no out-of-fold maps, or no such image.
    """
    if out.suffix != ".png" or out.exists():
        raise BadSpec(f"--out {out}; expected a new file that ends in .png")
    rows, cols = (read_axis(text) for text in axes)
    maps, data = RunMembers.of(run).open(source, OOF), DataSet.load(run.data(OOF))
    if maps.ids != data.ids:
        raise BadRun(f"{source!r} has maps of other images than {OOF}; make them again")
    around = StepContext(len(maps.classes), maps.classes.ignore, maps.floor)
    parsed = parse_chain(chain, classes=around.classes, ignore=around.ignore, floor=around.floor)
    specs, space = list(parsed.specs) or named(rows, cols), ChainSpace({}, around)
    chains = [
        [space.chain(with_options(specs, (rows, r), (cols, c))) for c in cols.values]
        for r in rows.values
    ]
    if chains[0][0].learns:
        raise BadSpec(f"chain {chains[0][0]} learns; write what it has learned, or leave it out")
    unknown = sorted(set(images) - set(data.ids))
    if unknown:
        raise BadRun(f"no image {unknown[0]!r} in {OOF}; known: {data.ids[0]}, ...")
    plain = _labelled(space.chain([]), maps, data)
    looked = [[_looked(one, maps, data, plain) for one in line] for line in chains]
    scores = [[score for score, _ in line] for line in looked]
    changed = np.sum([changes for line in looked for _, changes in line], axis=0)
    shown = [data.ids.index(name) for name in images] or _telling(changed)
    drawn = Drawn(rows, cols, chains, scores, _score(plain, data), plain)
    _write(out, drawn, maps, data, shown)
    return {
        "out": str(out),
        "of": source,
        "chain": str(chains[0][0]),
        "images": [data.ids[place] for place in shown],
        "cells": len(rows.values) * len(cols.values),
        "plain": drawn.plain_score,
        "scores": scores,
    }


def _labelled(chain: Chain, maps: MapReader, data: DataSet) -> Labels:
    labels: Labels = np.empty((len(data), *data.shape), np.uint8)
    for block, part in postprocess(maps.read, len(data), chain, images=data.images):
        labels[block] = part
    return labels


def _looked(chain: Chain, maps: MapReader, data: DataSet, plain: Labels) -> tuple[float, Array]:
    """Return a chain's score, and how many pixels it changes in each image."""
    labels = _labelled(chain, maps, data)
    return _score(labels, data), (labels != plain).sum(axis=(1, 2))


def _score(labels: Labels, data: DataSet) -> float:
    judge = Judge(data.classes, np.array(data.ids))
    return judge.score(confusion(data.target(), labels, classes=len(data.classes)))


def _telling(changed: Array) -> list[int]:
    """Return the places of images that change more than most, but are none of the oddest."""
    order = np.argsort(-changed, kind="stable")
    return list(dict.fromkeys(int(order[int(share * len(order))]) for share in SHOWN))


def _write(out: Path, drawn: Drawn, maps: MapReader, data: DataSet, shown: Sequence[int]) -> None:
    """Draw a line for each shown image and value of the rows."""
    across = drawn.cols.values
    columns: dict[str, list[Array]] = {f"{drawn.cols.option}={value}": [] for value in across}
    captions = []
    for place in shown:
        at = slice(place, place + 1)
        for value, line, scores in zip(drawn.rows.values, drawn.chains, drawn.scores, strict=True):
            for cells, chain in zip(columns.values(), line, strict=True):
                cells.append(chain(maps.read(at), np.asarray(data.images[at]))[0])
            named = ", ".join(f"{score:.3f}" for score in scores)
            captions.append(f"{data.ids[place]}  {drawn.rows.option}={value}  masked mIoU: {named}")
    rows = np.repeat(np.array(shown), len(drawn.rows.values))
    panels = {"target": data.target()[rows], f"argmax {drawn.plain_score:.3f}": drawn.plain[rows]}
    panels |= {name: np.stack(cells) for name, cells in columns.items()}
    images = np.asarray(data.images[rows])
    write_sheet(out, images, panels, classes=data.classes, captions=captions)
