"""The dense CRF beside pydensecrf, in time and in distance from the exact field."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ensemble.blas import one_blas_thread
from ensemble.pipeline.bench.timing import compared, in_turns, machine
from ensemble.pipeline.sources import Sources
from evaluation.ground.arrays import Labels, Map, Pictures
from evaluation.ground.blocks import map_blocks
from evaluation.ground.errors import BadRun
from evaluation.ground.layout import Run
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from postproc.step import Step
from postproc.steps import STEPS

LIBRARY, DEFAULT, HIGH = "pydensecrf", "ours", "ours, quality=high"
SIDES = {
    LIBRARY: {"backend": "pydensecrf"},
    DEFAULT: {"backend": "ours"},
    HIGH: {"backend": "ours", "quality": "high"},
}
SXY, SRGB = (5, 15, 30, 60), (5, 13, 30)
SWEEP_PICTURES, SWEEP_ROUNDS = 4, 3
THREADS = 2
BLOCK_PICTURES = 4
BLUR_PX, NOISE = 3.0, 0.7
SEED = 0


@dataclass(frozen=True)
class Cases:
    """What the field is tried on.

    Args:
        maps: (picture, class, row, col).
        pictures: uint8 (picture, channel, row, col).
        ids: of the pictures.
        floor: of the maps' logarithms.
        about: where all this comes from.
    """

    maps: Map
    pictures: Pictures
    ids: tuple[str, ...]
    floor: float
    about: str

    def step(self, **options: Any) -> Step:
        """Build the step for these maps."""
        context = {"classes": self.maps.shape[1], "floor": self.floor, **options}
        step: Step = STEPS.build("crf", **context)
        return step

    def first(self, count: int) -> "Cases":
        """Return fewer of them, evenly spaced."""
        chosen = _spaced(len(self.maps), count)
        ids = tuple(self.ids[place] for place in chosen)
        return Cases(self.maps[chosen], self.pictures[chosen], ids, self.floor, self.about)


def cases_of_run(run: Run, member: str | None, split: str, count: int) -> Cases:
    """Take pictures of a split, evenly spaced, and a member's maps of them.

    Args:
        run: the experiment folder.
        member: or fusion; by default the run's first member.
        split: of the pictures.
        count: how many at most.

    Raises:
        BadRun: no such maps, or maps of other pictures.
    """
    sources = Sources.of(run)
    name = member or sources.names()[0]
    maps, data = sources.open(name, split), DataSet.load(run.data(split))
    if maps.ids != data.ids:
        raise BadRun(f"{name!r} has maps of other pictures than {split}; make them again")
    chosen = _spaced(len(data), count)
    return Cases(
        np.concatenate([maps.read(slice(place, place + 1)) for place in chosen]),
        np.asarray(data.pictures[chosen]),
        tuple(data.ids[place] for place in chosen),
        maps.floor,
        f"maps of {name!r} over {split!r} of {run.path}",
    )


def drawn_cases(count: int) -> Cases:
    """Take pictures of the built-in sample, and maps made of their masks: smoothed, with noise."""
    from scipy import ndimage

    sample = draw_sample(pictures=1, test=1, validation=count)
    truth: Labels = sample.validation_masks
    rng = np.random.default_rng(SEED)
    classes = int(truth[truth < 255].max()) + 1
    hot = (truth[:, None] == np.arange(classes)[:, None, None]).astype(np.float32)
    scores = np.log(ndimage.gaussian_filter(hot, BLUR_PX, axes=(2, 3)) + 0.02)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, scores.shape), BLUR_PX, axes=(2, 3))
    scores += NOISE * noise / noise.std()
    maps = np.exp(scores)
    maps = (maps / maps.sum(axis=1, keepdims=True)).astype(np.float32)
    ids = tuple(str(number) for number in range(len(maps)))
    about = "pictures of the built-in sample; maps drawn: masks smoothed, with noise"
    return Cases(maps, sample.validation_images[:, None], ids, 2.0**-25, about)


def bench_crf(
    cases: Cases, rounds: int, *, sweep: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Time the backends in turns on one core, and compare each with the exact field.

    Args:
        cases: pictures and maps.
        rounds: how often each side is timed.
        sweep: go through sxy and srgb too, on a few of the pictures.
        tell: gets a line for each part.

    Returns:
        A JSON document: the machine, the cases; `sides`: pictures a second, how many times faster
        than pydensecrf (medians, minima), mean |Q - Q exact| and the share of pixels whose label
        differs, each also as a part of pydensecrf's; `two_threads`: how much faster they are than
        one; `sweep`: the sides again for each sxy and srgb.
    """
    with one_blas_thread():
        document: dict[str, Any] = {
            "machine": machine(),
            "cores": 1,
            "maps": cases.about,
            "pictures": list(cases.ids),
            "shape": list(cases.maps.shape[1:]),
            "rounds": rounds,
            "sides": _sides(cases, rounds, {}),
        }
        tell("the usual settings are measured")
        document["two_threads"] = _threads(cases, rounds)
        if sweep:
            few, document["sweep"] = cases.first(SWEEP_PICTURES), []
            for sxy, srgb in product(SXY, SRGB):
                options = {"bilateral_sxy": float(sxy), "bilateral_srgb": float(srgb)}
                found = _sides(few, SWEEP_ROUNDS, options)
                document["sweep"].append({"sxy": sxy, "srgb": srgb, "sides": found})
                tell(f"sxy={sxy}, srgb={srgb} is measured")
    return document


def _sides(cases: Cases, rounds: int, options: dict[str, Any]) -> dict[str, dict[str, float]]:
    steps = {name: cases.step(**side, **options) for name, side in SIDES.items()}
    exact = cases.step(backend="exact", **options).apply(cases.maps, cases.pictures)
    calls = {name: _call(step, cases) for name, step in steps.items()}
    times = compared(in_turns(calls, rounds), LIBRARY)
    found = {}
    for name, step in steps.items():
        maps = step.apply(cases.maps, cases.pictures)
        found[name] = {
            "pictures_per_s": len(maps) / times[name]["median_s"],
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
    return lambda: step.apply(cases.maps, cases.pictures)


def _threads(cases: Cases, rounds: int) -> float:
    """Return how many times faster blocks of pictures go through by two threads than by one."""
    step = cases.step()
    maps, pictures = (np.concatenate([part] * 4) for part in (cases.maps, cases.pictures))

    def run(threads: int) -> None:
        def work(block: slice) -> Map:
            found: Map = step.apply(maps[block], pictures[block])
            return found

        list(map_blocks(work, len(maps), size=BLOCK_PICTURES, threads=threads))

    times = compared(in_turns({"one": lambda: run(1), "two": lambda: run(THREADS)}, rounds), "two")
    ratio: float = times["one"]["ratio"]
    return ratio


def _spaced(length: int, count: int) -> list[int]:
    return sorted({int(place) for place in np.linspace(0, length - 1, min(count, length))})


def as_text(document: dict[str, Any]) -> str:
    """Write what `bench_crf` returns for people."""
    lines = [document["maps"], *_table(document["sides"])]
    lines.append(f"two threads: {document['two_threads']:.2f} times as fast as one")
    for setting in document.get("sweep", []):
        lines += [f"sxy={setting['sxy']}, srgb={setting['srgb']}", *_table(setting["sides"])[1:]]
    return "\n".join(lines)


def _table(sides: dict[str, dict[str, float]]) -> list[str]:
    heads = ("pictures/s", "x pydensecrf", "mean error", "of its", "disagree", "of its")
    keys = (
        ("pictures_per_s", "13.1f"),
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
