"""Fusion compared with reading the same bytes and with other tools."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.command import run_command
from benchmarks.fuse import COMPARISONS, Workload
from ensemble.blas import one_blas_thread
from ensemble.cli.options import json_option, log, print_result, rounds_option
from ensemble.pipeline.bench.timing import machine
from evaluation.core.errors import BadSpec
from evaluation.core.progress import Log

REFERENCE_TOOLS = {"staple": "SimpleITK"}


@click.command("fuse")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(list(COMPARISONS)),
    help="Only this comparison; repeatable.",
)
@click.option(
    "--members", type=click.IntRange(2), default=10, show_default=True, help="Number of members."
)
@click.option(
    "--images", type=click.IntRange(4), default=2000, show_default=True, help="Images per member."
)
@click.option(
    "--pixels",
    type=click.IntRange(1 << 16),
    default=4_000_000,
    show_default=True,
    help="Training pixels of stacking.",
)
@rounds_option(7)
@json_option
def fuse(
    parts: tuple[str, ...], members: int, images: int, pixels: int, rounds: int, as_json: bool
) -> None:
    """Measure fusion on synthetic maps of 5 x 64 x 128; needs 5 GB of disk per 1,000 images.

    Stacking is measured on --pixels, peak memory also on ten times the images.
    """
    workload = Workload(members, images, pixels, rounds)
    document = bench_fuse(workload, list(dict.fromkeys(parts)) or list(COMPARISONS), log)
    print_result(format_fuse(document), document, as_json=as_json)


def bench_fuse(workload: Workload, parts: Sequence[str], log: Log) -> dict[str, Any]:
    """Run comparisons in temporary folders, on one thread of linear algebra.

    Args:
        workload: how much, how often.
        parts: names of `COMPARISONS`, in order.
        log: receives a line for each comparison.

    Returns:
        A JSON document: the machine, the workload, and the result of each comparison.

    Raises:
        BadSpec: no such comparison, or its reference tool is not installed.
    """
    comparisons = {name: COMPARISONS.factory(name) for name in parts}
    for name in parts:
        tool = REFERENCE_TOOLS.get(name)
        if tool and find_spec(tool) is None:
            raise BadSpec(
                f"part {name} compares with {tool}, which is not installed; run"
                " `pip install -e '.[bench]'` in the source folder, or name other parts with --part"
            )
    results = {}
    for name, measure in comparisons.items():
        with TemporaryDirectory() as folder, one_blas_thread():
            results[name] = measure(workload, Path(folder)).to_dict()
        log(f"{name} is measured")
    return {"machine": machine(), **vars(workload), **results}


def format_fuse(document: dict[str, Any]) -> str:
    """Return what `bench_fuse` returns as one table per comparison."""
    tables = []
    for name in COMPARISONS:
        if name in document:
            facts = dict(document[name])
            sides = facts.pop("sides")
            heads = list(next(iter(sides.values())))
            lines = [f"{name:34}" + "".join(f"{head:>17}" for head in heads)]
            for side, figures in sides.items():
                lines.append(f"{side:34}" + "".join(f"{figures[head]:17.4g}" for head in heads))
            tables.append("\n".join([*lines, *_format_facts(facts)]))
    return "\n\n".join(tables)


def _format_facts(facts: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += _format_facts(value)
        else:
            values = value if isinstance(value, list) else [value]
            text = " ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in values)
            lines.append(f"{name.replace('_', ' '):34}{text:>17}")
    return lines


if __name__ == "__main__":
    run_command(fuse, "benchmarks.fuse")
