"""Lines and tables that a user wrote, read whole or refused."""

import csv
from pathlib import Path

from evaluation.core.errors import BadData, EnsError, format_count


def read_lines(path: Path, expected: str, error: type[EnsError] = BadData) -> list[str]:
    """Read the lines of a text file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        expected: what it should hold, for the message.
        error: what is raised.

    Raises:
        EnsError: missing, or no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise error(f"{path} is missing; expected {expected}") from None
    except (OSError, ValueError) as reason:
        raise error(f"{path} cannot be read ({reason}); expected {expected}, in UTF-8") from None


def read_heading(path: Path) -> list[str]:
    """Return the names of a CSV file's columns; empty for a file that is none, or is empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            return next(csv.reader(file), [])
    except (OSError, csv.Error):
        return []


def read_table(path: Path, error: type[EnsError] = BadData) -> list[dict[str, str]]:
    """Read a CSV file with a heading, one dict per row; no field is left out or made up.

    Raises:
        EnsError: missing, no text in UTF-8, a column without a name of its own, or a row with more
            or fewer fields than the heading.
    """
    expected = "a CSV table with a heading"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            head = next(reader, [])
            if len(set(head)) < len(head):
                raise error(f"{path} has columns {', '.join(head)}; expected distinct names")
            rows = []
            for row in filter(None, reader):
                if len(row) != len(head):
                    raise error(
                        f"{path}, line {reader.line_num}: {format_count(len(row), 'field')};"
                        f" expected {len(head)}, as in the heading (quote fields that hold commas)"
                    )
                rows.append(dict(zip(head, row, strict=True)))
            return rows
    except FileNotFoundError:
        raise error(f"{path} is missing; expected {expected}") from None
    except (OSError, ValueError, csv.Error) as reason:
        raise error(f"{path} cannot be read ({reason}); expected {expected}, in UTF-8") from None
