"""A contact sheet of the labels over two options of a chain, with the score of each value."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.run.open_run import RunMembers, check_metric_defined, run_metric
from ensemble.pipeline.tuning.refits import open_oof
from ensemble.pipeline.tuning.selection import GainTest
from ensemble.pipeline.tuning.space import ChainSpace
from evaluation.confusion import confusion
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadSpec
from evaluation.core.ragged import Stack, empty_stack, extent_of
from evaluation.core.run_folder import OOF, Run
from evaluation.core.specs import Spec, parse_spec
from evaluation.core.types import Array
from evaluation.run_metric import metric_label
from members.data.cleaning.id_lists import indices_of
from members.data.contact_sheet import write_sheet
from members.data.dataset import DataSet
from members.maps import MapReader
from postproc.chain import Chain, StepContext
from postproc.postprocess import postprocess

EXAMPLE = "crf.bilateral_sxy=5,15,30"

SHOWN_RANKS = (0.05, 0.2)
"""Images shown by default: ranks by how much changes over the grid, as shares of all images."""


@dataclass(frozen=True)
class GridAxis:
    """An option of a step, and its values."""

    step: str
    option: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class GridResult:
    """What a figure shows; scores of chains, row by row, and of the argmax are on all images.

    `protocol` is the run's metric.
    """

    out: str
    of: str
    chain: str
    images: list[str]
    cells: int
    plain: float
    scores: list[list[float]]
    protocol: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def draw_grid(
    run: Run,
    source: str,
    axes: Sequence[str],
    *,
    chain: str,
    images: Sequence[str] = (),
    out: Path,
) -> GridResult:
    """Write a new PNG of the labels of out-of-fold images over two options of a chain.

    Args:
        run: the experiment folder.
        source: name of the fusion or member.
        axes: two of `STEP.OPTION=A,B,...`: the rows, and the columns.
        chain: that has the steps; empty for the steps of the axes alone.
        images: ids of images to show; by default two on which much changes over the grid.
        out: the file.
    """
    if out.suffix != ".png" or out.exists():
        raise BadSpec(f"--out {out}; expected a new file that ends in .png")
    rows, cols = (read_axis(text) for text in axes)
    data = DataSet.load(run.data(OOF))
    maps = open_oof(RunMembers.of(run), source, data)
    metric = run_metric(run)
    check_metric_defined(run, metric, OOF)
    space = ChainSpace({}, StepContext(len(maps.classes), maps.classes.ignore, maps.floor))
    specs = list(space.parse(chain).specs)
    specs = specs or [Spec(name) for name in dict.fromkeys([rows.step, cols.step])]
    chains = [
        [space.chain(with_options(specs, (rows, r), (cols, c))) for c in cols.values]
        for r in rows.values
    ]
    if chains[0][0].learns:
        raise BadSpec(f"chain {chains[0][0]} learns; write the values it learned, or leave it out")
    named = indices_of(images, data.ids, OOF)
    plain = _label(space.chain([]), maps, data)
    scores, changed = _score_cells(chains, plain, maps, data, metric)
    shown = named or _typical_changes(changed)
    names = [data.ids[index] for index in shown]
    cells = len(rows.values) * len(cols.values)
    text = str(chains[0][0])
    result = GridResult(
        str(out), source, text, names, cells, _score(plain, data, metric), scores, metric
    )
    panels = {"target": data.target(), f"argmax {result.plain:.3f}": plain}
    _write(out, (rows, cols), chains, result, panels, maps, data, shown)
    return result


def _score_cells(
    chains: Sequence[Sequence[Chain]], plain: Stack, maps: MapReader, data: DataSet, metric: str
) -> tuple[list[list[float]], Array]:
    """Return the score of each chain, and per image how many pixels they change, summed."""
    changed = np.zeros(len(data), np.int64)
    scores: list[list[float]] = []
    for line in chains:
        scores.append([])
        for cell in line:
            labels = _label(cell, maps, data)
            scores[-1].append(_score(labels, data, metric))
            changed += changed_pixels(labels, plain)
    return scores, changed


def changed_pixels(labels: Stack, plain: Stack) -> Array:
    """Return the number of pixels of each image whose labels differ."""
    counts = [
        (labels[block] != plain[block]).sum(axis=(1, 2)) for block in blocks(extent_of(plain))
    ]
    return np.concatenate(counts)


def read_axis(text: str) -> GridAxis:
    """Read `STEP.OPTION=A,B,...`.

    Raises:
        BadSpec: anything else.

    Examples:
        >>> read_axis("crf.iterations=2,5")
        GridAxis(step='crf', option='iterations', values=(2, 5))
    """
    path, equals, values = text.partition("=")
    step, dot, option = path.strip().partition(".")
    if not (equals and dot and step.isidentifier() and option.isidentifier()):
        raise BadSpec(f"--grid {text!r}; expected STEP.OPTION=A,B,... such as {EXAMPLE}")
    given = parse_spec(f"{step}({option}=[{values}])").options[option]
    if not given:
        raise BadSpec(f"--grid {text!r} names no value; expected {EXAMPLE}")
    return GridAxis(step, option, tuple(given))


def with_options(specs: Sequence[Spec], *chosen: tuple[GridAxis, Any]) -> list[Spec]:
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


def _label(chain: Chain, maps: MapReader, data: DataSet) -> Stack:
    labels = empty_stack(data.extent, np.uint8)
    for block, values in postprocess(maps, chain, images=data.images):
        labels[block] = values
    return labels


def _score(labels: Stack, data: DataSet, metric: str) -> float:
    test = GainTest(data.classes, np.array(data.ids), metric)
    return test.score(confusion(data.target(), labels, classes=len(data.classes)))


def _typical_changes(changed: Array) -> list[int]:
    """Return the indices of images that change more than most, but are not the extremes."""
    order = np.argsort(-changed, kind="stable")
    return list(dict.fromkeys(int(order[int(share * len(order))]) for share in SHOWN_RANKS))


def _write(
    out: Path,
    axes: tuple[GridAxis, GridAxis],
    chains: list[list[Chain]],
    result: GridResult,
    panels: dict[str, Stack],
    maps: MapReader,
    data: DataSet,
    shown: Sequence[int],
) -> None:
    """Draw a line per shown image and value of the rows."""
    rows, cols = axes
    columns: dict[str, list[Array]] = {f"{cols.option}={value}": [] for value in cols.values}
    captions, label = [], metric_label(result.protocol)
    for index in shown:
        block = slice(index, index + 1)
        for value, line, scores in zip(rows.values, chains, result.scores, strict=True):
            for cells, chain in zip(columns.values(), line, strict=True):
                cells.append(chain(maps.read(block), np.asarray(data.images[block]))[0])
            text = ", ".join(f"{score:.3f}" for score in scores)
            captions.append(f"{data.ids[index]}  {rows.option}={value}  {label}: {text}")
    repeated = np.repeat(np.array(shown), len(rows.values))
    drawn = {name: [labels[index] for index in repeated] for name, labels in panels.items()}
    drawn |= columns
    images = [data.images[index] for index in repeated]
    write_sheet(out, images, drawn, classes=data.classes, captions=captions)
