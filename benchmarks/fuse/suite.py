"""All parts, or those asked for, in one run and one document."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.fuse import PARTS
from benchmarks.fuse.synthetic import Size
from ensemble.blas import one_blas_thread
from ensemble.pipeline.bench.timing import machine
from evaluation.core.errors import BadSpec

REFEREES = {"staple": "SimpleITK"}


def bench_fuse(size: Size, parts: Sequence[str], log: Callable[[str], None]) -> dict[str, Any]:
    """Measure fusing on drawn maps, in temporary folders.

    Args:
        size: how much, how often.
        parts: names of `PARTS`, in order.
        log: receives a line for each part.

    Returns:
        A JSON document: the machine, the sizes, and for each part what `PARTS` says.

    Raises:
        BadSpec: no such part, or one whose referee is not installed.
    """
    measures = {name: PARTS.factory(name) for name in parts}
    for name in parts:
        referee = REFEREES.get(name)
        if referee and find_spec(referee) is None:
            raise BadSpec(
                f"part {name} compares with {referee}, which is not installed; run"
                " `pip install -e '.[bench]'` in the source folder, or name other parts with --part"
            )
    found = {}
    for name, measure in measures.items():
        with TemporaryDirectory() as folder, one_blas_thread():
            found[name] = measure(size, Path(folder))
        log(f"{name} is measured")
    return {"machine": machine(), **vars(size), **found}


def as_text(document: dict[str, Any]) -> str:
    """Write what `bench_fuse` returns for people."""
    return "\n\n".join(_part(name, document[name]) for name in PARTS if name in document)


def _part(name: str, found: dict[str, Any]) -> str:
    heads = list(next(iter(found["sides"].values())))
    lines = [f"{name:34}" + "".join(f"{head:>17}" for head in heads)]
    for side, figures in found["sides"].items():
        lines.append(f"{side:34}" + "".join(f"{figures[head]:17.4g}" for head in heads))
    return "\n".join([*lines, *_facts(found)])


def _facts(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in found.items():
        if isinstance(value, dict) and name != "sides":
            lines += _facts(value)
        elif name != "sides":
            values = value if isinstance(value, list) else [value]
            written = " ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in values)
            lines.append(f"{name.replace('_', ' '):34}{written:>17}")
    return lines
