"""Write `report/index.html` of a run: leaderboard, gain per stage, figures, images."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.pipeline.candidates.postprocess import ARGMAX, read_candidate, read_labels
from ensemble.pipeline.candidates.staleness import score_digests
from ensemble.pipeline.report.candidate_trace import CandidateTrace
from ensemble.pipeline.report.figures import curves_figure, member_figures, reliability_figure
from ensemble.pipeline.report.gallery import ImageReview, review_images
from ensemble.pipeline.report.leaderboard import cost_figure, leaderboard_table
from ensemble.pipeline.report.story import (
    class_figure,
    class_tables,
    confusion_figures,
    stages,
    summary_sentence,
    waterfalls,
)
from ensemble.pipeline.run.open_run import RunMembers, run_metric
from ensemble.pipeline.scoring.compare import compare_run
from evaluation.core.arrays import evenly_spaced
from evaluation.core.errors import BadRun
from evaluation.core.files import atomic_file
from evaluation.core.progress import Log
from evaluation.core.provenance import digest, is_current, record
from evaluation.core.run_folder import Run
from evaluation.formatting import note_of_shown_classes
from evaluation.leaderboard import Leaderboard
from evaluation.leaderboard_notes import ranking_notes
from evaluation.report.gallery import Gallery
from evaluation.report.page import (
    Page,
    Section,
    check_figures_folder,
    write_figures,
    write_page,
)
from evaluation.run_metric import metric_config

PAGE = "index"
SPREAD = 12
"""Evenly spaced images in the gallery, besides those of the review queues."""


@dataclass(frozen=True)
class ReportResult:
    """What a report has written.

    Args:
        page: the HTML file.
        candidate: the candidate that the report explains.
        figures: one SVG file each.
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
    review = review_images(trace, read_labels(run, explained, split))
    path = out or page_path(run)
    tables = class_tables(stages(run_members, board, explained), trace.data.classes)
    page = Page(
        title=f"{run.path.resolve().name}: {explained}",
        subtitle=(
            f"{len(board.rows)} candidates evaluated on {board.split}: {len(trace.data):,} images"
            f" in {board.groups} groups"
        ),
        sections=_sections(run_members, board, trace, explained, list(tables), log),
        gallery=_gallery(trace, review),
        queues=review.queues(trace.data.ids),
        classes=trace.data.classes,
        footer=f"Written by ens from {run.path}.",
    )
    write_page(path, page)
    for name, rows in tables.items():
        with (
            atomic_file(path.parent / f"{name}.csv") as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows(rows)
    if out is None:
        record_page(run_members, split, explained)
    all_figures = [figure for section in page.sections for figure in section.figures]
    files = [] if figures is None else write_figures(figures, all_figures)
    return ReportResult(path, explained, files)


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


def _sections(
    run_members: RunMembers,
    board: Leaderboard,
    trace: CandidateTrace,
    candidate: str,
    tables: Sequence[str],
    log: Log,
) -> list[Section]:
    classes = trace.data.classes
    path = stages(run_members, board, candidate)
    cost, curves = cost_figure(board), curves_figure(run_members)
    fused = f"{', '.join(trace.members)} fused by {trace.source}" if trace.fused else trace.source
    composition = f"{candidate}: {fused}, then {str(trace.chain) or ARGMAX}."
    files = f"{', '.join(f'{name}.csv' for name in tables)} beside this page hold all"
    left_out = note_of_shown_classes(len(classes.scored), f"IoU of {candidate}", files)
    of_first = note_of_shown_classes(len(classes.scored), f"IoU of {board.rows[0].name}", files)
    sections = [
        Section(
            "board", "Leaderboard", [*of_first, *ranking_notes(board)], leaderboard_table(board)
        ),
        Section(
            "story",
            "Gain per stage",
            [composition, summary_sentence(path, board.protocol, classes)],
            figures=waterfalls(path, board.protocol, classes),
        ),
        Section(
            "classes",
            "Classes",
            left_out,
            figures=[class_figure(path, board, classes), *confusion_figures(path, classes)],
        ),
        Section(
            "trust", "Confidence", figures=[reliability_figure(run_members, trace, board.split)]
        ),
        Section("members", "Members", figures=member_figures(run_members, board.split, log)),
        Section("cost", "Score against cost", figures=[] if cost is None else [cost]),
        Section("training", "Training", figures=[] if curves is None else [curves]),
    ]
    return [section for section in sections if section.figures or section.table]


def _gallery(trace: CandidateTrace, review: ImageReview) -> Gallery:
    spread = evenly_spaced(len(trace.data), SPREAD)
    indices = list(dict.fromkeys([*review.indices(), *spread]))
    return Gallery(
        ids=[trace.data.ids[index] for index in indices],
        notes=[review.note(index) for index in indices],
        images=[np.asarray(trace.data.images[index]) for index in indices],
        target=[np.asarray(trace.data.target()[index]) for index in indices],
        layers=trace.layers(indices),
    )
