"""Parts (d) to (f): trainings together, their precision over seeds, and the dense CRF."""

import contextlib
import csv
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np

from benchmarks.gpu.setting import Row, Setting
from evaluation.core.classes import MARS
from members.data.dataset import write_classes
from members.devices import Precision
from members.jobs import TrainJob
from members.recipe import Member, Recipe
from members.train import Fold, train_fold
from members.worker_pool import advance, is_ended, steps_of

SEEDS = 5
TRAININGS = 8


def together(setting: Setting) -> Iterator[Row]:
    """Train eight networks of two kinds one by one, and in turns."""
    with TemporaryDirectory() as folder:  # what is done once in a process
        _take_turns(_jobs(setting, Path(folder))[:2], setting.device, 1)
    seconds = {}
    for at_a_time in (1, TRAININGS):
        with TemporaryDirectory() as folder:
            jobs = _jobs(setting, Path(folder))
            started = time.perf_counter()
            _take_turns(jobs, setting.device, at_a_time)
            seconds[at_a_time] = time.perf_counter() - started
        yield {"trainings at a time": at_a_time, "s": seconds[at_a_time]}
    yield {"gain": seconds[1] / seconds[TRAININGS], "ok": seconds[1] > 2 * seconds[TRAININGS]}


def precisions(setting: Setting) -> Iterator[Row]:
    """Train with the same seeds in bfloat16, TF32 and IEEE; give differences of holdout scores."""
    data = setting.data()
    fold = Fold(0, np.arange(len(data)))
    recipe = Recipe(architecture=_network(setting), epochs=setting.pick(1, 6), batch=16)
    plain = mock.patch.object(Precision, "autocast", return_value=contextlib.nullcontext())
    ways = {
        "ieee": (recipe.model_copy(update={"precision": "float32"}), contextlib.nullcontext()),
        "tf32": (recipe, plain),
        "bfloat16": (recipe, contextlib.nullcontext()),
    }
    differences: dict[str, list[float]] = {"tf32": [], "bfloat16": []}
    for seed in range(setting.pick(1, SEEDS)):
        scores = {}
        for name, (chosen, context) in ways.items():
            with TemporaryDirectory() as folder, context, _no_plot():
                member = Member("m", chosen)
                train_fold(
                    member, data, fold, seed=seed, device=setting.device, folder=Path(folder)
                )
                scores[name] = _best_score(Path(folder) / "history.csv")
        for name, values in differences.items():
            values.append(scores[name] - scores["ieee"])
        yield {"seed": seed, **scores}
    for name, values in differences.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
        yield {"precision": name, "minus ieee": float(np.mean(values)), "standard error": error}


def dense_crf(setting: Setting) -> Iterator[Row]:
    """Time the compiled CRF on 1 and 16 threads and torch on the device; errors against exact."""
    from benchmarks.synthetic import draw_maps
    from postproc.steps import STEPS

    count = setting.pick(4, 512)
    maps = draw_maps(np.random.default_rng(0), count)
    images = np.random.default_rng(1).integers(0, 256, (count, 1, *maps.shape[2:]), np.uint8)
    context = {"classes": maps.shape[1], "ignore": 0, "floor": 2.0**-25, "device": setting.device}
    steps = {
        name: STEPS.build(f"crf(backend={name})", **context) for name in ("exact", "ours", "torch")
    }
    few = slice(0, setting.pick(1, 4))
    exact = steps["exact"].apply(maps[few], images[few])
    blocks = [slice(start, start + 64) for start in range(0, count, 64)]
    for name, threads in (("ours", 1), ("ours", 16), ("torch", 1)):
        step = steps[name]
        step.apply(maps[blocks[0]], images[blocks[0]])
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda block, step=step: step.apply(maps[block], images[block]), blocks))
        seconds = time.perf_counter() - started
        error = float(np.abs(step.apply(maps[few], images[few]) - exact).mean())
        yield {"backend": name, "threads": threads, "images/s": count / seconds, "error": error}


def _network(setting: Setting) -> str:
    return "unet(width=2, depth=1)" if setting.is_tiny else "unet(width=16)"


def _jobs(setting: Setting, folder: Path) -> list[TrainJob]:
    data = setting.data()
    data.save(folder / "split")
    write_classes(folder / "classes.json", MARS)
    fold = Fold(0, np.arange(len(data)))
    other = setting.pick("unet(width=2, depth=1)", "segnet(width=8)")
    jobs = []
    for number in range(TRAININGS):
        network = _network(setting) if number % 2 else other
        member = Member(f"m{number}", Recipe(architecture=network, epochs=setting.pick(1, 4)))
        target = folder / f"m{number}"
        jobs.append(TrainJob(member, folder / "split", fold, 0, target, {}, {}))
    return jobs


def _take_turns(jobs: Sequence[TrainJob], device: str, at_a_time: int) -> None:
    waiting, running = deque(jobs), []
    with _no_plot():
        while waiting or running:
            while waiting and len(running) < at_a_time:
                running.append(steps_of(waiting.popleft(), device))
            running = [steps for steps in running if not is_ended(advance(steps))]


def _no_plot():
    return mock.patch("members.trainers.training_curves._plot", lambda path, *_: path.touch())


def _best_score(history: Path) -> float:
    with history.open(newline="") as file:
        return max(float(row["holdout_miou"]) for row in csv.DictReader(file))
