"""Lists of ids that people write: one a line, `#` for comments."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.core.errors import BadData
from evaluation.core.types import Kept

COMMENT = "#"


def read_drop_list(path: Path, known_ids: Sequence[str]) -> Kept:
    """Tell which images a drop list leaves: True for those to keep.

    Args:
        path: a text file with one id a line; what follows `#` is a comment.
        known_ids: ids of the data set, in its order.

    Raises:
        BadData: no such file, no text, or an id that the data set lacks.
    """
    return ~named_in(path, known_ids)


def named_in(path: Path, known_ids: Sequence[str]) -> Kept:
    """Tell which images a list of ids names; see `read_drop_list`.

    Raises:
        BadData: no such file, no text, or an id that the data set lacks.
    """
    place = {name: index for index, name in enumerate(known_ids)}
    names = [name for line in _lines(path) if (name := _id_in(line, place))]
    unknown = [name for name in names if name not in place]
    if unknown:
        raise BadData(
            f"{path} names {len(unknown)} unknown ids (first: {unknown[0]!r}); expected ids of the"
            f" data set, such as {known_ids[0]!r}, one a line"
        )
    named = np.zeros(len(known_ids), bool)
    named[[place[name] for name in names]] = True
    return named


def _lines(path: Path) -> list[str]:
    try:
        # utf-8-sig: some editors put a byte order mark before the first id.
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise BadData(f"{path} is missing; expected a text file with one id a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{path} cannot be read ({error}); expected one id a line") from None


def _id_in(line: str, known: dict[str, int]) -> str:
    """Return the id of a line; an id that itself holds the comment sign is still found."""
    whole = line.strip()
    return whole if whole in known else whole.partition(COMMENT)[0].strip()
