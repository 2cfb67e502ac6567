"""What a run would take in time, disk and memory, and what would stop it; nothing is written."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ensemble.block_fusion import FUSED_MAPS
from ensemble.pipeline.candidates.leakage_warnings import leakage_warnings
from ensemble.pipeline.data.prepare import is_prepared, prepare, run_classes
from ensemble.pipeline.members.networks import examine_network, is_registered
from ensemble.pipeline.members.teaching import check_students
from ensemble.pipeline.members.train import check_not_imported, check_trainable
from ensemble.pipeline.run.experiment import Experiment, check_chains
from ensemble.pipeline.run.open_run import RunMembers, imported_members
from ensemble.pipeline.workflow.preflight import check_fusion, data_warnings
from ensemble.pipeline.workflow.run_all import check_candidates, check_specs
from ensemble.pipeline.workflow.stages import PlannedStage, PreparedRun, planned_stages
from evaluation.core.classes import Classes, numbered
from evaluation.core.errors import EnsError
from evaluation.core.memory import blocks_at_a_time, free_bytes
from evaluation.core.run_folder import OOF, Run
from members.data.dataset import DataSet
from members.devices import devices
from members.jobs import device_slots
from members.object_store import sizes_under
from members.recipe import Member, read_recipe

MINUTE, HOUR = 60, 3600

PROCESS_BYTES = 400 << 20
"""Of a Python process with torch."""

MAX_JOBS = 1000

Result = TypeVar("Result")


@dataclass
class PlanReport:
    """What a run would take, and what would stop it.

    Args:
        run: its folder.
        stages: what it does, in order.
        blockers: reasons for which it would stop; none for a run that goes through.
        warnings: what to check first.
        free_bytes: of the disk.
        memory_bytes: that its processes take together, about.
        memory_free_bytes: that this machine has.
    """

    run: str
    stages: list[PlannedStage] = field(default_factory=list)
    blockers: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    free_bytes: int = 0
    memory_bytes: int = 0
    memory_free_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Of all stages together."""
        return sum((stage.seconds for stage in self.stages), 0.0)

    @property
    def bytes_to_write(self) -> int:
        """Of all stages together."""
        return sum(stage.bytes_to_write for stage in self.stages)

    def collect(self, work: Callable[[], Result]) -> Result | None:
        """Call a function; an error that the user can fix becomes a blocker, the result None."""
        try:
            return work()
        except EnsError as error:
            if str(error) not in self.blockers:
                self.blockers.append(str(error))
            return None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "run": self.run,
            "steps": [asdict(stage) for stage in self.stages],
            "fails": self.blockers,
            "odd": self.warnings,
            "free_bytes": self.free_bytes,
            "memory_bytes": self.memory_bytes,
            "memory_free_bytes": self.memory_free_bytes,
            "seconds": self.seconds,
            "bytes_to_write": self.bytes_to_write,
        }


def raise_if_blocked(report: PlanReport) -> None:
    """Refuse a run that would fail.

    Raises:
        EnsError: the first reason, and the number of the others.
    """
    if report.blockers:
        others = len(report.blockers) - 1
        more = f"; and {others} reasons more" if others else ""
        raise EnsError(f"{report.run} would fail: {report.blockers[0]}{more}")


def format_plan(report: PlanReport) -> str:
    """Format a plan as text: stages, sums, warnings, and what would stop the run."""
    width = max([len(stage.name) for stage in report.stages] + [4])
    lines = [
        f"{stage.step:11} {stage.name:{width}} {stage.missing:3} of {stage.parts} missing"
        f" {_format_duration(stage.seconds):>9} {stage.bytes_to_write / 1e6:10.1f} MB"
        for stage in report.stages
    ]
    if report.stages:
        duration = _format_duration(report.seconds)
        lines += [
            f"time: about {duration}; training at most, it may stop early",
            _format_space("disk", report.bytes_to_write, report.free_bytes),
            _format_space("memory", report.memory_bytes, report.memory_free_bytes),
        ]
    lines += [f"warning: {line}" for line in report.warnings]
    lines += [f"fails: {line}" for line in report.blockers]
    return "\n".join(lines)


def _format_space(what: str, needed: int, free: int) -> str:
    return f"{what}: about {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"


def _format_duration(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.1f} min"
    return f"{seconds / HOUR:.1f} h"


def plan_run(run: Run, experiment: Experiment, *, device: str, workers: int | None) -> PlanReport:
    """Report what `ens run` would do, and everything that would stop it.

    Data that the run does not hold yet are prepared in a temporary folder. Training and prediction
    are timed by two steps of each network on this machine, disks and chains by a block.
    """
    report = PlanReport(str(run.path))
    device_names = report.collect(lambda: devices(device)) or ["cpu"]
    _check_each_spec(report, experiment)
    if experiment.store is not None:
        report.collect(partial(sizes_under, f"{experiment.store}/plan"))  # reachable, readable
    with tempfile.TemporaryDirectory() as folder:
        prepared = report.collect(lambda: _prepare(run, experiment, Path(folder)))
        named = experiment.named_classes() or numbered(2, ignore=None)
        classes = run_classes(prepared) if prepared else named
        members = _check_members(report, run, experiment, classes)
        networks = report.collect(experiment.external_members) or []
        known = [*(m.family or m.name for m in (*members, *networks)), *imported_members(run)]
        _check_fusion_members(report, experiment, list(dict.fromkeys(known)))
        if prepared is None:
            return report
        run_members = RunMembers(
            prepared, tuple(members), imported_members(prepared), tuple(networks)
        )
        _check_against_data(report, run_members, experiment, classes)
        if not report.blockers:
            slots = len(device_slots(device_names, workers, MAX_JOBS))
            is_new = prepared is not run
            _estimate(
                report, run, PreparedRun(run_members, experiment, device_names, slots, is_new)
            )
    return report


def _check_each_spec(report: PlanReport, experiment: Experiment) -> None:
    """Check every spec by itself, so that all that is wrong is reported at once."""
    nothing: dict[str, Any] = {"members": {}, "fusions": {}, "chains": {}}
    for kind in nothing:
        for name, value in getattr(experiment, kind).items():
            alone = experiment.model_copy(update={**nothing, kind: {name: value}})
            report.collect(partial(check_specs, alone))
    report.collect(partial(check_candidates, experiment))


def _prepare(run: Run, experiment: Experiment, folder: Path) -> Run:
    """Return the run, or a temporary one with the data that it would have."""
    if is_prepared(run, experiment):
        return run
    temporary = Run(folder / "run")
    prepare(temporary, experiment, lambda _: None)
    experiment.write(temporary.experiment)
    return temporary


def _check_members(
    report: PlanReport, run: Run, experiment: Experiment, classes: Classes
) -> list[Member]:
    members: list[Member] = []
    for name, recipe in experiment.members.items():

        def networks(name: str = name, recipe: dict[str, Any] = recipe) -> list[Member]:
            return Member.expand(name, read_recipe(name, recipe, experiment.defaults), classes)

        members += report.collect(networks) or []
    report.collect(lambda: check_not_imported(run, members))
    if not members and not experiment.networks and not imported_members(run):
        report.blockers.append(
            "there is no member: name some under 'members' or 'networks', or `ens import` maps"
        )
    return members


def _check_fusion_members(report: PlanReport, experiment: Experiment, known: list[str]) -> None:
    before: list[str] = []
    for name in experiment.fusions:
        if name in known:
            report.blockers.append(f"fusion {name!r} has the name of a member; choose another")
        for member in experiment.fusion_entry(name).members:
            if member not in [*known, *before]:
                report.blockers.append(
                    f"fusion {name!r} takes {member!r}; known: {', '.join([*known, *before])}"
                )
        before.append(name)


def _check_against_data(
    report: PlanReport, run_members: RunMembers, experiment: Experiment, classes: Classes
) -> None:
    data = DataSet.load(run_members.run.data(OOF))
    for name, chain in experiment.chains.items():
        alone = experiment.model_copy(update={"chains": {name: chain}})
        report.collect(partial(check_chains, alone, classes))
    for member in run_members.members:
        report.collect(partial(check_trainable, [member], data, experiment.store_dtype))
    for network in run_members.networks:
        if not is_registered(run_members.run, network):
            report.collect(partial(examine_network, run_members.run, network))
    students = partial(check_students, run_members.run, experiment, run_members.members)
    report.collect(students)
    report.warnings += data_warnings(run_members.run)
    for name in experiment.fusions:
        report.collect(partial(check_fusion, run_members, experiment, name))


def _estimate(report: PlanReport, run: Run, prepared: PreparedRun) -> None:
    """Add the stages and what they take, signs of leakage, and a lack of disk or memory."""
    run_members = prepared.run_members
    report.stages = planned_stages(prepared)
    with_maps = [name for name in run_members.names() if run_members.splits(name)]
    report.warnings += leakage_warnings(run_members, with_maps)
    existing = next(p for p in [run.path, *run.path.absolute().parents] if p.exists())
    report.free_bytes = shutil.disk_usage(existing).free
    elsewhere = ("predict", "fuse") if prepared.experiment.store else ()
    needed = sum(s.bytes_to_write for s in report.stages if s.step not in elsewhere)
    if needed > report.free_bytes:
        report.blockers.append(
            f"{needed / 1e9:.1f} GB would be written and {report.free_bytes / 1e9:.1f} GB are free"
            f" at {existing}; take another --run, store_dtype compact or fewer members"
        )
    names = len(run_members.names())
    data = prepared.data(OOF)
    block_pixel = 4 * len(data.classes) * (names + FUSED_MAPS)
    at_a_time = blocks_at_a_time(data.extent, block_pixel)
    fusing = at_a_time * block_pixel * data.extent.largest_block() if names else 0
    training = max((stage.memory_bytes for stage in report.stages), default=0)
    workers = prepared.num_workers
    report.memory_bytes = max(fusing + PROCESS_BYTES, workers * (training + PROCESS_BYTES))
    report.memory_free_bytes = free_bytes()
    if prepared.devices == ["cpu"] and report.memory_bytes > report.memory_free_bytes:
        report.warnings.append(
            f"about {report.memory_bytes / 1e9:.1f} GB of memory for {workers} parallel processes,"
            f" and {report.memory_free_bytes / 1e9:.1f} GB are free; take fewer --workers or a"
            " smaller batch"
        )
