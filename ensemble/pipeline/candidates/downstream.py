"""What a run holds beyond its scores: rankings, tunings, the page, what was handed over."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ensemble.pipeline.candidates.exports import export_is_current, exports_of
from ensemble.pipeline.candidates.staleness import Artifact, Staleness
from ensemble.pipeline.report.report import (
    PAGE,
    is_shown,
    page_of,
    shown_candidates,
)
from ensemble.pipeline.run.open_run import OOF
from ensemble.pipeline.scoring.score_inputs import LEADERBOARD, scores_of
from ensemble.pipeline.tuning.results import is_tuned
from evaluation.core.files import read_json
from evaluation.core.provenance import RECORD, is_current

Found = tuple[Artifact, Path, bool]


def downstream_artifacts(fresh: Staleness) -> Iterator[Found]:
    """Yield each result that is there, where it lies, and whether it is current."""
    yield from _leaderboard(fresh)
    yield from _tunings(fresh)
    yield from _report(fresh)
    yield from _handed_over(fresh)


def _leaderboard(fresh: Staleness) -> Iterator[Found]:
    run = fresh.sources.run
    folder = run.path / "scores"
    file = folder / f"{LEADERBOARD}.{RECORD}"
    if file.is_file():
        asked = read_json(file)["asked"]
        split, names = asked["split"], asked["candidates"]
        inputs = scores_of(run, names, split)
        own = is_current(folder, asked=asked, inputs=inputs, part=LEADERBOARD)
        current = own and _all_current(fresh, _scores(fresh, names, split))
        yield Artifact("leaderboard", "", split), folder / f"{LEADERBOARD}.csv", current


def _tunings(fresh: Staleness) -> Iterator[Found]:
    for file in sorted((fresh.sources.run.path / "tuning").glob(f"*/{RECORD}")):
        asked, folder = read_json(file)["asked"], file.parent
        own = is_tuned(fresh.sources, folder.name, asked)
        current = own and _all_current(fresh, fresh.maps(asked["of"], OOF))
        yield Artifact("tuning", folder.name, ""), folder, current


def _report(fresh: Staleness) -> Iterator[Found]:
    sources, page = fresh.sources, page_of(fresh.sources.run)
    if page.is_file():
        file = page.with_name(f"{PAGE}.{RECORD}")
        asked = read_json(file)["asked"] if file.is_file() else {"split": "", "candidate": ""}
        own = is_shown(sources, asked["split"], asked["candidate"])
        names = shown_candidates(sources.run, asked["split"])
        current = own and _all_current(fresh, _scores(fresh, names, asked["split"]))
        yield Artifact("report", asked["candidate"], asked["split"]), page, current


def _handed_over(fresh: Staleness) -> Iterator[Found]:
    run = fresh.sources.run
    for path, made_of in exports_of(run).items():
        labels = Artifact("labels", made_of["candidate"], made_of["split"])
        current = export_is_current(run, made_of) and fresh.is_current(labels)
        yield Artifact(made_of["kind"], path, labels.part), Path(path), current


def _scores(fresh: Staleness, names: Iterable[str], split: str) -> list[Artifact]:
    scores = [Artifact("scores", name, part) for name in names for part in (OOF, split)]
    run = fresh.sources.run
    return [one for one in scores if (run.scores(one.name) / f"{one.part}.json").is_file()]


def _all_current(fresh: Staleness, results: Iterable[Artifact]) -> bool:
    return all(fresh.is_current(result) for result in results)
