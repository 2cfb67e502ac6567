"""Lists of ids in text files: one per line, `#` for comments."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.core.errors import BadData
from evaluation.core.types import Kept

COMMENT = "#"


def read_drop_list(path: Path, known_ids: Sequence[str]) -> Kept:
    """Return which images a drop list keeps: those that it does not name; see `read_id_list`."""
    return ~read_id_list(path, known_ids)


def read_id_list(path: Path, known_ids: Sequence[str]) -> Kept:
    """Return which images a list of ids names.

    Args:
        path: a text file with one id per line; what follows `#` is a comment.
        known_ids: ids of the data set, in its order.

    Raises:
        BadData: no such file, no text, or an id that the data set lacks.
    """
    index_of = {name: index for index, name in enumerate(known_ids)}
    names = [name for line in _read_lines(path) if (name := _parse_line(line, index_of))]
    unknown = [name for name in names if name not in index_of]
    if unknown:
        raise BadData(
            f"{path} names {len(unknown)} unknown ids (first: {unknown[0]!r}); expected ids of the"
            f" data set, such as {known_ids[0]!r}, one per line"
        )
    named = np.zeros(len(known_ids), bool)
    named[[index_of[name] for name in names]] = True
    return named


def _read_lines(path: Path) -> list[str]:
    try:
        # utf-8-sig: some editors put a byte order mark before the first id.
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise BadData(f"{path} is missing; expected a text file with one id per line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{path} cannot be read ({error}); expected one id per line") from None


def _parse_line(line: str, known: dict[str, int]) -> str:
    """Return the id of a line; a known id may itself hold the comment sign."""
    whole = line.strip()
    return whole if whole in known else whole.partition(COMMENT)[0].strip()
