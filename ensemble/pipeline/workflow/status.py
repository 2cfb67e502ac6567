"""The results of a run: which are current, stale or missing, and their size on disk."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ensemble.pipeline.candidates.staleness import (
    DATA,
    STAGES,
    Artifact,
    Stage,
    Staleness,
    exports_of,
    requested_candidates,
)
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.members.teaching import network_folds, predicted_splits
from ensemble.pipeline.report.report import PAGE, page_is_current, page_path, scored_candidates
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from ensemble.pipeline.scoring.score import LEADERBOARD, leaderboard_record
from ensemble.pipeline.tuning.results import is_tuned
from evaluation.core.files import read_json
from evaluation.core.provenance import CONFIG, RECORD, identity
from evaluation.core.run_folder import OOF, Run

CURRENT, STALE, MISSING = "current", "stale", "missing"


@dataclass(frozen=True)
class StatusRow:
    """One result of a run.

    Args:
        stage: `data`, `member`, `maps`, `fusion`, `labels`, `scores`, `leaderboard`, `tuning`,
            `report`, `submission` or `package`.
        name: of the member, fusion or candidate; the path of a submission or package.
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

    What was made of something stale is stale too, even where its own record agrees.

    Raises:
        BadRun: no run there.
    """
    run_members, experiment = RunMembers.of(run), run_experiment(run)
    run_classes(run)
    staleness = Staleness(run_members, experiment, STAGES | DOWNSTREAM)
    return [_row(staleness, r) for r in [*_results(staleness), *_downstream_results(run)]]


def next_command(run: Run, rows: list[StatusRow]) -> str:
    """Return the command that brings up to date what is not current, or makes what comes next."""
    late = next((row for row in rows if row.state != CURRENT), None)
    if late is None:
        stages = {row.stage for row in rows}
        after = {"scores": "score", "report": "report"}
        verb = next((verb for stage, verb in after.items() if stage not in stages), "compare")
        return f"ens {verb} --run {run.path}"
    commands = {
        "tuning": f"ens tune-postproc --run {run.path} --fusion {late.name}",
        "report": f"ens report --run {run.path}",
        "submission": f"ens submit --run {run.path} --candidate C --out {late.name}",
        "package": f"ens freeze --run {run.path} --candidate C --out {late.name}",
    }
    return commands.get(late.stage, f"ens run {run.experiment} --run {run.path}")


def status_to_dict(run: Run, rows: list[StatusRow]) -> dict[str, Any]:
    """Return the state as JSON values."""
    return {"run": str(run.path), "parts": [asdict(row) for row in rows]}


def format_status(run: Run, rows: list[StatusRow]) -> str:
    """Format the state as text: one line per stage and name, then the sums."""
    groups: dict[tuple[str, str], list[StatusRow]] = {}
    for row in rows:
        groups.setdefault((row.stage, row.name), []).append(row)
    stages, names = (max(map(len, words)) for words in zip(*groups, strict=True))
    lines = []
    for (stage, name), group in groups.items():
        size = sum(row.megabytes for row in group)
        lines.append(f"{stage:{stages}} {name:{names}} {size:9.1f} MB  {_states(group)}")
    counts = {s: sum(row.state == s for row in rows) for s in (CURRENT, STALE, MISSING)}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    total = sum(row.megabytes for row in rows)
    return "\n".join([*lines, f"{run.path}: {summary}; {total:.1f} MB"])


def _states(rows: list[StatusRow]) -> str:
    parts = {s: [row.part for row in rows if row.state == s] for s in (CURRENT, STALE, MISSING)}
    texts = {state: " ".join(named).strip() for state, named in parts.items() if named}
    return ", ".join(f"{state}: {text}" if text else state for state, text in texts.items())


def _row(staleness: Staleness, result: Artifact) -> StatusRow:
    path = staleness.stages[result.stage].path(staleness.run, result.name, result.part)
    current = staleness.is_current(result)
    state = CURRENT if current else STALE if path.exists() else MISSING
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return StatusRow(*result, state, sum(file.stat().st_size for file in files) / 1e6)


def _results(staleness: Staleness) -> Iterator[Artifact]:
    """Yield every result that the run has or should have, up to the scores."""
    run_members, run = staleness.run_members, staleness.run
    yield DATA
    for member in run_members.members:
        for fold in network_folds(run, member):
            yield Artifact("member", member.name, str(fold.index))
        for split in predicted_splits(run, member):
            yield Artifact("maps", member.name, split)
    for member in run_members.networks:
        yield Artifact("network", member.name, "")
        for split in run.splits():
            yield Artifact("maps", member.name, split)
    for name in run_members.imported:
        for split in run_members.splits(name, partial=True):
            yield Artifact("maps", name, split)
    for name in staleness.experiment.fusions:
        for split in staleness.splits(name):
            yield Artifact("fusion", name, split)
    for name in dict.fromkeys([*requested_candidates(staleness.experiment), *run.candidates()]):
        for split in staleness.splits(staleness.candidate(name)[0]):
            yield Artifact("labels", name, split)
            if (run.data(split) / "target.npy").is_file():
                yield Artifact("scores", name, split)


def _downstream_results(run: Run) -> Iterator[Artifact]:
    """Yield the results that follow from labels and scores, as far as they exist."""
    if (run.path / "scores" / f"{LEADERBOARD}.{RECORD}").is_file():
        yield Artifact(LEADERBOARD, "", _config(run, "leaderboard")["split"])
    for file in sorted((run.path / "tuning").glob(f"*/{RECORD}")):
        yield Artifact("tuning", file.parent.name, "")
    if page_path(run).is_file():
        config = _config(run, "report")
        yield Artifact("report", config["candidate"], config["split"])
    for path, entry in exports_of(run).items():
        yield Artifact(entry["kind"], path, entry["split"])


def _config(run: Run, stage: str, name: str = "") -> dict[str, Any]:
    """Return what a result was made with, by its own record."""
    files = {
        "leaderboard": run.path / "scores" / f"{LEADERBOARD}.{RECORD}",
        "tuning": run.path / "tuning" / name / RECORD,
        "report": page_path(run).with_name(f"{PAGE}.{RECORD}"),
    }
    if not files[stage].is_file():
        return {"split": "", "candidate": ""}
    return dict(read_json(files[stage])[CONFIG])


def _scores_made_of(run: Run, names: list[str], split: str) -> list[Artifact]:
    scores = [Artifact("scores", name, part) for name in names for part in (OOF, split)]
    return [result for result in scores if STAGES["scores"].path(run, *result[1:]).is_file()]


def _export_matches(staleness: Staleness, path: str, split: str) -> bool:
    entry = exports_of(staleness.run)[path]
    return bool(entry["labels"] == identity(staleness.run.labels(entry["candidate"], split)))


EXPORT = Stage(
    path=lambda _, path, __: Path(path),
    made_of=lambda s, path, split: [
        Artifact("labels", exports_of(s.run)[path]["candidate"], split)
    ],
    record_matches=_export_matches,
)

DOWNSTREAM = {
    LEADERBOARD: Stage(
        path=lambda run, _, __: run.path / "scores" / f"{LEADERBOARD}.csv",
        made_of=lambda s, _, split: _scores_made_of(
            s.run, _config(s.run, "leaderboard")["candidates"], split
        ),
        record_matches=lambda s, _, __: leaderboard_record(
            s.run, _config(s.run, "leaderboard")
        ).is_current(),
    ),
    "tuning": Stage(
        path=lambda run, name, _: run.path / "tuning" / name,
        made_of=lambda s, name, _: s.maps(_config(s.run, "tuning", name)["of"], OOF),
        record_matches=lambda s, name, _: is_tuned(
            s.run_members, name, _config(s.run, "tuning", name)
        ),
    ),
    "report": Stage(
        path=lambda run, _, __: page_path(run),
        made_of=lambda s, _, split: _scores_made_of(s.run, scored_candidates(s.run, split), split),
        record_matches=lambda s, candidate, split: page_is_current(s.run_members, split, candidate),
    ),
    "submission": EXPORT,
    "package": EXPORT,
}
"""What follows from labels and scores."""
