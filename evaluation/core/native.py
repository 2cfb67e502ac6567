"""Libraries that are compiled with the package."""

import ctypes
from pathlib import Path

from evaluation.core.errors import BadRun


def load_library(path: Path) -> ctypes.CDLL:
    """Load a library that hatch_build.py has built next to its sources.

    Raises:
        BadRun: the library is missing, or built for another machine.
    """
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BadRun(
            f"{path.name} cannot be loaded ({error}); run `pip install -e .` in the source folder"
        ) from None
