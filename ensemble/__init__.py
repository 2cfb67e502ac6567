"""Fuse, post-process, score and compare segmentation maps: `import ensemble as ens`.

`fuse`, `postprocess`, `score`, `compare`, `audit` and `open_run` are the Python API, shown step by
step in docs/python.md. They are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.api import audit, compare, fuse, fuse_maps, gallery, open_run, postprocess, score
    from ensemble.api.opened_run import OpenedRun
    from ensemble.api.results import AuditResult, Comparison, ScoreResult

__all__ = [
    "AuditResult",
    "Comparison",
    "OpenedRun",
    "ScoreResult",
    "audit",
    "compare",
    "fuse",
    "fuse_maps",
    "gallery",
    "open_run",
    "postprocess",
    "score",
]

_RESULTS = {
    "AuditResult": "ensemble.api.results",
    "Comparison": "ensemble.api.results",
    "OpenedRun": "ensemble.api.opened_run",
    "ScoreResult": "ensemble.api.results",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_RESULTS.get(name, "ensemble.api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
