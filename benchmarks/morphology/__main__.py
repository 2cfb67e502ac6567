"""Steps compared with scikit-image, SciPy, OpenCV and MONAI: time on one core, and results."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import click
import cv2
import numpy as np
import torch

from benchmarks.command import run_command
from benchmarks.inputs import BenchInputs, inputs_options
from benchmarks.morphology import COMPARISONS, Comparison, Image, ReferenceTool
from ensemble.blas import one_blas_thread
from ensemble.cli.options import json_option, log, print_result, rounds_option
from ensemble.pipeline.bench.timing import compared, interleaved, machine
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadSpec
from evaluation.core.progress import Log
from evaluation.core.types import Array, Labels
from postproc.step import Step
from postproc.steps import STEPS

OURS = "ours"
LIBRARIES = {"skimage": "scikit-image", "monai": "MONAI"}
MARGIN_PX = 8


@click.command("morphology")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(list(COMPARISONS)),
    help="Only this comparison; repeatable.",
)
@inputs_options(images=200)
@rounds_option(3)
@json_option
def morphology(inputs: BenchInputs, parts: tuple[str, ...], rounds: int, as_json: bool) -> None:
    """Compare steps with scikit-image, SciPy, OpenCV and MONAI; without --run on synthetic maps."""
    names = list(dict.fromkeys(parts)) or list(COMPARISONS)
    document = bench_morphology(inputs, names, rounds, log)
    print_result(format_morphology(document), document, as_json=as_json)


def bench_morphology(
    inputs: BenchInputs, parts: Sequence[str], rounds: int, log: Log
) -> dict[str, Any]:
    """Compare steps with libraries on the same label maps (probability maps, for steps on maps).

    Args:
        inputs: images and maps; label maps are their argmax.
        parts: names of `COMPARISONS`, in order.
        rounds: measurements per contender.
        log: receives a line for each comparison.

    Returns:
        A JSON document: the machine, the inputs, and for each part the spec and its `sides`: times,
        how many times faster ours is, the share of pixels with the same label, the same
        without a margin (where border rules differ), and why the rest differs.

    Raises:
        BadSpec: a library to compare with is not installed.
    """
    for module, library in LIBRARIES.items():
        if find_spec(module) is None:
            raise BadSpec(
                f"morphology is compared with {library}, which is not installed; run"
                " `pip install -e '.[bench]'` in the source folder"
            )
    results = {}
    with _one_thread():
        for name in parts:
            results[name] = _measure(COMPARISONS.build(name), inputs, rounds)
            log(f"{name} is measured")
    return {
        "machine": machine(),
        "cores": 1,
        "maps": inputs.about,
        "images": len(inputs.ids),
        "shape": list(inputs.maps.shape[1:]),
        "rounds": rounds,
        "margin_px": MARGIN_PX,
        "parts": results,
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """Give all contenders one core; torch is for MONAI."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        with one_blas_thread():
            yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def _measure(comparison: Comparison, inputs: BenchInputs, rounds: int) -> dict[str, Any]:
    classes = inputs.maps.shape[1]
    step: Step = STEPS.build(comparison.spec, classes=classes, ignore=None, floor=inputs.floor)
    values = inputs.maps if step.input == "maps" else argmax(inputs.maps)
    pairs = list(zip(values, inputs.images[:, 0], strict=True))

    def ours() -> Array:
        parts = blocks(len(values))
        return np.concatenate([step.apply(values[b], inputs.images[b]) for b in parts])

    calls: dict[str, Callable[[], Array]] = {
        name: partial(_one_by_one, tool, pairs) for name, tool in comparison.tools.items()
    }
    calls[OURS] = ours
    results = {name: _labels(call()) for name, call in calls.items()}
    times = compared(interleaved(calls, rounds), OURS)
    sides: dict[str, dict[str, Any]] = {
        name: {
            "ms_per_image": 1e3 * times[name]["median_s"] / len(values),
            "times_ours": times[name]["ratio"],
            "times_ours_of_minima": times[name]["ratio_of_minima"],
            **_agreement(results[name], results[OURS]),
        }
        for name in calls
    }
    for name, tool in comparison.tools.items():
        sides[name]["differs"] = tool.differs
    changed = float((results[OURS] != argmax(inputs.maps)).mean())
    return {"spec": comparison.spec, "changed": changed, "sides": sides}


def _one_by_one(tool: ReferenceTool, pairs: list[tuple[Array, Image]]) -> Array:
    return np.stack([tool.apply(value, image) for value, image in pairs])


def _labels(values: Array) -> Labels:
    labels: Labels = argmax(values) if values.ndim == 4 else values
    return labels


def _agreement(labels: Labels, ours: Labels) -> dict[str, float]:
    same = labels == ours
    inside = same[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return {"agreement": float(same.mean()), "agreement_inside": float(inside.mean())}


def format_morphology(document: dict[str, Any]) -> str:
    """Return what `bench_morphology` returns as one table per comparison."""
    lines = [f"{document['maps']}; {document['images']} images, one core"]
    for part in document["parts"].values():
        title = f"{part['spec']} changes {part['changed']:.2%} of the pixels"
        lines += ["", title, f"{'':28}{'ms/image':>11}{'x ours':>9}{'same':>10}{'inside':>10}"]
        for name, side in part["sides"].items():
            lines.append(
                f"{name:28}{side['ms_per_image']:11.3f}{side['times_ours']:9.1f}"
                f"{side['agreement']:10.4%}{side['agreement_inside']:10.4%}  "
                f"{side.get('differs', '')}".rstrip()
            )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(morphology, "benchmarks.morphology")
