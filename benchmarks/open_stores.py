"""Seconds to open ten stores of a million images, in a process of its own.

.venv/bin/python -m benchmarks.open_stores
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.command import run_command
from ensemble.cli.options import json_option, print_result, rounds_option
from ensemble.pipeline.bench.timing import machine
from evaluation.core.classes import numbered
from evaluation.core.ragged import Extent
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds

FOLDS = 3
OPEN = """
import sys, time
from pathlib import Path
from members.store import ProbabilityStore
folders = [Path(name) for name in sys.argv[1:]]
wall, cpu = time.perf_counter(), time.process_time()
stores = [ProbabilityStore(folder) for folder in folders]
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


@click.command("open_stores")
@click.option("--images", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--members", type=click.IntRange(1), default=10, show_default=True)
@rounds_option(3)
@json_option
def open_stores(images: int, members: int, rounds: int, as_json: bool) -> None:
    """Time the opening of out-of-fold stores, without their maps, by the best of some processes."""
    with TemporaryDirectory() as folder:
        folders = [Path(folder) / str(member) / "oof" for member in range(members)]
        for each in folders:
            _write(each, images)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        commands = [[sys.executable, "-c", OPEN, *map(str, folders)] for _ in range(rounds)]
        times = [subprocess.check_output(one, text=True).split() for one in commands]
    document: dict[str, Any] = {
        "machine": machine(),
        "images": images,
        "members": members,
        "seconds": min(float(wall) for wall, _ in times),
        "cpu_seconds": min(float(cpu) for _, cpu in times),
        "mb_on_disk": size / 1e6,
    }
    text = (
        f"{members} stores of {images:,} images open in {document['seconds']:.2f} s"
        f" ({document['cpu_seconds']:.2f} s of processor time, {size / 1e6:.0f} MB of metadata)"
    )
    print_result(text, document, as_json=as_json)


def _write(folder: Path, images: int) -> None:
    ids = [f"i{number:07}" for number in range(images)]
    models = tuple(
        frozenset(name for number, name in enumerate(ids) if number % FOLDS != fold)
        for fold in range(FOLDS)
    )
    ProbabilityStore.create(
        folder,
        ids=ids,
        classes=numbered(5, ignore=0),
        extent=Extent.uniform(images, (64, 128)),
        seen=TrainingIds(models, tuple(number % FOLDS for number in range(images))),
        dtype="compact",
    )


if __name__ == "__main__":
    run_command(open_stores, "benchmarks.open_stores")
