"""The dense CRF beside pydensecrf, in time and in distance from the exact field.

`ens bench crf`: the dense CRF beside pydensecrf and the exact field.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from benchmarks.inputs import Cases, cases_options
from ensemble.blas import one_blas_thread
from ensemble.cli.options import (
    json_option,
    log,
    print_result,
    rounds_option,
)
from ensemble.pipeline.bench.timing import compared, in_turns, machine
from evaluation.core.blocks import map_blocks
from evaluation.core.types import Map
from postproc.step import Step

LIBRARY, DEFAULT, HIGH = "pydensecrf", "ours", "ours, quality=high"
SIDES = {
    LIBRARY: {"backend": "pydensecrf"},
    DEFAULT: {"backend": "ours"},
    HIGH: {"backend": "ours", "quality": "high"},
}
TORCH = "torch"
TORCH_SIDE = {TORCH: {"backend": "torch"}}
SXY, SRGB = (5, 15, 30, 60), (5, 13, 30)
# Of fewer images the mean error hangs on one or two that have not settled.
SWEEP_IMAGES, SWEEP_ROUNDS = 12, 3
THREADS = 2
BLOCK_IMAGES = 4


def bench_crf(
    cases: Cases,
    rounds: int,
    *,
    colour: Cases | None,
    sweep: bool,
    torch: bool,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Time the backends in turns on one core, and compare each with the exact field.

    Args:
        cases: images and maps.
        rounds: how often each side is timed.
        colour: images in colour and maps, to do the same with.
        sweep: go through sxy and srgb too, on a few of the images.
        torch: time the torch backend too, on the device that it chooses.
        log: gets a line for each part.

    Returns:
        A JSON document: the machine, the cases; `sides`: images a second, how many times faster
        than pydensecrf (medians, minima), mean |Q - Q exact| and the share of pixels whose label
        differs, each also as a part of pydensecrf's; `two_threads`: how much faster they are than
        one; `colour`: the maps, images and sides in colour; `sweep`: the sides again for
        each sxy and srgb.
    """
    ways = {**SIDES, **TORCH_SIDE} if torch else SIDES
    with one_blas_thread():
        document: dict[str, Any] = {
            "machine": machine(),
            "cores": 1,
            "maps": cases.about,
            "images": list(cases.ids),
            "shape": list(cases.maps.shape[1:]),
            "rounds": rounds,
            "sides": _sides(cases, ways, rounds, {}),
        }
        log("the usual settings are measured")
        document["two_threads"] = _threads(cases, rounds)
        if colour is not None:
            document["colour"] = {
                "maps": colour.about,
                "images": list(colour.ids),
                "sides": _sides(colour, SIDES, rounds, {}),
            }
            log("images in colour are measured")
        if sweep:
            few, document["sweep"] = cases.first(SWEEP_IMAGES), []
            for sxy, srgb in product(SXY, SRGB):
                options = {"bilateral_sxy": float(sxy), "bilateral_srgb": float(srgb)}
                found = _sides(few, SIDES, SWEEP_ROUNDS, options)
                document["sweep"].append({"sxy": sxy, "srgb": srgb, "sides": found})
                log(f"sxy={sxy}, srgb={srgb} is measured")
    return document


def _sides(
    cases: Cases, ways: Mapping[str, dict[str, str]], rounds: int, options: dict[str, Any]
) -> dict[str, dict[str, float]]:
    steps = {name: cases.step(**side, **options) for name, side in ways.items()}
    exact = cases.step(backend="exact", **options).apply(cases.maps, cases.images)
    calls = {name: _call(step, cases) for name, step in steps.items()}
    times = compared(in_turns(calls, rounds), LIBRARY)
    found = {}
    for name, step in steps.items():
        maps = step.apply(cases.maps, cases.images)
        found[name] = {
            "images_per_s": len(maps) / times[name]["median_s"],
            "times_faster": 1 / times[name]["ratio"],
            "times_faster_of_minima": 1 / times[name]["ratio_of_minima"],
            "mean_error": float(np.abs(maps - exact).mean(dtype=np.float64)),
            "disagreement": float((maps.argmax(axis=1) != exact.argmax(axis=1)).mean()),
        }
    for side in found.values():
        for measure in ("mean_error", "disagreement"):
            base = found[LIBRARY][measure]
            side[f"{measure}_of_library"] = (
                side[measure] / base if base else float(side[measure] > 0)
            )
    return found


def _call(step: Step, cases: Cases) -> Callable[[], object]:
    return lambda: step.apply(cases.maps, cases.images)


def _threads(cases: Cases, rounds: int) -> float:
    """Return how many times faster blocks of images go through by two threads than by one."""
    step = cases.step()
    maps, images = (np.concatenate([part] * 4) for part in (cases.maps, cases.images))

    def run(threads: int) -> None:
        def work(block: slice) -> Map:
            found: Map = step.apply(maps[block], images[block])
            return found

        list(map_blocks(work, len(maps), size=BLOCK_IMAGES, threads=threads))

    times = compared(in_turns({"one": lambda: run(1), "two": lambda: run(THREADS)}, rounds), "two")
    ratio: float = times["one"]["ratio"]
    return ratio


def as_text(document: dict[str, Any]) -> str:
    """Write what `bench_crf` returns for people."""
    lines = [document["maps"], *_table(document["sides"])]
    lines.append(f"two threads: {document['two_threads']:.2f} times as fast as one")
    if "colour" in document:
        lines += [document["colour"]["maps"], *_table(document["colour"]["sides"])]
    for setting in document.get("sweep", []):
        lines += [f"sxy={setting['sxy']}, srgb={setting['srgb']}", *_table(setting["sides"])[1:]]
    return "\n".join(lines)


def _table(sides: dict[str, dict[str, float]]) -> list[str]:
    heads = ("images/s", "x pydensecrf", "mean error", "of its", "disagree", "of its")
    keys = (
        ("images_per_s", "13.1f"),
        ("times_faster", "13.1f"),
        ("mean_error", "13.2e"),
        ("mean_error_of_library", "13.2f"),
        ("disagreement", "13.2e"),
        ("disagreement_of_library", "13.2f"),
    )
    rows = [f"{'':20}" + "".join(f"{head:>13}" for head in heads)]
    for name, side in sides.items():
        rows.append(f"{name:20}" + "".join(f"{side[key]:{form}}" for key, form in keys))
    return rows


if TYPE_CHECKING:
    from benchmarks.inputs import Cases


@click.command("crf", short_help="The dense CRF against pydensecrf and exact.")
@cases_options(images=24)
@rounds_option(7)
@click.option("--sweep/--no-sweep", default=True, show_default=True, help="Sweep sxy and srgb.")
@click.option(
    "--colour/--no-colour", default=True, show_default=True, help="Colour photographs too."
)
@click.option("--torch", is_flag=True, help="The torch backend too.")
@json_option
def crf(cases: "Cases", rounds: int, sweep: bool, colour: bool, torch: bool, as_json: bool) -> None:
    """Compare the dense CRF with pydensecrf and exact mean field; without --run on drawn maps."""
    from benchmarks.inputs import colour_cases

    photographs = colour_cases(len(cases.ids)) if colour else None
    document = bench_crf(cases, rounds, colour=photographs, sweep=sweep, torch=torch, log=log)
    print_result(as_text(document), document, as_json=as_json)
