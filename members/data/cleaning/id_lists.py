"""Lists of ids in text files: one per line, `#` for comments."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from evaluation.core.errors import BadData
from evaluation.core.text_files import read_lines
from evaluation.core.types import Kept

COMMENT = "#"
QUOTES = "\"'"
SUFFIX = re.compile(r"(?<=.)\.(png|jpe?g|tiff?|bmp|webp|npy|npz)$", re.IGNORECASE)
FOLDERS = re.compile(r"[/\\]")


def read_drop_list(path: Path, known_ids: Sequence[str]) -> Kept:
    """Return which images a drop list keeps: those that it does not name; see `read_ids`."""
    return ~read_id_list(path, known_ids)


def read_id_list(path: Path, known_ids: Sequence[str]) -> Kept:
    """Return which images a list of ids names; see `read_ids`."""
    named = read_ids(path, known_ids)
    return np.array([name in named for name in known_ids], bool)


def read_ids(path: Path, known_ids: Sequence[str], *, of: str = "the data set") -> frozenset[str]:
    """Return the ids that a list names.

    Args:
        path: a text file with one id per line; what follows `#` is a comment. An id may stand in
            quotes, with folders before it, or with the suffix of an image file.
        known_ids: ids of all images that may be named.
        of: whose ids they are, for the message.

    Raises:
        BadData: no such file, no text, or an id that matches none of them, or several.
    """
    known = frozenset(known_ids)
    lines = read_lines(path, "a text file with one id per line")
    names = [name for line in lines if (name := _parse_line(line, known))]
    found = dict(zip(names, find_ids(names, known_ids), strict=True))
    for name, meant in found.items():
        _check_not_ambiguous(name, meant, f"{path} names")
    unknown = [name for name in names if not found[name]]
    if unknown:
        example = f", such as {known_ids[0]!r}" if known_ids else ""
        raise BadData(
            f"{path} names {len(unknown)} unknown ids (first: {unknown[0]!r}); expected ids of"
            f" {of}{example}, one per line"
        )
    return frozenset(name for (name,) in found.values())


def find_ids(names: Iterable[str], known_ids: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the known ids that each name may mean: one, none or several.

    The same text goes first. Else quotes, the suffix of an image file and the way in which accents
    are composed do not count, and of two names one may begin with folders that the other lacks.

    Examples:
        >>> find_ids(["a.png", "train/b", "c", "x/e"], ["a", "b", "set/c", "y/e"])
        [('a',), ('b',), ('set/c',), ()]
    """
    known, by_name = dict.fromkeys(known_ids), dict[str, list[tuple[list[str], str]]]()
    for name in known:
        parts = _parts(name)
        by_name.setdefault(parts[-1], []).append((parts, name))

    def find(name: str) -> tuple[str, ...]:
        if name in known:
            return (name,)
        parts = _parts(name)
        among = by_name.get(parts[-1], [])
        same = [known_id for known_parts, known_id in among if known_parts == parts]
        ends = [
            known_id
            for known_parts, known_id in among
            if all(a == b for a, b in zip(reversed(known_parts), reversed(parts), strict=False))
        ]
        return tuple(same or ends)

    return [find(name) for name in names]


def indices_of(names: Sequence[str], known_ids: Sequence[str], split: str) -> list[int]:
    """Return the index of each image that a user named; see `find_ids`.

    Raises:
        BadData: a name that means no image of the split, or several.
    """
    index_of = {name: index for index, name in enumerate(known_ids)}
    indices = []
    for given, meant in zip(names, find_ids(names, known_ids), strict=True):
        _check_not_ambiguous(given, meant, f"{split}: there is")
        if not meant:
            example = f"; known: {known_ids[0]}, ..." if known_ids else ", which is empty"
            raise BadData(f"no image {given!r} in {split}{example}")
        indices.append(index_of[meant[0]])
    return indices


def _check_not_ambiguous(name: str, meant: Sequence[str], where: str) -> None:
    if len(meant) > 1:
        raise BadData(
            f"{where} {name!r}, which may be {meant[0]!r} or {meant[1]!r}; expected the whole id"
        )


def _parts(name: str) -> list[str]:
    """Return folders and name, composed, without quotes and suffix."""
    plain = unicodedata.normalize("NFC", name).strip()
    if len(plain) > 1 and plain[0] == plain[-1] and plain[0] in QUOTES:
        plain = plain[1:-1].strip()
    *folders, last = FOLDERS.split(plain)
    return [*folders, SUFFIX.sub("", last)]


def _parse_line(line: str, known: frozenset[str]) -> str:
    """Return the id of a line; a known id may itself hold the comment sign."""
    whole = line.strip()
    return whole if whole in known else whole.partition(COMMENT)[0].strip()
