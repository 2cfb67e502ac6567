"""What a run would take in time, disk and memory, and what would stop it; nothing is written.

What was found out about a run before it begins, and how it is told.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ensemble.block_fusion import MEMORY_BYTES
from ensemble.pipeline.candidates.chains import check_chains
from ensemble.pipeline.candidates.leakage import leakage_warnings
from ensemble.pipeline.data.prepare import is_prepared, prepare
from ensemble.pipeline.members.train import check_not_imported, check_trainable
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers, imported_members
from ensemble.pipeline.run.prepared_run import PreparedRun
from ensemble.pipeline.workflow.preflight import check_fusion, data_warnings
from ensemble.pipeline.workflow.run_all import check_candidates, check_specs
from ensemble.pipeline.workflow.stages import PlannedStage, planned_stages
from evaluation.core.blocks import BLOCK_IMAGES
from evaluation.core.classes import Classes, numbered
from evaluation.core.errors import EnsError
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.devices import devices
from members.jobs import device_slots
from members.object_store import sizes_under
from members.recipe import Member, read_recipe

MINUTE, HOUR = 60, 3600


@dataclass
class PlanReport:
    """What was found out about a run.

    Args:
        run: its folder.
        steps: what it does, in order.
        fails: reasons for which it would stop; none for a run that goes through.
        odd: what to look at first.
        free_bytes: of the disk.
        memory_bytes: that its processes take together, about.
        memory_free_bytes: that this machine has.
    """

    run: str
    steps: list[PlannedStage] = field(default_factory=list)
    fails: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    free_bytes: int = 0
    memory_bytes: int = 0
    memory_free_bytes: int = 0

    def attempt(self, work: Callable[[], Any]) -> Any:
        """Do something; what a user has to mend becomes a reason, and the result None."""
        try:
            return work()
        except EnsError as error:
            if str(error) not in self.fails:
                self.fails.append(str(error))
            return None

    def document(self) -> dict[str, Any]:
        """Give it as a JSON document."""
        sums = {
            "seconds": sum(step.seconds for step in self.steps),
            "bytes_to_write": sum(step.bytes_to_write for step in self.steps),
        }
        return asdict(self) | sums


def raise_if_blocked(found: PlanReport) -> None:
    """Refuse a run that would fail.

    Raises:
        EnsError: the number of reasons, and the first.
    """
    if found.fails:
        more = f"; and {len(found.fails) - 1} reasons more" if len(found.fails) > 1 else ""
        raise EnsError(f"{found.run} would fail: {found.fails[0]}{more}")


def as_text(found: PlanReport) -> str:
    """Write a forecast for people: steps, sums, what is odd, what would stop the run."""
    width = max([len(step.name) for step in found.steps] + [4])
    lines = [
        f"{step.step:11} {step.name:{width}} {step.missing:3} of {step.parts} missing"
        f" {_duration(step.seconds):>9} {step.bytes_to_write / 1e6:10.1f} MB"
        for step in found.steps
    ]
    if found.steps:
        document = found.document()
        lines += [
            f"time: about {_duration(document['seconds'])}; training at most, it may stop early",
            _room("disk", document["bytes_to_write"], found.free_bytes),
            _room("memory", found.memory_bytes, found.memory_free_bytes),
        ]
    lines += [f"odd: {line}" for line in found.odd]
    lines += [f"fails: {line}" for line in found.fails]
    return "\n".join(lines)


def _room(what: str, taken: int, free: int) -> str:
    return f"{what}: about {taken / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"


def _duration(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.1f} min"
    return f"{seconds / HOUR:.1f} h"


PROCESS_BYTES = 400 << 20
"""Of a Python process with torch."""

MANY_JOBS = 1000


def plan_run(run: Run, experiment: Experiment, *, device: str, workers: int | None) -> PlanReport:
    """Find out what `ens run` would do, and everything that would stop it.

    Data that the run does not hold yet are laid out in a temporary folder. Training and
    prediction are timed by two steps of each network on this machine, disks and chains by a block.

    Args:
        run: the experiment folder, there or not.
        experiment: what is asked.
        device: see `members.devices.devices`.
        workers: processes on each device.
    """
    found = PlanReport(str(run.path))
    where = found.attempt(lambda: devices(device)) or ["cpu"]
    _look_at_specs(found, experiment)
    if experiment.store is not None:
        found.attempt(partial(sizes_under, f"{experiment.store}/plan"))  # answers, and is ours
    with tempfile.TemporaryDirectory() as folder:
        laid_out = found.attempt(lambda: _laid_out(run, experiment, Path(folder)))
        classes = DataSet.load(laid_out.data("oof")).classes if laid_out else _named(experiment)
        members = _look_at_members(found, run, experiment, classes)
        known = [*(m.family or m.name for m in members), *imported_members(run)]
        _look_at_fusions(found, experiment, list(dict.fromkeys(known)))
        if laid_out is None:
            return found
        data = DataSet.load(laid_out.data("oof"))
        for name, chain in experiment.chains.items():
            alone = experiment.model_copy(update={"chains": {name: chain}})
            found.attempt(partial(check_chains, alone, data.classes))
        for member in members:
            found.attempt(partial(check_trainable, [member], data))
        found.odd += data_warnings(laid_out)
        sources = RunMembers(laid_out, tuple(members), imported_members(laid_out))
        for name in experiment.fusions:
            found.attempt(partial(check_fusion, sources, experiment, name))
        if not found.fails:
            laid = PreparedRun(
                sources,
                experiment,
                where,
                len(device_slots(where, workers, MANY_JOBS)),
                laid_out is not run,
            )
            found.steps = planned_stages(laid)
            found.odd += leakage_warnings(
                sources, [n for n in sources.names() if sources.splits(n)]
            )
            _look_at_room(found, run, laid)
    return found


def _look_at_specs(found: PlanReport, experiment: Experiment) -> None:
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
    found: PlanReport, run: Run, experiment: Experiment, classes: Classes
) -> list[Member]:
    members: list[Member] = []
    for name, asked in experiment.members.items():

        def expand(name: str = name, asked: dict[str, Any] = asked) -> list[Member]:
            recipe = read_recipe(name, asked, experiment.defaults)
            return Member.expand(name, recipe, classes)

        members += found.attempt(expand) or []
    found.attempt(lambda: check_not_imported(run, members))
    if not members and not imported_members(run):
        found.fails.append("there is no member: name some under 'members', or `ens import` maps")
    return members


def _look_at_fusions(found: PlanReport, experiment: Experiment, known: list[str]) -> None:
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


def _look_at_room(found: PlanReport, run: Run, laid: PreparedRun) -> None:
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
    images, classes, rows, cols = laid.size("oof")
    block = 4 * min(images, BLOCK_IMAGES) * classes * rows * cols * (names + 1)
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
