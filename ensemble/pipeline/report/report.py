"""Write `report/index.html`: the board, the story of the score, and images to look at.

What a report shows, as the record beside its page.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ensemble.pipeline.candidates.postprocess import ARGMAX, read_candidate, read_labels
from ensemble.pipeline.report.candidate_trace import Walk
from ensemble.pipeline.report.figures import curves_figure, member_figures, reliability_figure
from ensemble.pipeline.report.gallery import Review, review
from ensemble.pipeline.report.leaderboard import board_table, cost_figure
from ensemble.pipeline.report.story import (
    class_figure,
    confusion_figures,
    stations,
    told,
    waterfalls,
)
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.scoring.compare import compare_run
from ensemble.pipeline.scoring.score_inputs import scores_of
from evaluation.core.arrays import evenly_spaced
from evaluation.core.errors import BadRun
from evaluation.core.provenance import digest, is_current, record
from evaluation.core.run_folder import Run
from evaluation.leaderboard import Leaderboard
from evaluation.leaderboard_text import rank_remarks
from evaluation.report.gallery import Gallery
from evaluation.report.page import (
    Figure,
    Page,
    Section,
    refuse_file,
    write_figures,
    write_page,
)

PAGE = "index"


def page_of(run: Run) -> Path:
    """Return where a run's own page lies."""
    return run.path / "report" / f"{PAGE}.html"


def record_page(sources: RunMembers, split: str, candidate: str) -> None:
    """Write down what the run's page was made of.

    Args:
        sources: of the run.
        split: that is examined.
        candidate: whose story is told.
    """
    asked = {"split": split, "candidate": candidate}
    record(page_of(sources.run).parent, asked=asked, inputs=_inputs(sources, split), part=PAGE)


def is_shown(sources: RunMembers, split: str, candidate: str) -> bool:
    """Tell whether the run's page would show the same today."""
    asked = {"split": split, "candidate": candidate}
    inputs = _inputs(sources, split)
    return is_current(page_of(sources.run).parent, asked=asked, inputs=inputs, part=PAGE)


def shown_candidates(run: Run, split: str) -> list[str]:
    """List the candidates with scores on a split."""
    return [name for name in run.candidates() if (run.scores(name) / f"{split}.npz").is_file()]


def _inputs(sources: RunMembers, split: str) -> dict[str, str]:
    """Return the identities of all scores on the board, of the maps drawn, and of the classes."""
    run = sources.run
    maps = {
        f"{name}/{split}": str(sources.identity(name, split))
        for name in [*sources.names(), *run.fusions()]
    }
    colours = {"colours": digest(run.classes)}
    return {**scores_of(run, shown_candidates(run, split), split), **maps, **colours}


SPREAD = 12
"""Images of the gallery beside those of the review queue, evenly spaced."""

Log = Callable[[str], None]


class Written(NamedTuple):
    """What a report has written.

    Args:
        page: where it is.
        candidate: whose story it tells.
        figures: files of their own.
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
) -> Written:
    """Gather what a run holds, and write the page.

    Args:
        run: the experiment folder, scored.
        split: the split that is examined.
        candidate: whose story is told; by default the one chosen on oof.
        out: of the page; by default `report/index.html` in the run.
        figures: folder for each figure as an SVG file of its own; None for none.
        log: receives a line for whatever was measured or left out.

    Raises:
        BadRun: nothing scored on the split, or no such candidate among what is.
        BadData: `figures` is a file.
    """
    if figures is not None:
        refuse_file(figures)
    board = compare_run(run, split=split, protocol="masked", log=log)
    names = [row.name for row in board.rows]
    chosen = candidate or board.chosen or names[0]
    if chosen not in names:
        raise BadRun(f"no candidate {chosen!r} is scored on {split}; known: {', '.join(names)}")
    sources = RunMembers.of(run)
    reference = None if board.reference is None else read_candidate(run, board.reference)[0]
    walk = Walk.of(sources, chosen, split, reference)
    found = review(walk, read_labels(run, chosen, split))
    page = Page(
        title=f"{run.path.resolve().name}: {chosen}",
        subtitle=_subtitle(board, walk),
        sections=_sections(sources, board, walk, chosen, log),
        gallery=_gallery(walk, found),
        queues=found.queues(walk.data.ids),
        classes=walk.data.classes,
        footer=f"Written by ens from {run.path}.",
    )
    target = out or page_of(run)
    write_page(target, page)
    if out is None:
        record_page(sources, split, chosen)
    drawn = [figure for section in page.sections for figure in section.figures]
    return Written(target, chosen, write_figures(figures, drawn) if figures is not None else [])


def _subtitle(board: Leaderboard, walk: Walk) -> str:
    return (
        f"{len(board.rows)} candidates examined on {board.split}: {len(walk.data):,} images in"
        f" {board.groups} groups"
    )


def _sections(
    sources: RunMembers, board: Leaderboard, walk: Walk, candidate: str, log: Log
) -> list[Section]:
    classes = walk.data.classes
    way = stations(sources, board, candidate)
    costs, curves = cost_figure(board), curves_figure(sources)
    sections = [
        Section("board", "Leaderboard", rank_remarks(board), board_table(board)),
        Section(
            "story",
            "The story of the score",
            [_way(walk, candidate), told(way, classes.ignore)],
            figures=waterfalls(way, classes.ignore),
        ),
        Section(
            "classes",
            "Classes",
            figures=[class_figure(way, board, classes), *confusion_figures(way, classes)],
        ),
        Section("trust", "Confidence", figures=[reliability_figure(walk)]),
        Section("members", "Members", figures=member_figures(sources, board.split, log)),
        Section("cost", "Score against cost", figures=_known(costs)),
        Section("training", "Training", figures=_known(curves)),
    ]
    return [section for section in sections if section.figures or section.table]


def _known(figure: Figure | None) -> list[Figure]:
    return [] if figure is None else [figure]


def _way(walk: Walk, candidate: str) -> str:
    fused = f"{', '.join(walk.members)} fused by {walk.source}" if walk.fused else walk.source
    return f"{candidate}: {fused}, then {walk.chain or ARGMAX}."


def _gallery(walk: Walk, found: Review) -> Gallery:
    places = list(dict.fromkeys([*found.places(), *evenly_spaced(len(walk.data), SPREAD)]))
    return Gallery(
        ids=[walk.data.ids[place] for place in places],
        notes=[found.note(place) for place in places],
        images=np.asarray(walk.data.images[places]),
        target=np.asarray(walk.data.target()[places]),
        layers=walk.layers(places),
    )
