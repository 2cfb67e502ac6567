"""Groups of images, told by their names or by a table."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.core.errors import BadSpec, shorten
from evaluation.core.text_files import read_table
from evaluation.core.types import Array
from members.data.image_files import id_of


def group_names(names: Sequence[str], spec: str) -> Array:
    """Return the group of each name.

    Args:
        names: of images.
        spec: a regular expression, or `FILE.csv:COLUMN`.

    Raises:
        BadSpec: neither, or one that leaves an image without a group.

    Examples:
        >>> group_names(["0016E5_00390", "0001TP_006690"], "^([^_]+)_").tolist()
        ['0016E5', '0001TP']
    """
    table = group_table(spec)
    if table is not None:
        groups = _csv_groups(*table)
        missing = [
            name for name in names if name.rpartition("/")[2] not in groups and name not in groups
        ]
        found = [groups.get(name, groups.get(name.rpartition("/")[2], "")) for name in names]
    else:
        try:
            pattern = re.compile(spec)
        except re.error as error:
            raise BadSpec(
                f"--group-by {shorten(spec)} is no regular expression ({error})"
            ) from None
        if pattern.groups == 0:
            raise BadSpec(
                f"--group-by {shorten(spec)} has no group in parentheses; expected one, such as"
                " '^([^_]+)_'"
            )
        key: str | int = next(iter(pattern.groupindex), 1)
        matches = [pattern.search(name) for name in names]
        missing = [name for name, m in zip(names, matches, strict=True) if m is None or not m[key]]
        found = [(m and m[key]) or "" for m in matches]
    if missing:
        raise BadSpec(
            f"--group-by {shorten(spec)} gives no group for {len(missing)} of {len(names)} images"
            f" (first: {missing[0]}); expected one for each"
        )
    return np.array(found, np.str_)


def group_table(spec: str) -> tuple[Path, str] | None:
    """Return file and column of `FILE.csv:COLUMN`; None for anything else."""
    match = re.fullmatch(r"(.+\.csv):([^:]+)", spec, re.IGNORECASE)
    return None if match is None else (Path(match[1]), match[2])


def _csv_groups(path: Path, column: str) -> dict[str, str]:
    rows = read_table(path, BadSpec)
    first, *others = list(rows[0]) if rows else [""]
    if column not in (first, *others):
        raise BadSpec(
            f"--group-by: {path} has no column {column!r}; known: {', '.join((first, *others))}"
        )
    groups: dict[str, str] = {}
    for row in rows:
        name, group = id_of(Path(row[first])), row[column]
        if groups.setdefault(name, group) != group:
            raise BadSpec(f"--group-by: {path} gives {name!r} two groups in column {column!r}")
    return {name: group for name, group in groups.items() if group}
