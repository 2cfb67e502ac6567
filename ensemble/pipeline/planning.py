"""What a run would take in time, disk and memory, and what would stop it; nothing is written."""

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from ensemble.fuse import MEMORY_BYTES
from ensemble.pipeline.chains import check_chains
from ensemble.pipeline.experiment import Experiment
from ensemble.pipeline.forecast import Forecast
from ensemble.pipeline.laid import Laid
from ensemble.pipeline.leaks import leak_notes
from ensemble.pipeline.odd import check_fusion, odd_about_data
from ensemble.pipeline.prepare import is_prepared, prepare
from ensemble.pipeline.sources import Sources, foreign_members
from ensemble.pipeline.steps import steps
from ensemble.pipeline.training import check_trainable, refuse_foreign
from ensemble.pipeline.whole import check_candidates, check_specs
from evaluation.ground.blocks import BLOCK_PICTURES
from evaluation.ground.classes import Classes, numbered
from evaluation.ground.layout import Run
from members.data.dataset import DataSet
from members.devices import devices
from members.jobs import device_slots
from members.objects import weights_under
from members.recipe import Member, read_recipe

PROCESS_BYTES = 400 << 20
"""Of a Python process with torch."""

MANY_JOBS = 1000


def plan_run(run: Run, experiment: Experiment, *, device: str, workers: int | None) -> Forecast:
    """Find out what `ens run` would do, and everything that would stop it.

    Data that the run does not hold yet are laid out in a temporary folder. Training and
    prediction are timed by two steps of each network on this machine, disks and chains by a block.

    Args:
        run: the experiment folder, there or not.
        experiment: what is asked.
        device: see `members.devices.devices`.
        workers: processes on each device.
    """
    found = Forecast(str(run.path))
    where = found.attempt(lambda: devices(device)) or ["cpu"]
    _look_at_specs(found, experiment)
    if experiment.store is not None:
        found.attempt(partial(weights_under, f"{experiment.store}/plan"))  # answers, and is ours
    with tempfile.TemporaryDirectory() as folder:
        laid_out = found.attempt(lambda: _laid_out(run, experiment, Path(folder)))
        classes = DataSet.load(laid_out.data("oof")).classes if laid_out else _named(experiment)
        members = _look_at_members(found, run, experiment, classes)
        known = [*(m.family or m.name for m in members), *foreign_members(run)]
        _look_at_fusions(found, experiment, list(dict.fromkeys(known)))
        if laid_out is None:
            return found
        data = DataSet.load(laid_out.data("oof"))
        for name, chain in experiment.chains.items():
            alone = experiment.model_copy(update={"chains": {name: chain}})
            found.attempt(partial(check_chains, alone, data.classes))
        for member in members:
            found.attempt(partial(check_trainable, [member], data))
        found.odd += odd_about_data(laid_out)
        sources = Sources(laid_out, tuple(members), foreign_members(laid_out))
        for name in experiment.fusions:
            found.attempt(partial(check_fusion, sources, experiment, name))
        if not found.fails:
            laid = Laid(
                sources,
                experiment,
                where,
                len(device_slots(where, workers, MANY_JOBS)),
                laid_out is not run,
            )
            found.steps = steps(laid)
            found.odd += leak_notes(sources, [n for n in sources.names() if sources.splits(n)])
            _look_at_room(found, run, laid)
    return found


def _look_at_specs(found: Forecast, experiment: Experiment) -> None:
    """Check every spec by itself, so that all that is wrong is told at once."""
    nothing: dict[str, Any] = {"members": {}, "fusions": {}, "chains": {}}
    for kind in nothing:
        for name, value in getattr(experiment, kind).items():
            alone = experiment.model_copy(update={**nothing, kind: {name: value}})
            found.attempt(partial(check_specs, alone))
    found.attempt(partial(check_candidates, experiment))


def _laid_out(run: Run, experiment: Experiment, folder: Path) -> Run:
    if is_prepared(run, experiment):
        return run
    drawn = Run(folder / "run")
    prepare(drawn, experiment, lambda _: None)
    return drawn


def _named(experiment: Experiment) -> Classes:
    return experiment.named_classes() or numbered(2, ignore=None)


def _look_at_members(
    found: Forecast, run: Run, experiment: Experiment, classes: Classes
) -> list[Member]:
    members: list[Member] = []
    for name, asked in experiment.members.items():

        def expand(name: str = name, asked: dict[str, Any] = asked) -> list[Member]:
            recipe = read_recipe(name, asked, experiment.defaults)
            return Member.expand(name, recipe, classes)

        members += found.attempt(expand) or []
    found.attempt(lambda: refuse_foreign(run, members))
    if not members and not foreign_members(run):
        found.fails.append("there is no member: name some under 'members', or `ens import` maps")
    return members


def _look_at_fusions(found: Forecast, experiment: Experiment, known: list[str]) -> None:
    before: list[str] = []
    for name, asked in experiment.fusions.items():
        if name in known:
            found.fails.append(f"fusion {name!r} has the name of a member; choose another")
        named = () if isinstance(asked, str) else asked.members
        for member in named:
            if member not in [*known, *before]:
                found.fails.append(
                    f"fusion {name!r} takes {member!r}; known: {', '.join([*known, *before])}"
                )
        before.append(name)


def _look_at_room(found: Forecast, run: Run, laid: Laid) -> None:
    there = next(p for p in [run.path, *run.path.absolute().parents] if p.exists())
    found.free_bytes = shutil.disk_usage(there).free
    elsewhere = ("predict", "fuse") if laid.experiment.store else ()
    needed = sum(step.bytes_to_write for step in found.steps if step.step not in elsewhere)
    if needed > found.free_bytes:
        found.fails.append(
            f"{needed / 1e9:.1f} GB would be written and {found.free_bytes / 1e9:.1f} GB are free"
            f" at {there}; take another --run, store_dtype uint8 or fewer members"
        )
    names = len(laid.sources.names())
    pictures, classes, rows, cols = laid.size("oof")
    block = 4 * min(pictures, BLOCK_PICTURES) * classes * rows * cols * (names + 1)
    fusing = min(MEMORY_BYTES, block * (os.cpu_count() or 1)) if names else 0
    training = max((step.memory_bytes for step in found.steps), default=0)
    on_cpu = laid.where == ["cpu"]
    found.memory_bytes = max(fusing + PROCESS_BYTES, laid.slots * (training + PROCESS_BYTES))
    found.memory_free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if on_cpu and found.memory_bytes > found.memory_free_bytes:
        found.odd.append(
            f"about {found.memory_bytes / 1e9:.1f} GB of memory for {laid.slots} processes side by"
            f" side, and {found.memory_free_bytes / 1e9:.1f} GB are free; take fewer --workers or"
            " a smaller batch"
        )
