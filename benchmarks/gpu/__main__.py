"""Measure on a GPU, part by part; a JSON line is printed as soon as something is known.

    python -m benchmarks.gpu --device cuda:0 --tiles gpu-files/tiles.npz > gpu.jsonl
    python -m benchmarks.gpu --device cpu --tiny          # a rehearsal
    python -m benchmarks.gpu --prepare gpu-files          # wheels and tiles for such a machine

Each part runs in a process of its own, with its own time limit, so that one that hangs or breaks
the GPU leaves the others. Together they take at most `--seconds`.
"""

import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

LIMIT_S = 480
PARTS = {
    "c": ("steps:rates", 75),
    "d": ("trainings:together", 75),
    "b": ("steps:against_cpu", 45),
    "a": ("steps:every_entry", 90),
    "i": ("runs:failing_jobs", 40),
    "g": ("runs:whole_run", 90),
    "f": ("trainings:dense_crf", 45),
    "h": ("runs:on_dask", 60),
    "e": ("trainings:precisions", 90),
}
"""Module and function of each part, and its limit in seconds; in the order of their worth."""

TINY_FACTOR = 4
"""A rehearsal may take longer: it often runs beside other work."""


@click.command()
@click.option("--device", default="cuda:0", show_default=True)
@click.option("--tiny", is_flag=True, help="Sizes of a rehearsal.")
@click.option("--tiles", type=Path, help="What --prepare wrote; by default drawn tiles.")
@click.option("--parts", default="".join(PARTS), show_default=True, help="Letters, in order.")
@click.option("--seconds", default=LIMIT_S, show_default=True, help="For all parts together.")
@click.option("--alone", is_flag=True, hidden=True, help="Run the part in this process.")
@click.option("--prepare", type=Path, help="Write wheels and tiles to this folder, and stop.")
@click.option("--data", type=Path, help="A data set to take tiles from, for --prepare.")
def main(
    device: str,
    tiny: bool,
    tiles: Path | None,
    parts: str,
    seconds: int,
    alone: bool,
    prepare: Path | None,
    data: Path | None,
) -> None:
    """Measure trainings, predictions and the dense CRF on a GPU."""
    if prepare is not None:
        from benchmarks.gpu.prepare import prepare_files

        click.echo(prepare_files(prepare, data))
        return
    if alone:
        run_part(parts, device, tiny, tiles)
        return
    _print({"machine": platform.platform(), "python": platform.python_version()})
    words = ["--device", device, *(["--tiny"] if tiny else [])]
    words += ["--tiles", str(tiles)] if tiles else []
    end = time.monotonic() + seconds
    for part in parts:
        limit = min(PARTS[part][1] * (TINY_FACTOR if tiny else 1), end - time.monotonic())
        if limit > 1:
            _run_limited(part, words, limit)
        else:
            _print({"part": part, "error": "no time left"})


def run_part(part: str, device: str, tiny: bool, tiles: Path | None) -> None:
    """Run a part in this process; print its rows."""
    import torch

    from benchmarks.gpu.setting import Setting

    module, function = PARTS[part][0].split(":")
    measure = getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)
    name = torch.cuda.get_device_name(device) if device != "cpu" else "cpu"
    started = time.perf_counter()
    try:
        for row in measure(Setting(device, tiny, tiles)):
            _print({"part": part, **row})
    except ImportError as error:
        _print({"part": part, "error": str(error)})
    took = round(time.perf_counter() - started, 1)
    _print({"part": part, "done": True, "device": name, "torch": torch.__version__, "s": took})


def _run_limited(part: str, words: list[str], limit: float) -> None:
    """Run a part in a process of its own, and end it with all of its children after a limit."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--alone", "--parts", part, *words]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _print({"part": part, "error": f"stopped after {limit:.0f} s"})
            return
    if code:
        _print({"part": part, "error": f"ended with code {code}"})


def _print(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
