"""What a run holds beyond its scores: rankings, tunings, the page, what was handed over."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ensemble.pipeline.candidates.exports import handed_over, is_as_handed_over
from ensemble.pipeline.candidates.staleness import Freshness, Result
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

Found = tuple[Result, Path, bool]


def later(fresh: Freshness) -> Iterator[Found]:
    """Yield each result that is there, where it lies, and whether it is current."""
    yield from _leaderboard(fresh)
    yield from _tunings(fresh)
    yield from _report(fresh)
    yield from _handed_over(fresh)


def _leaderboard(fresh: Freshness) -> Iterator[Found]:
    run = fresh.sources.run
    folder = run.path / "scores"
    file = folder / f"{LEADERBOARD}.{RECORD}"
    if file.is_file():
        asked = read_json(file)["asked"]
        split, names = asked["split"], asked["candidates"]
        inputs = scores_of(run, names, split)
        own = is_current(folder, asked=asked, inputs=inputs, part=LEADERBOARD)
        current = own and _all_current(fresh, _scores(fresh, names, split))
        yield Result("leaderboard", "", split), folder / f"{LEADERBOARD}.csv", current


def _tunings(fresh: Freshness) -> Iterator[Found]:
    for file in sorted((fresh.sources.run.path / "tuning").glob(f"*/{RECORD}")):
        asked, folder = read_json(file)["asked"], file.parent
        own = is_tuned(fresh.sources, folder.name, asked)
        current = own and _all_current(fresh, fresh.maps(asked["of"], OOF))
        yield Result("tuning", folder.name, ""), folder, current


def _report(fresh: Freshness) -> Iterator[Found]:
    sources, page = fresh.sources, page_of(fresh.sources.run)
    if page.is_file():
        file = page.with_name(f"{PAGE}.{RECORD}")
        asked = read_json(file)["asked"] if file.is_file() else {"split": "", "candidate": ""}
        own = is_shown(sources, asked["split"], asked["candidate"])
        names = shown_candidates(sources.run, asked["split"])
        current = own and _all_current(fresh, _scores(fresh, names, asked["split"]))
        yield Result("report", asked["candidate"], asked["split"]), page, current


def _handed_over(fresh: Freshness) -> Iterator[Found]:
    run = fresh.sources.run
    for path, made_of in handed_over(run).items():
        labels = Result("labels", made_of["candidate"], made_of["split"])
        current = is_as_handed_over(run, made_of) and fresh.is_current(labels)
        yield Result(made_of["kind"], path, labels.part), Path(path), current


def _scores(fresh: Freshness, names: Iterable[str], split: str) -> list[Result]:
    scores = [Result("scores", name, part) for name in names for part in (OOF, split)]
    run = fresh.sources.run
    return [one for one in scores if (run.scores(one.name) / f"{one.part}.json").is_file()]


def _all_current(fresh: Freshness, results: Iterable[Result]) -> bool:
    return all(fresh.is_current(result) for result in results)
