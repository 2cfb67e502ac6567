"""Errors that a user can cause: the command prints one line without traceback and exits 2."""

from collections.abc import Hashable, Iterable
from typing import Any


class EnsError(Exception):
    """What was found, what was expected and what to do, in one line."""


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


class BadNetwork(EnsError):
    """A network from elsewhere that cannot be opened or run, or whose outputs are no maps."""


class LeakageError(EnsError):
    """A fit on maps of images that a member was trained on."""


def shorten(value: Any, limit: int = 200) -> str:
    """Return a value's `repr` for a message, cut after `limit` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no number of more than 4,300 digits
        text = f"<{type(value).__name__} too long to be written>"
    return text if len(text) <= limit else f"{text[:limit]}..."


def format_count(count: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    Examples:
        >>> format_count(1, "image"), format_count(0, "image"), format_count(2, "class", "classes")
        ('1 image', '0 images', '2 classes')
    """
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"


def unknown(kind: str, value: Any, known: Iterable[str]) -> str:
    """Return the message for a name that is not in a table.

    Examples:
        >>> unknown("fusion strategy", "stackin", ["stacking", "mean"])
        "unknown fusion strategy 'stackin'; known: mean, stacking"
    """
    return f"unknown {kind} {shorten(value)}; known: {', '.join(sorted(known))}"


def check_distinct(kind: str, names: Iterable[Hashable]) -> None:
    """Refuse a list that names one thing twice: a mean, say, would weigh it double.

    Raises:
        BadSpec: the first that is repeated.

    Examples:
        >>> check_distinct("member", ["a", "b", "a"])
        Traceback (most recent call last):
            ...
        evaluation.core.errors.BadSpec: member a is given twice; name each once
    """
    seen = set()
    for name in names:
        if name in seen:
            raise BadSpec(f"{kind} {name} is given twice; name each once")
        seen.add(name)
