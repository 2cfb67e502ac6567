"""What a run holds: what is there, what is stale, what is missing, and what it weighs."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ensemble.pipeline.candidates.downstream import downstream_artifacts
from ensemble.pipeline.candidates.staleness import (
    DATA,
    Artifact,
    Staleness,
    requested_candidates,
)
from ensemble.pipeline.data.prepare import read_folds, run_classes
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from evaluation.core.run_folder import Run

CURRENT, STALE, MISSING = "current", "stale", "missing"


@dataclass(frozen=True)
class StatusRow:
    """One result of a run.

    Args:
        stage: `data`, `member`, `maps`, `fusion`, `labels`, `scores`, `leaderboard`, `tuning`,
            `report`, `submission` or `package`.
        name: of the member, fusion or candidate; where a submission or package lies.
        part: the fold or split.
        state: `current`, `stale` or `missing`.
        megabytes: on disk.
    """

    stage: str
    name: str
    part: str
    state: str
    megabytes: float


def status(run: Run) -> list[StatusRow]:
    """List every result that the run has or should have, in the order in which they are made.

    What was made of something that is stale is stale too, even where the two agree.

    Raises:
        BadRun: no run there.
    """
    sources, experiment = RunMembers.of(run), run_experiment(run)
    run_classes(run)
    fresh = Staleness(sources, experiment)
    own = [_part(r, path, fresh.is_current(r)) for r, path in _results(fresh)]
    return own + [_part(r, path, current) for r, path, current in downstream_artifacts(fresh)]


def _results(fresh: Staleness) -> Iterator[tuple[Artifact, Path]]:
    sources, run = fresh.sources, fresh.sources.run
    splits = run.splits()
    yield DATA, run.path / "data"
    for member in sources.members:
        for fold in read_folds(run):
            part = str(fold.index)
            yield Artifact("member", member.name, part), run.model(member.name, fold.index)
        for split in splits:
            yield Artifact("maps", member.name, split), run.probabilities(member.name, split)
    for name in sources.foreign:
        for split in sources.splits(name):
            yield Artifact("maps", name, split), run.probabilities(name, split)
    for name in fresh.experiment.fusions:
        for split in fresh.splits(name):
            yield Artifact("fusion", name, split), run.fused(name, split)
    for name in dict.fromkeys([*requested_candidates(fresh.experiment), *run.candidates()]):
        for split in fresh.splits(fresh.asked(name)[0]):
            yield Artifact("labels", name, split), run.labels(name, split)
            if (run.data(split) / "target.npy").is_file():
                yield Artifact("scores", name, split), run.scores(name) / f"{split}.json"


def next_command(run: Run, parts: list[StatusRow]) -> str:
    """Return the command that brings up to date what comes first of all that is not current."""
    late = [part for part in parts if part.state != CURRENT]
    if not late:
        return f"ens score --run {run.path}"
    verbs = {
        "tuning": f"ens tune-postproc --run {run.path} --fusion {late[0].name}",
        "report": f"ens report --run {run.path}",
        "submission": f"ens submit --run {run.path} --candidate C --out {late[0].name}",
        "package": f"ens freeze --run {run.path} --candidate C --out {late[0].name}",
    }
    return verbs.get(late[0].stage, f"ens run {run.experiment} --run {run.path}")


def as_document(run: Run, parts: list[StatusRow]) -> dict[str, Any]:
    """Give the state as a JSON document."""
    return {"run": str(run.path), "parts": [asdict(part) for part in parts]}


def as_text(run: Run, parts: list[StatusRow]) -> str:
    """Give the state as lines: one a stage and name, then the sums."""
    rows: dict[tuple[str, str], list[StatusRow]] = {}
    for part in parts:
        rows.setdefault((part.stage, part.name), []).append(part)
    width = max([len(name) for _, name in rows] + [4])
    lines = [
        f"{stage:7} {name:{width}} {sum(p.megabytes for p in found):9.1f} MB  {_states(found)}"
        for (stage, name), found in rows.items()
    ]
    total = sum(part.megabytes for part in parts)
    counts = {s: sum(p.state == s for p in parts) for s in (CURRENT, STALE, MISSING)}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    return "\n".join([*lines, f"{run.path}: {summary}; {total:.1f} MB"])


def _states(parts: list[StatusRow]) -> str:
    return ", ".join(
        f"{state}: {' '.join(p.part for p in parts if p.state == state)}"
        for state in (CURRENT, STALE, MISSING)
        if any(p.state == state for p in parts)
    )


def _part(result: Artifact, path: Path, current: bool) -> StatusRow:
    state = CURRENT if current else STALE if path.exists() else MISSING
    return StatusRow(*result, state, _bytes(path) / 1e6)


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
