"""The result of a tuning: its scores, its files, its text, and what it was made from."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from ensemble.pipeline.data.prepare import classes_identity, split_identity
from ensemble.pipeline.run.open_run import RunMembers, run_metric
from ensemble.pipeline.tuning.cross_fitted_counts import CvPool
from ensemble.pipeline.tuning.selection import AblationResult, Gain, GainTest
from ensemble.pipeline.tuning.trials import read_journal
from evaluation.core.files import atomic_file, read_json, write_json
from evaluation.core.provenance import digest, is_current, record
from evaluation.core.run_folder import OOF
from evaluation.core.types import Array, Counts
from evaluation.intervals import Interval
from evaluation.run_metric import MASKED, metric_config, metric_label

RESULT, TABLE = "result.json", "trials.csv"


@dataclass(frozen=True)
class FoldResult:
    """One search: the score `tuned` on its train images, `score` and `plain` on its test images."""

    search: str
    chain: str
    fitted: str
    steps: tuple[AblationResult, ...]
    trials: dict[str, int]
    tuned: float
    score: float
    plain: float


@dataclass(frozen=True)
class NestedResult:
    """A search with the counts of its test images, by its chain and by the plain argmax.

    For the search on all images these are all images.
    """

    result: FoldResult
    counts: Counts
    plain: Counts
    groups: Array


@dataclass(frozen=True)
class TuningResult:
    """The chain from the search on all images, and the searches that evaluate it.

    Scores: `plain` of the argmax, `tuned` of the chain on the images that it was chosen on,
    `examined` of the chains chosen without each fold, on that fold. Optimism is tuned minus
    examined.
    """

    run: str
    name: str
    of: str
    protocol: str
    images: int
    groups: int
    chain: str
    fitted: str
    steps: tuple[AblationResult, ...]
    trials: dict[str, int]
    plain: float
    tuned: float
    examined: float
    optimism: float
    examined_gain: Gain
    classes_that_fall: tuple[str, ...]
    folds: tuple[FoldResult, ...]

    @classmethod
    def create(
        cls,
        run: str,
        name: str,
        of: str,
        results: Sequence[NestedResult],
        pool: CvPool,
        metric: str = MASKED,
    ) -> "TuningResult":
        """Combine the search on all images, which is first, and those without each fold."""
        overall = results[0].result
        folds = results[1:]
        groups = np.concatenate([fold.groups for fold in folds])
        test = GainTest(pool.classes, groups, metric)
        counts = np.concatenate([fold.counts for fold in folds])
        plain = np.concatenate([fold.plain for fold in folds])
        examined = test.score(counts)
        return cls(
            run=run,
            name=name,
            of=of,
            protocol=metric,
            images=len(counts),
            groups=len(np.unique(groups)),
            chain=overall.chain,
            fitted=overall.fitted,
            steps=overall.steps,
            trials=dict(sum((Counter(nested.result.trials) for nested in results), Counter())),
            plain=test.score(plain),
            tuned=overall.tuned,
            examined=examined,
            optimism=overall.tuned - examined,
            examined_gain=test.gain(counts, plain),
            classes_that_fall=tuple(test.regressed_classes(counts, plain)),
            folds=tuple(fold.result for fold in folds),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def write_result(
    folder: Path, result: TuningResult, *, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> None:
    """Write `trials.csv`, `result.json` and the record that makes the folder valid."""
    with (
        atomic_file(folder / TABLE) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["search", "number", "state", "score", "seconds", "chain", "reason"])
        for journal in sorted(folder.glob("*.jsonl")):
            for t in read_journal(journal)[: config["trials"]]:
                score = "" if t.score is None else f"{t.score:.6f}"
                row = [journal.stem, t.number, t.state, score, t.seconds, t.chain, t.reason]
                table.writerow(row)
    write_json(folder / RESULT, result.to_dict())
    record(folder, config=config, inputs=inputs)


def read_result(folder: Path) -> TuningResult:
    """Read what `write_result` wrote."""
    return TypeAdapter(TuningResult).validate_python(read_json(folder / RESULT))


def tuning_inputs(run_members: RunMembers, source: str) -> dict[str, str]:
    """Return the digests of everything that a tuning of a fusion or member learns from."""
    return {
        "maps": str(run_members.digest(source, OOF)),
        "data": split_identity(run_members.run, OOF),
        "folds": digest(run_members.run.folds),
        "classes": classes_identity(run_members.run),
    }


def is_tuned(run_members: RunMembers, name: str, recorded: dict[str, object]) -> bool:
    """Tell whether a finished tuning is current: same maps, target, folds and metric today."""
    folder = run_members.run.path / "tuning" / name
    config = {key: value for key, value in recorded.items() if key != "metric"}
    config |= metric_config(run_metric(run_members.run))
    return is_current(folder, config=config, inputs=tuning_inputs(run_members, str(config["of"])))


def format_tuning(result: TuningResult) -> str:
    """Format the chain, its scores and the result of each fold."""
    trials = ", ".join(f"{number} {state}" for state, number in result.trials.items())
    gain, label = result.examined_gain, metric_label(result.protocol)
    searches = f"{1 + len(result.folds)} searches: {trials}"
    lines = [
        f"{result.run}: tuning {result.name} of {result.of} ({searches})",
        f"chain: {result.chain or 'none; no step is shown to help'}",
        *map(_format_step, result.steps),
        f"{label} over {result.images} out-of-fold images of {result.groups} groups",
        f"  no post-processing  {result.plain:.4f}",
        f"  tuned               {result.tuned:.4f}  on the images that the search used",
        f"  examined            {result.examined:.4f}  chosen and fitted without these images",
        f"  optimism            {result.optimism:+.4f}  tuned minus examined",
        f"  examined gain       {gain.gain:+.4f}  {_format_interval(gain.interval)}",
    ]
    if result.classes_that_fall:
        lines.append(f"  classes that fall   {', '.join(result.classes_that_fall)}")
    for fold in result.folds:
        change = f"{fold.plain:.4f} -> {fold.score:.4f}"
        lines.append(f"{fold.search}: {change} by {fold.chain or 'no step'}")
    return "\n".join(lines)


def _format_step(step: AblationResult) -> str:
    why = "kept"
    if not step.kept:
        falls = ", ".join(step.classes_that_fall)
        why = f"dropped: {falls} falls" if falls else "dropped: not shown to help"
    return f"  {step.gain:+.4f} {_format_interval(step.interval)}  {step.step}  {why}"


def _format_interval(interval: Interval | None) -> str:
    if interval is None:
        return "(no interval: one group)"
    return f"({interval.low:+.4f} to {interval.high:+.4f})"
