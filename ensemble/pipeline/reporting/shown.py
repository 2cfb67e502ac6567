"""What a report shows, as the record beside its page."""

from pathlib import Path

from ensemble.pipeline.scored import scores_of
from ensemble.pipeline.sources import Sources
from evaluation.ground.layout import Run
from evaluation.ground.provenance import digest, is_current, record

PAGE = "index"


def page_of(run: Run) -> Path:
    """Return where a run's own page lies."""
    return run.path / "report" / f"{PAGE}.html"


def record_page(sources: Sources, split: str, candidate: str) -> None:
    """Write down what the run's page was made of.

    Args:
        sources: of the run.
        split: that is examined.
        candidate: whose story is told.
    """
    asked = {"split": split, "candidate": candidate}
    record(page_of(sources.run).parent, asked=asked, inputs=_inputs(sources, split), part=PAGE)


def is_shown(sources: Sources, split: str, candidate: str) -> bool:
    """Tell whether the run's page would show the same today."""
    asked = {"split": split, "candidate": candidate}
    inputs = _inputs(sources, split)
    return is_current(page_of(sources.run).parent, asked=asked, inputs=inputs, part=PAGE)


def shown_candidates(run: Run, split: str) -> list[str]:
    """List the candidates with scores on a split."""
    return [name for name in run.candidates() if (run.scores(name) / f"{split}.npz").is_file()]


def _inputs(sources: Sources, split: str) -> dict[str, str]:
    """Return the identities of all scores on the board, of the maps drawn, and of the classes."""
    run = sources.run
    maps = {
        f"{name}/{split}": str(sources.identity(name, split))
        for name in [*sources.names(), *run.fusions()]
    }
    colours = {"colours": digest(run.classes)}
    return {**scores_of(run, shown_candidates(run, split), split), **maps, **colours}
