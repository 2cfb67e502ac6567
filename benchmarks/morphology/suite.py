"""All parts, or those asked for: times in turns on one core, and answers pixel by pixel."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.inputs import Cases
from benchmarks.morphology import PARTS, Part, Referee
from ensemble.blas import one_blas_thread
from ensemble.pipeline.bench.timing import compared, in_turns, machine
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadSpec
from evaluation.core.types import Array, Labels
from postproc.step import Step
from postproc.steps import STEPS

OURS = "ours"
LIBRARIES = {"skimage": "scikit-image", "monai": "MONAI"}
MARGIN_PX = 8


def bench_morphology(
    cases: Cases, parts: Sequence[str], rounds: int, log: Callable[[str], None]
) -> dict[str, Any]:
    """Compare steps with libraries on the same label maps (maps, for steps on maps).

    Args:
        cases: images and maps; label maps are their argmax.
        parts: names of `PARTS`, in order.
        rounds: how often each side is timed.
        log: receives a line for each part.

    Returns:
        A JSON document: the machine, the cases, and for each part the spec and its `sides`: times,
        how many times faster ours is, the share of pixels with the same label, the same
        without a margin (where border rules differ), and why the rest differs.

    Raises:
        BadSpec: a library to compare with is not installed.
    """
    _check_libraries()
    found = {}
    with _one_thread():
        for name in parts:
            found[name] = _compare(PARTS.build(name), cases, rounds)
            log(f"{name} is measured")
    return {
        "machine": machine(),
        "cores": 1,
        "maps": cases.about,
        "images": len(cases.ids),
        "shape": list(cases.maps.shape[1:]),
        "rounds": rounds,
        "margin_px": MARGIN_PX,
        "parts": found,
    }


def _check_libraries() -> None:
    for module, library in LIBRARIES.items():
        if find_spec(module) is None:
            raise BadSpec(
                f"morphology is compared with {library}, which is not installed; run"
                " `pip install -e '.[bench]'` in the source folder"
            )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Give both sides one core; torch is for MONAI."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        with one_blas_thread():
            yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def _compare(part: Part, cases: Cases, rounds: int) -> dict[str, Any]:
    classes = cases.maps.shape[1]
    step: Step = STEPS.build(part.spec, classes=classes, ignore=None, floor=cases.floor)
    values = cases.maps if step.takes == "maps" else argmax(cases.maps)
    calls = {name: _by_image(one, values, cases) for name, one in part.referees.items()}
    calls[OURS] = _by_block(step, values, cases)
    answers = {name: _labels(call()) for name, call in calls.items()}
    times = compared(in_turns(calls, rounds), OURS)
    sides: dict[str, dict[str, Any]] = {
        name: {
            "ms_per_image": 1e3 * times[name]["median_s"] / len(values),
            "times_ours": times[name]["ratio"],
            "times_ours_of_minima": times[name]["ratio_of_minima"],
            **_agreement(answers[name], answers[OURS]),
        }
        for name in calls
    }
    for name, referee in part.referees.items():
        sides[name]["differs"] = referee.differs
    changed = float((answers[OURS] != argmax(cases.maps)).mean())
    return {"spec": part.spec, "changed": changed, "sides": sides}


def _by_image(referee: Referee, values: Array, cases: Cases) -> Callable[[], Array]:
    pairs = list(zip(values, cases.images[:, 0], strict=True))
    return lambda: np.stack([referee.apply(value, image) for value, image in pairs])


def _by_block(step: Step, values: Array, cases: Cases) -> Callable[[], Array]:
    def call() -> Array:
        parts = [step.apply(values[at], cases.images[at]) for at in blocks(len(values))]
        return np.concatenate(parts)

    return call


def _labels(answer: Array) -> Labels:
    labels: Labels = argmax(answer) if answer.ndim == 4 else answer
    return labels


def _agreement(labels: Labels, ours: Labels) -> dict[str, float]:
    same = labels == ours
    inside = same[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return {"agreement": float(same.mean()), "agreement_inside": float(inside.mean())}


def as_text(document: dict[str, Any]) -> str:
    """Write what `bench_morphology` returns for people."""
    lines = [f"{document['maps']}; {document['images']} images, one core"]
    for part in document["parts"].values():
        head = f"{part['spec']} changes {part['changed']:.2%} of the pixels"
        lines += ["", head, f"{'':28}{'ms/image':>11}{'x ours':>9}{'same':>10}{'inside':>10}"]
        for name, side in part["sides"].items():
            lines.append(
                f"{name:28}{side['ms_per_image']:11.3f}{side['times_ours']:9.1f}"
                f"{side['agreement']:10.4%}{side['agreement_inside']:10.4%}  "
                f"{side.get('differs', '')}".rstrip()
            )
    return "\n".join(lines)
