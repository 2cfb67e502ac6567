"""The dense CRF compared with pydensecrf: speed, and distance from the exact mean field.

.venv/bin/python -m benchmarks.crf
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import click
import numpy as np

from benchmarks.command import run_command
from benchmarks.inputs import BenchInputs, inputs_options, photo_inputs
from ensemble.blas import one_blas_thread
from ensemble.cli.options import json_option, log, print_result, rounds_option
from ensemble.pipeline.bench.timing import compared, interleaved, machine
from evaluation.core.blocks import map_blocks
from evaluation.core.progress import Log
from evaluation.core.types import Map
from postproc.dense_crf.exact import MAX_PIXELS
from postproc.dense_crf.model import RGB
from postproc.step import Step
from postproc.steps import STEPS

LIBRARY, DEFAULT, HIGH = "pydensecrf", "ours", "ours, quality=high"
CONTENDERS = {
    LIBRARY: {"backend": "pydensecrf"},
    DEFAULT: {"backend": "ours"},
    HIGH: {"backend": "ours", "quality": "high"},
}
TORCH = "torch"
SXY, SRGB = (5, 10, 15, 30, 60), (5, 13, 30)
CROP_ROWS = 96
# With fewer images the mean error depends on one or two that have not converged.
SWEEP_IMAGES, SWEEP_ROUNDS = 12, 3
THREADS = 2
BLOCK_IMAGES = 4


@click.command("crf")
@inputs_options(images=24)
@rounds_option(7)
@click.option("--sweep/--no-sweep", default=True, show_default=True, help="Sweep sxy and srgb.")
@click.option(
    "--colour/--no-colour", default=True, show_default=True, help="Colour photographs too."
)
@click.option("--torch", is_flag=True, help="The torch backend too.")
@json_option
def crf(
    inputs: BenchInputs, rounds: int, sweep: bool, colour: bool, torch: bool, as_json: bool
) -> None:
    """Compare with pydensecrf and the exact mean field; without --run on synthetic maps."""
    photos = photo_inputs(len(inputs.ids)) if colour else None
    document = bench_crf(inputs, rounds, colour=photos, sweep=sweep, torch=torch, log=log)
    print_result(format_crf(document), document, as_json=as_json)


def bench_crf(
    inputs: BenchInputs,
    rounds: int,
    *,
    colour: BenchInputs | None,
    sweep: bool,
    torch: bool,
    log: Log,
) -> dict[str, Any]:
    """Time the backends in turns on one core, and compare each with the exact mean field.

    Of images of more than 10,000 pixels the middle is compared with the exact mean field; the times
    are those of whole images.

    Args:
        inputs: images and maps.
        rounds: measurements per contender.
        colour: images in colour and maps, to repeat the comparison with.
        sweep: repeat the comparison for each sxy and srgb, on a few of the images.
        torch: add the torch backend, on the device that it chooses.
        log: receives a line for each part.

    Returns:
        A JSON document: the machine, the inputs; `sides`: images per second, how many times faster
        than pydensecrf (medians, minima), mean |Q - Q exact| and the share of pixels whose label
        differs, each also relative to pydensecrf's; `two_threads`: how much faster they are than
        one; `colour`: the maps, images and sides in colour; `sweep`: the sides again for
        each sxy and srgb.
    """
    contenders = {**CONTENDERS, TORCH: {"backend": "torch"}} if torch else CONTENDERS
    with one_blas_thread():
        document: dict[str, Any] = {
            "machine": machine(),
            "cores": 1,
            "maps": inputs.about,
            "images": list(inputs.ids),
            "shape": list(inputs.maps.shape[1:]),
            "rounds": rounds,
            "sides": _measure(inputs, contenders, rounds),
        }
        log("the default settings are measured")
        document["two_threads"] = _thread_speedup(inputs, rounds)
        if colour is not None:
            document["colour"] = {
                "maps": colour.about,
                "images": list(colour.ids),
                "sides": _measure(colour, CONTENDERS, rounds),
            }
            log("images in colour are measured")
        if sweep:
            subset, document["sweep"] = inputs.subset(SWEEP_IMAGES), []
            for sxy, srgb in product(SXY, SRGB):
                options = {"bilateral_sxy": float(sxy), "bilateral_srgb": float(srgb)}
                sides = _measure(subset, CONTENDERS, SWEEP_ROUNDS, **options)
                document["sweep"].append({"sxy": sxy, "srgb": srgb, "sides": sides})
                log(f"sxy={sxy}, srgb={srgb} is measured")
    return document


def build_crf(inputs: BenchInputs, **options: Any) -> Step:
    """Return the step for the inputs' maps."""
    step: Step = STEPS.build("crf", classes=inputs.maps.shape[1], floor=inputs.floor, **options)
    return step


def _measure(
    inputs: BenchInputs, contenders: Mapping[str, dict[str, str]], rounds: int, **options: float
) -> dict[str, dict[str, float]]:
    steps = {name: build_crf(inputs, **chosen, **options) for name, chosen in contenders.items()}
    crops = _crops(inputs)
    exact = build_crf(inputs, backend="exact", **options).apply(crops.maps, crops.images)
    calls: dict[str, Callable[[], object]] = {
        name: partial(step.apply, inputs.maps, inputs.images) for name, step in steps.items()
    }
    times = compared(interleaved(calls, rounds), LIBRARY)
    sides = {}
    for name, step in steps.items():
        maps = step.apply(crops.maps, crops.images)
        sides[name] = {
            "images_per_s": len(maps) / times[name]["median_s"],
            "times_faster": 1 / times[name]["ratio"],
            "times_faster_of_minima": 1 / times[name]["ratio_of_minima"],
            "mean_error": float(np.abs(maps - exact).mean(dtype=np.float64)),
            "disagreement": float((maps.argmax(axis=1) != exact.argmax(axis=1)).mean()),
        }
    for side in sides.values():
        for measure in ("mean_error", "disagreement"):
            base = sides[LIBRARY][measure]
            side[f"{measure}_of_library"] = (
                side[measure] / base if base else float(side[measure] > 0)
            )
    return sides


def _crops(inputs: BenchInputs) -> BenchInputs:
    """Return the middle of each image, as large as the exact mean field takes."""
    rows = min(inputs.maps.shape[2], CROP_ROWS)
    cols = min(inputs.maps.shape[3], MAX_PIXELS // rows)
    top, left = (inputs.maps.shape[2] - rows) // 2, (inputs.maps.shape[3] - cols) // 2
    inside = (..., slice(top, top + rows), slice(left, left + cols))
    return replace(inputs, maps=inputs.maps[inside], images=inputs.images[:, :RGB][inside])


def _thread_speedup(inputs: BenchInputs, rounds: int) -> float:
    """Return how many times faster two threads process blocks of images than one."""
    step = build_crf(inputs)
    maps, images = (np.concatenate([array] * 4) for array in (inputs.maps, inputs.images))

    def run(threads: int) -> None:
        def work(block: slice) -> Map:
            result: Map = step.apply(maps[block], images[block])
            return result

        list(map_blocks(work, len(maps), size=BLOCK_IMAGES, threads=threads))

    times = compared(
        interleaved({"one": lambda: run(1), "two": lambda: run(THREADS)}, rounds), "two"
    )
    ratio: float = times["one"]["ratio"]
    return ratio


def format_crf(document: dict[str, Any]) -> str:
    """Return what `bench_crf` returns as tables."""
    lines = [document["maps"], *_format_sides(document["sides"])]
    lines.append(f"two threads: {document['two_threads']:.2f} times as fast as one")
    if "colour" in document:
        lines += [document["colour"]["maps"], *_format_sides(document["colour"]["sides"])]
    for setting in document.get("sweep", []):
        title = f"sxy={setting['sxy']}, srgb={setting['srgb']}"
        lines += [title, *_format_sides(setting["sides"])[1:]]
    return "\n".join(lines)


def _format_sides(sides: dict[str, dict[str, float]]) -> list[str]:
    columns = (
        ("images/s", "images_per_s", "13.1f"),
        ("x pydensecrf", "times_faster", "13.1f"),
        ("mean error", "mean_error", "13.2e"),
        ("relative", "mean_error_of_library", "13.2f"),
        ("disagree", "disagreement", "13.2e"),
        ("relative", "disagreement_of_library", "13.2f"),
    )
    rows = [f"{'':20}" + "".join(f"{head:>13}" for head, _, _ in columns)]
    for name, side in sides.items():
        rows.append(f"{name:20}" + "".join(f"{side[key]:{form}}" for _, key, form in columns))
    return rows


if __name__ == "__main__":
    run_command(crf, "benchmarks.crf")
