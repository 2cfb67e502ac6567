"""Everything a user can cause derives from `EnsError`: one line on stderr, exit code 2."""

from typing import Any


class EnsError(Exception):
    """What was met, what was expected, what to do: in one line, without a traceback."""


def shorten(value: Any, most: int = 200) -> str:
    """Write a value for a message, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no number of more than 4,300 digits
        text = f"<{type(value).__name__} too long to be written>"
    return text if len(text) <= most else f"{text[:most]}..."


class BadSpec(EnsError):
    """A spec string that does not parse, or names something unknown."""


class BadData(EnsError):
    """Images, masks or an array file that cannot be used as they are."""


class BadLabels(EnsError):
    """Label maps with values or shapes that cannot be counted."""


class BadMaps(EnsError):
    """Probability maps that are not probabilities, or do not fit together."""


class BadRun(EnsError):
    """An experiment folder that lacks something, or holds something unexpected."""


class LeakageError(EnsError):
    """Something would learn from maps of images that a member was trained on."""
