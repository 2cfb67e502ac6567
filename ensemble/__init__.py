"""Fusion strategies, the pipeline that conducts all rooms, and the `ens` command.

From Python: `fuse_maps` fuses arrays; docs/python.md shows the rest of the way to a score.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.api import fuse_maps

__all__ = ["fuse_maps"]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for, so that `ens --help` need not wait for the strategies.
    if name in __all__:
        from ensemble import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
