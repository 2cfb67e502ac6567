"""Explanations of terms, a few lines each: for `ens docs`, the report and the documentation."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from evaluation.core.errors import BadSpec, unknown

LINES = 5
"""Of an explanation, at most."""


@dataclass(frozen=True)
class Term:
    """A term, its other names, and what it means."""

    name: str
    aliases: tuple[str, ...]
    text: str


@cache
def terms() -> tuple[Term, ...]:
    """Return all terms, in the order of `glossary.md`."""
    content = files("evaluation").joinpath("glossary.md").read_text(encoding="utf-8")
    return tuple(_read(section) for section in content.split("\n## ")[1:])


def explain(name: str) -> Term:
    """Return a term by its name or another name, in upper or lower case.

    Raises:
        BadSpec: it is not explained.

    Examples:
        >>> explain("OOF").name
        'out-of-fold'
    """
    by_name = {_key(known): term for term in terms() for known in (term.name, *term.aliases)}
    if _key(name) not in by_name:
        raise BadSpec(unknown("term", name, [term.name for term in terms()]))
    return by_name[_key(name)]


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _read(section: str) -> Term:
    name, _, body = section.partition("\n")
    aliases: tuple[str, ...] = ()
    if body.startswith("Also: "):
        line, _, body = body.partition("\n")
        aliases = tuple(alias.strip() for alias in line.removeprefix("Also: ").split(","))
    return Term(name.strip(), aliases, body.strip())
