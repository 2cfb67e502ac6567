"""What a run holds: what is there, what is stale, what is missing, and what it weighs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ensemble.pipeline.fusing import is_fused, planned
from ensemble.pipeline.importing import is_imported
from ensemble.pipeline.postprocessing import is_labelled, read_candidate
from ensemble.pipeline.prepare import read_folds, run_classes
from ensemble.pipeline.scoring import fused, is_scored
from ensemble.pipeline.sources import Sources, run_experiment
from ensemble.pipeline.training import is_predicted, is_trained
from evaluation.ground.layout import Run

CURRENT, STALE, MISSING = "current", "stale", "missing"


@dataclass(frozen=True)
class Part:
    """One result of a run.

    Args:
        stage: `member`, `maps`, `fusion`, `labels` or `scores`.
        name: of the member, fusion or candidate.
        part: the fold or split.
        state: `current`, `stale` or `missing`.
        megabytes: on disk.
    """

    stage: str
    name: str
    part: str
    state: str
    megabytes: float


def status(run: Run) -> list[Part]:
    """List every result that the run has or should have.

    Raises:
        BadRun: no run there.
    """
    sources, experiment = Sources.of(run), run_experiment(run)
    folds, splits = read_folds(run), run.splits()
    run_classes(run)
    parts = []
    for member in sources.members:
        for fold in folds:
            folder = run.model(member.name, fold.index)
            current = is_trained(run, experiment, member, fold)
            parts.append(_part("member", member.name, f"fold-{fold.index}", folder, current))
        for split in splits:
            folder = run.probabilities(member.name, split)
            current = is_predicted(run, member, split, folds, experiment.store_dtype)
            parts.append(_part("maps", member.name, split, folder, current))
    parts += [
        _part("maps", name, split, run.probabilities(name, split), is_imported(run, name, split))
        for name in sources.foreign
        for split in sources.splits(name)
    ]
    for name in fused(run, experiment):
        plan = planned(experiment, sources, name)
        for split in splits:
            current = is_fused(sources, plan, split)
            parts.append(_part("fusion", name, split, run.fused(name, split), current))
    for name in run.candidates():
        source, chain = read_candidate(run, name)
        for split in splits:
            folder = run.labels(name, split)
            current = is_labelled(sources, source, chain, name, split)
            parts.append(_part("labels", name, split, folder, current))
            if (run.data(split) / "truth.npy").is_file():
                file = run.scores(name) / f"{split}.json"
                parts.append(_part("scores", name, split, file, is_scored(run, name, split)))
    return parts


def as_document(run: Run, parts: list[Part]) -> dict[str, Any]:
    """Give the state as a JSON document."""
    return {"run": str(run.path), "parts": [asdict(part) for part in parts]}


def as_text(run: Run, parts: list[Part]) -> str:
    """Give the state as lines: one a stage and name, then the sums."""
    rows: dict[tuple[str, str], list[Part]] = {}
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


def _states(parts: list[Part]) -> str:
    return ", ".join(
        f"{state}: {' '.join(p.part for p in parts if p.state == state)}"
        for state in (CURRENT, STALE, MISSING)
        if any(p.state == state for p in parts)
    )


def _part(stage: str, name: str, part: str, path: Path, current: bool) -> Part:
    state = CURRENT if current else STALE if path.exists() else MISSING
    return Part(stage, name, part, state, _bytes(path) / 1e6)


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
