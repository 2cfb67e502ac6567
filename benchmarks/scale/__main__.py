"""Images per second and peak memory by number of images, and what 100 million would take."""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from benchmarks.command import run_command
from benchmarks.memory import peak_mb
from benchmarks.scale.scan import RESULT, write_stores
from benchmarks.scale.workers import bench_workers, format_workers
from benchmarks.synthetic import CLASSES, COLS, ROWS
from ensemble.cli.options import json_option, log, print_result, rounds_option
from ensemble.pipeline.bench.timing import machine
from evaluation.core.blocks import BLOCK_IMAGES
from evaluation.core.progress import Log
from members.codecs import StoreDtype

START = "from benchmarks.scale.scan import main; main()"
SYNTHETIC = "drawn"
DTYPES: tuple[StoreDtype, ...] = ("uint8", "float16")
MODEL_IMAGES, CORES = 100_000_000, 1_000
COUNT_BYTES = CLASSES * CLASSES * np.dtype(np.int32).itemsize


@dataclass(frozen=True)
class ScaleConfig:
    """Sizes to scan, and how often.

    Args:
        members: number of fused members.
        drawn: numbers of images whose maps are synthetic, in memory.
        stored: numbers of images whose maps are on disk.
        rounds: scans of each size, in turns.
        on_workers: number of images that worker processes label; 0 for none.
    """

    members: int
    drawn: tuple[int, ...]
    stored: tuple[int, ...]
    rounds: int
    on_workers: int = 0


@dataclass(frozen=True)
class _ScanInput:
    source: str
    images: int
    folder: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.source} {self.images}"


@click.command("scale")
@click.option(
    "--members", type=click.IntRange(1), default=10, show_default=True, help="Number of members."
)
@click.option(
    "--images",
    "drawn",
    type=click.IntRange(1),
    multiple=True,
    help="Images per scan of synthetic maps in memory; repeatable. [default: 1000, 10000, 100000]",
)
@click.option(
    "--stored",
    type=click.IntRange(0),
    multiple=True,
    help="Images per scan of stores on disk, uint8 and float16; repeatable."
    " [default: 1000, 4000] 0 for none.",
)
@rounds_option(3)
@click.option(
    "--on-workers",
    type=click.IntRange(0),
    default=8192,
    show_default=True,
    help="Images that 1, 2 and 4 worker processes label; 0 for none.",
)
@json_option
def scale(
    members: int,
    drawn: tuple[int, ...],
    stored: tuple[int, ...],
    rounds: int,
    on_workers: int,
    as_json: bool,
) -> None:
    """Measure fuse, suppress_background and score on maps of 5 x 64 x 128, and extrapolate.

    Each scan is a fresh process. Stores of 10 members take 1.2 GB of disk per 1,000 images. At
    the end, postprocess with a dense CRF by worker processes: speed, and labels against threads'.
    """
    on_disk = tuple(size for size in stored or (1000, 4000) if size)
    config = ScaleConfig(members, drawn or (1000, 10_000, 100_000), on_disk, rounds, on_workers)
    document = bench_scale(config, log)
    print_result(format_scale(document), document, as_json=as_json)


def bench_scale(config: ScaleConfig, log: Log) -> dict[str, Any]:
    """Scan from maps to scores at each size, every scan in a fresh process.

    Args:
        config: sizes, and how often.
        log: receives a line for what is done.

    Returns:
        A JSON document: the machine, the sizes; `sides`, of each source and size the images and
        CPU seconds per image and the peak of anonymous memory; `spread`, by source, the largest
        over the smallest of each; `model`, see `cost_model`; `workers`, see `bench_workers`.

    Raises:
        BadRun: the system does not report the memory of processes.
    """
    with TemporaryDirectory() as folder:
        inputs = _prepare_inputs(config, Path(folder), log)
        scans: dict[str, list[dict[str, Any]]] = {each.name: [] for each in inputs}
        for number in range(config.rounds):
            # Another input begins each round, so that all see the machine at the same load.
            first = number % len(inputs)
            for each in inputs[first:] + inputs[:first]:
                scans[each.name].append(_scan(each, config.members, Path(folder)))
            log(f"round {number + 1} of {config.rounds} is done")
    sides = {each.name: _figures(each, scans[each.name]) for each in inputs}
    sources = dict.fromkeys(each.source for each in inputs)
    return {
        "machine": machine(),
        **vars(config),
        "sides": sides,
        "spread": {source: _spread(sides, source) for source in sources},
        "model": cost_model(sides, config.members),
        "workers": bench_workers(config.on_workers, config.rounds) if config.on_workers else None,
    }


def cost_model(sides: dict[str, dict[str, Any]], members: int) -> dict[str, int | float]:
    """Extrapolate from the largest scan of stores, or of synthetic maps if there is none.

    Time and bytes are taken to be proportional to images, which the scans show as far as they
    go, and cores of a cluster to be as fast as this machine's when all of them work. A disk's and
    a network's time is not in it: `gigabytes_a_second` says what they would have to deliver.

    Args:
        sides: see `bench_scale`.
        members: number of fused members.

    Returns:
        `images`; `map_bytes_per_image`, over all members; `cpu_ms_per_image`; then of all:
        `terabytes_of_maps`, `terabytes_of_target`, `core_hours`, `hours_on_1000_cores`,
        `gigabytes_a_second` that 1,000 cores would read; `blocks`, one task each; `store_files`, a
        chunk and a marker for each block and member; `gigabytes_of_counts` per candidate.
    """
    stored = [side for side in sides.values() if side["source"] != SYNTHETIC]
    side = max(stored or list(sides.values()), key=lambda side: side["images"])
    map_bytes = members * CLASSES * ROWS * COLS * (1 if side["source"] == "uint8" else 2)
    core_hours = MODEL_IMAGES * side["cpu_ms_per_image"] / 1000 / 3600
    blocks = -(-MODEL_IMAGES // BLOCK_IMAGES)
    return {
        "images": MODEL_IMAGES,
        "map_bytes_per_image": map_bytes,
        "cpu_ms_per_image": side["cpu_ms_per_image"],
        "terabytes_of_maps": MODEL_IMAGES * map_bytes / 1e12,
        "terabytes_of_target": MODEL_IMAGES * ROWS * COLS / 1e12,
        "core_hours": core_hours,
        "hours_on_1000_cores": core_hours / CORES,
        "gigabytes_a_second": MODEL_IMAGES * map_bytes / 1e9 / (core_hours / CORES * 3600),
        "blocks": blocks,
        "store_files": 2 * members * blocks,
        "gigabytes_of_counts": MODEL_IMAGES * COUNT_BYTES / 1e9,
    }


def _prepare_inputs(config: ScaleConfig, folder: Path, log: Log) -> list[_ScanInput]:
    inputs = [_ScanInput(SYNTHETIC, images) for images in config.drawn]
    for dtype in DTYPES:
        for images in config.stored:
            stores = folder / f"{dtype}-{images}"
            write_stores(stores, config.members, images, dtype)
            log(f"{config.members} {dtype} stores of {images} images are written")
            inputs.append(_ScanInput(dtype, images, stores))
    return inputs


def _scan(scan_input: _ScanInput, members: int, folder: Path) -> dict[str, Any]:
    stores = [] if scan_input.folder is None else [str(scan_input.folder)]
    arguments = [str(members), str(scan_input.images), *stores]
    memory = peak_mb([sys.executable, "-c", START, *arguments], folder, name="scan")
    return {**json.loads((folder / RESULT).read_text(encoding="utf-8")), "peak_mb": memory}


def _figures(scan_input: _ScanInput, scans: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return medians, and the best speed, since other work on the machine only slows."""
    speeds = [scan_input.images / scan["wall_s"] for scan in scans]
    return {
        "source": scan_input.source,
        "images": scan_input.images,
        "images_a_second": statistics.median(speeds),
        "images_a_second_best": max(speeds),
        "cpu_ms_per_image": 1000 * min(scan["cpu_s"] for scan in scans) / scan_input.images,
        "peak_mb": statistics.median(scan["peak_mb"] for scan in scans),
        "miou": scans[0]["miou"],
    }


def _spread(sides: dict[str, dict[str, Any]], source: str) -> dict[str, float]:
    of_source = [side for side in sides.values() if side["source"] == source]
    keys = ("images_a_second", "images_a_second_best", "cpu_ms_per_image", "peak_mb")
    return {key: max(s[key] for s in of_source) / min(s[key] for s in of_source) for key in keys}


def format_scale(document: dict[str, Any]) -> str:
    """Return what `bench_scale` returns as tables."""
    columns = {
        "images/s": "images_a_second",
        "best": "images_a_second_best",
        "CPU ms/image": "cpu_ms_per_image",
        "peak MB": "peak_mb",
    }
    lines = [f"{'':24}" + "".join(f"{head:>13}" for head in columns)]
    spread = {f"spread, {source}": side for source, side in document["spread"].items()}
    for name, side in {**document["sides"], **spread}.items():
        lines.append(f"{name:24}" + "".join(f"{side[key]:13.4g}" for key in columns.values()))
    model = document["model"]
    lines += ["", f"{model['images']:,} images of {document['members']} members would take:"]
    lines += [f"  {name.replace('_', ' '):40}{model[name]:12.4g}" for name in list(model)[1:]]
    if document["workers"]:
        lines += ["", format_workers(document["workers"])]
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(scale, "benchmarks.scale")
