"""What a tuning was made of, and whether that is so today."""

from ensemble.pipeline.folds import OOF
from ensemble.pipeline.prepare import classes_identity, split_identity
from ensemble.pipeline.sources import Sources
from evaluation.ground.provenance import digest, is_current


def tuned_from(sources: Sources, source: str) -> dict[str, str]:
    """Return the identities of all that a tuning of a fusion or member learns from."""
    return {
        "maps": str(sources.identity(source, OOF)),
        "data": split_identity(sources.run, OOF),
        "folds": digest(sources.run.folds),
        "classes": classes_identity(sources.run),
    }


def is_tuned(sources: Sources, name: str, asked: dict[str, object]) -> bool:
    """Tell whether a finished tuning would see the same maps, truth and folds today."""
    folder = sources.run.path / "tuning" / name
    return is_current(folder, asked=asked, inputs=tuned_from(sources, str(asked["of"])))
