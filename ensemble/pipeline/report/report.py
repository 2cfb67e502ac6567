"""Write `report/index.html` of a run: first screen, leaderboard, figures, images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.pipeline.candidates.postprocess import (
    ARGMAX,
    LABELS,
    read_candidate,
    read_labels,
)
from ensemble.pipeline.candidates.staleness import score_digests
from ensemble.pipeline.members.teaching import network_folds
from ensemble.pipeline.report.candidate_trace import CandidateTrace
from ensemble.pipeline.report.classes import (
    NOTES,
    ClassChange,
    class_changes,
    class_table,
    confusion_figures,
    gains_figure,
    scores_figure,
)
from ensemble.pipeline.report.figures import curves_figure, member_figures, reliability_figure
from ensemble.pipeline.report.gallery import ImageReview, absent_filters, review_images
from ensemble.pipeline.report.headline import headline
from ensemble.pipeline.report.leaderboard import cost_figure, leaderboard_table, table_notes
from ensemble.pipeline.report.story import ScoredStage, stages, summary_sentence, waterfalls
from ensemble.pipeline.run.open_run import RunMembers, open_members, run_experiment, run_metric
from ensemble.pipeline.scoring.compare import compare_run
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadRun, LeakageError, format_count
from evaluation.core.progress import Log
from evaluation.core.provenance import digest, is_current, record
from evaluation.core.ragged import extent_of
from evaluation.core.run_folder import Run
from evaluation.leaderboard import Leaderboard
from evaluation.report.gallery import Gallery
from evaluation.report.page import (
    Page,
    Section,
    check_figures_folder,
    write_figures,
    write_page,
)
from evaluation.run_metric import metric_config
from evaluation.scores import read_scores
from members.maps import MapReader

PAGE = "index"


@dataclass(frozen=True)
class ReportResult:
    """What a report has written.

    Args:
        page: the HTML file.
        candidate: the candidate that the report explains.
        figures: files of figures, an SVG and a CSV each.
    """

    page: Path
    candidate: str
    figures: list[Path]


def report(
    run: Run,
    *,
    split: str,
    candidate: str | None,
    out: Path | None,
    figures: Path | None,
    log: Log,
) -> ReportResult:
    """Gather what a run holds, and write the page.

    Args:
        run: the experiment folder, scored.
        split: split to evaluate on.
        candidate: the candidate that the report explains; by default the one chosen on oof.
        out: the page; by default `report/index.html` in the run.
        figures: folder for each figure as an SVG file; None for none.
        log: receives a line for whatever was measured or left out.

    Raises:
        BadRun: nothing scored on the split, or the candidate is not scored on it.
        BadData: `figures` is a file.
    """
    if figures is not None:
        check_figures_folder(figures)
    board = compare_run(run, split=split, log=log)
    names = [row.name for row in board.rows]
    explained = candidate or board.chosen or names[0]
    if explained not in names:
        raise BadRun(f"no candidate {explained!r} is scored on {split}; known: {', '.join(names)}")
    run_members = RunMembers.of(run)
    reference = None if board.reference is None else read_candidate(run, board.reference)[0]
    trace = CandidateTrace.open(run_members, explained, split, reference)
    counts = read_scores(run.scores(explained), split)[1].counts
    members = _comparable_members(run_members, split)
    review = review_images(trace, read_labels(run, explained, split), counts, members)
    path = out or page_path(run)
    way, classes = stages(run_members, board, explained), trace.data.classes
    changes = _changes(run, board, way, classes)
    row = next(row for row in board.rows if row.name == explained)
    page = Page(
        title=f"{run.path.resolve().name}: {explained}",
        facts=headline(
            board, row, classes, len(trace.data), changes, _networks(run_members, row.members)
        ),
        sections=_sections(run_members, board, trace, way, changes, log),
        gallery=_gallery(run_members, trace, split, review, absent_filters(review, explained)),
        classes=classes,
        footer=f"Written by ens from {run.path}.",
    )
    write_page(path, page)
    if out is None:
        record_page(run_members, split, explained)
    all_figures = [figure for section in page.sections for figure in section.figures]
    files = [] if figures is None else write_figures(figures, all_figures)
    return ReportResult(path, explained, files)


def gallery_page(run: Run, split: str, candidate: str) -> Page:
    """Return a page with the images of a candidate alone; it is not written.

    Raises:
        BadRun: no such split or candidate, or it is not scored there.
    """
    if candidate not in (known := scored_candidates(run, split)):
        raise BadRun(
            f"no candidate {candidate!r} is scored on {split}; known: {', '.join(known) or 'none'}"
        )
    run_members = RunMembers.of(run)
    trace = CandidateTrace.open(run_members, candidate, split, None)
    counts = read_scores(run.scores(candidate), split)[1].counts
    members = _comparable_members(run_members, split)
    review = review_images(trace, read_labels(run, candidate, split), counts, members)
    title, gallery = f"{candidate}, {split}", _gallery(run_members, trace, split, review)
    return Page(title, [], [], gallery, trace.data.classes, f"Made by ens from {run.path}.")


def page_path(run: Run) -> Path:
    """Return the file of a run's own page."""
    return run.path / "report" / f"{PAGE}.html"


def record_page(run_members: RunMembers, split: str, candidate: str) -> None:
    """Record what the run's own page was made from.

    Args:
        run_members: of the run.
        split: split that the page evaluates.
        candidate: the candidate that the page explains.
    """
    config = _config(run_members, split, candidate)
    record(
        page_path(run_members.run).parent,
        config=config,
        inputs=_inputs(run_members, split),
        part=PAGE,
    )


def page_is_current(run_members: RunMembers, split: str, candidate: str) -> bool:
    """Tell whether the run's own page would be the same if written now."""
    config = _config(run_members, split, candidate)
    inputs = _inputs(run_members, split)
    return is_current(page_path(run_members.run).parent, config=config, inputs=inputs, part=PAGE)


def scored_candidates(run: Run, split: str) -> list[str]:
    """Return the candidates with scores on a split."""
    return [name for name in run.candidates() if (run.scores(name) / f"{split}.npz").is_file()]


def _config(run_members: RunMembers, split: str, candidate: str) -> dict[str, str]:
    metric = metric_config(run_metric(run_members.run))
    return {"split": split, "candidate": candidate, **metric}


def _inputs(run_members: RunMembers, split: str) -> dict[str, str]:
    """Return the digests of all scores on the leaderboard, of all maps, and of the classes."""
    run = run_members.run
    maps = {
        f"{name}/{split}": str(run_members.digest(name, split))
        for name in [*run_members.names(), *run.fusions()]
    }
    colours = {"colours": digest(run.classes)}
    return {**score_digests(run, scored_candidates(run, split), split), **maps, **colours}


def _changes(
    run: Run, board: Leaderboard, way: Sequence[ScoredStage], classes: Classes
) -> list[ClassChange]:
    """Compare the candidate with the best single member, class by class; none if it is that."""
    if len(way) < 2 or way[0].name != board.reference:
        return []
    rng = np.random.default_rng(run_experiment(run).seed)
    return class_changes(way[0].images, way[-1].images, board, classes, rng)


def _sections(
    run_members: RunMembers,
    board: Leaderboard,
    trace: CandidateTrace,
    way: Sequence[ScoredStage],
    changes: Sequence[ClassChange],
    log: Log,
) -> list[Section]:
    classes, candidate = trace.data.classes, way[-1].name
    cost, curves = cost_figure(board), curves_figure(run_members)
    same = same_labels(run_members.run, [row.name for row in board.rows], board.split)
    fused = f"{', '.join(trace.members)} fused by {trace.source}" if trace.fused else trace.source
    composition = f"{candidate}: {fused}, then {str(trace.chain) or ARGMAX}."
    of_classes = [
        *([gains_figure(changes, way)] if changes else []),
        *confusion_figures(way, classes),
        scores_figure(way, board, classes),
    ]
    sections = [
        Section(
            "board",
            "Leaderboard",
            leaderboard_table(board, same),
            notes=table_notes(board),
        ),
        Section(
            "classes",
            "Classes",
            class_table(changes, way, board) if changes else None,
            of_classes,
            NOTES if changes else (),
        ),
        Section(
            "cost",
            "Cost and gain per stage" if len(way) > 1 else "Cost",
            figures=[
                *([] if cost is None else [cost]),
                *waterfalls(way, board.protocol, classes),
            ],
            notes=[composition, summary_sentence(way, board.protocol, classes)],
        ),
        Section(
            "members",
            "Members and confidence",
            figures=[
                reliability_figure(run_members, trace, board.split),
                *member_figures(run_members, board.split, log),
                *([] if curves is None else [curves]),
            ],
        ),
    ]
    return [section for section in sections if section.figures or section.table]


def same_labels(run: Run, candidates: Sequence[str], split: str) -> dict[str, str]:
    """Return, of each candidate with exactly the labels of one before it, that one's name."""
    first: dict[bytes, list[str]] = {}
    same: dict[str, str] = {}
    for name in candidates:
        counts = read_scores(run.scores(name), split)[1].counts
        alike = first.setdefault(np.ascontiguousarray(counts).tobytes(), [])
        equal = next((one for one in alike if _equal_labels(run, one, name, split)), None)
        if equal is None:
            alike.append(name)
        else:
            same[name] = equal
    return same


def _equal_labels(run: Run, one: str, other: str, split: str) -> bool:
    """Compare two candidates' label maps of equal counts; False where they were removed."""
    if not all((run.labels(name, split) / LABELS).is_file() for name in (one, other)):
        return False
    a, b = (read_labels(run, name, split) for name in (one, other))
    return all(np.array_equal(a[block], b[block]) for block in blocks(extent_of(a)))


def _networks(run_members: RunMembers, members: Sequence[str]) -> str:
    """Return words for the networks of some members; empty if those of any are not known."""
    networks, of_folds = 0, True
    for name in members:
        if name in run_members.imported:
            return ""
        for member in run_members.members:
            if name in (member.name, member.family):
                networks += len(network_folds(run_members.run, member))
                of_folds &= not member.recipe.single
        for member in run_members.networks:
            networks, of_folds = networks + (member.name == name), of_folds & (member.name != name)
    return format_count(networks, "fold network" if of_folds else "network") if networks else ""


def _comparable_members(run_members: RunMembers, split: str) -> Sequence[MapReader]:
    """Open the maps of all members of the run; none if they cannot be compared."""
    try:
        return open_members(run_members, split, lambda _: None).readers
    except (BadRun, LeakageError):
        return ()


def _gallery(
    run_members: RunMembers,
    trace: CandidateTrace,
    split: str,
    review: ImageReview,
    note: str = "",
) -> Gallery:
    indices = review.indices
    return Gallery(
        ids=[trace.data.ids[index] for index in indices],
        images=[np.asarray(trace.data.images[index]) for index in indices],
        target=[np.asarray(trace.data.target()[index]) for index in indices],
        layers=trace.layers(indices),
        source=trace.source,
        uncertainty=trace.uncertainty(run_members, split, indices),
        filters=review.filters,
        note=note,
    )
