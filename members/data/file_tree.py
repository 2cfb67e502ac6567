"""The files below a folder, listed once for all recognisers of layouts."""

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from evaluation.core.errors import BadData, BadSpec, shorten
from members.data.image_files import IMAGE_SUFFIXES, SIDECARS

NOT_DATA = ("__MACOSX",)
COLOUR_TABLES = ("label_colors.txt", "class_dict.csv", "labelmap.txt")
"""Names under which data sets come with the colours of their classes."""

MAX_SHOWN = 3


@dataclass(frozen=True)
class FileTree:
    """A folder and the paths of all files below it, relative and sorted; hidden ones are left out.

    Args:
        root: the folder.
        files: paths relative to it.
    """

    root: Path
    files: tuple[PurePosixPath, ...]

    @classmethod
    def of(cls, root: Path) -> "FileTree":
        """List a folder; a folder that is reached twice, by a link, is listed once.

        Raises:
            BadData: a broken link or a pipe among the images.
        """
        files, visited = [], {os.path.realpath(root)}
        for where, folders, names in os.walk(root, followlinks=True):
            folders[:] = sorted(
                name
                for name in folders
                if name[0] != "."
                and name not in NOT_DATA
                and (real := os.path.realpath(Path(where, name))) not in visited
                and not visited.add(real)  # type: ignore[func-returns-value]
            )
            below = PurePosixPath(Path(where).relative_to(root).as_posix())
            for name in sorted(names):
                path = Path(where, name)
                if name[0] == ".":
                    continue
                if not path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
                    raise BadData(
                        f"{path} is a broken link or no regular file; replace it or remove it"
                    )
                files.append(below / name)
        return cls(root, tuple(files))

    @cached_property
    def images(self) -> tuple[PurePosixPath, ...]:
        """Files that may be images or masks."""
        return tuple(file for file in self.files if file.suffix.lower() in IMAGE_SUFFIXES)

    @property
    def colour_table(self) -> Path | None:
        """The table of colours in the folder itself, if any."""
        tables = [self.root / name for name in COLOUR_TABLES if (self.root / name).is_file()]
        return tables[0] if tables else None

    def has_folder(self, name: str) -> bool:
        """Tell whether there is a folder of that path."""
        return (self.root / name).is_dir()

    def matching(self, pattern: str, option: str) -> dict[str, Path]:
        """Return the files that a glob matches, by what stands at `{id}`.

        `*` matches within a folder, `**/` any folders; `{id}` may stand twice, for the same text.

        Raises:
            BadData: no file, or two of one id.
            BadSpec: a pattern that leaves the folder.
        """
        if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
            raise BadSpec(f"{option} {shorten(pattern)}; expected a glob below {self.root}")
        expression = re.compile(_as_expression(pattern))
        found: dict[str, Path] = {}
        for file in self.files:
            match = expression.fullmatch(unicodedata.normalize("NFC", file.as_posix()))
            if match is None:
                continue
            name = match["id"]
            if name in found:
                raise BadData(
                    f"{option} {shorten(pattern)} finds {found[name].relative_to(self.root)} and"
                    f" {file} for {name!r}; expected one file per id"
                )
            found[name] = self.root / file
        if not found:
            first = f" (first file: {self.files[0]})" if self.files else ""
            raise BadData(
                f"{option} {shorten(pattern)} finds no file below {self.root}, which holds"
                f" {len(self.files)}{first}"
            )
        return found

    def check_nothing_left_out(self, read: Sequence[PurePosixPath]) -> None:
        """Refuse files that would be left out beside those that are read, but for descriptions.

        Raises:
            BadData: names the first of them.
        """
        folders = {file.parent for file in read}
        left_out: dict[PurePosixPath, list[str]] = {}
        for file in self.files:
            if file.parent in folders and file.suffix.lower() not in (*IMAGE_SUFFIXES, *SIDECARS):
                left_out.setdefault(file.parent, []).append(file.name)
        for folder, names in left_out.items():
            raise BadData(
                f"{self.root / folder} holds {len(names)} files or folders that would be left out"
                f" (first: {', '.join(names[:MAX_SHOWN])}); expected {', '.join(IMAGE_SUFFIXES)}:"
                " convert them, or move them elsewhere"
            )


def _as_expression(pattern: str) -> str:
    parts, seen = [], False
    for token in re.findall(r"\{id\}|\*\*/|\*|\?|[^*?{]+|.", pattern):
        if token == "{id}":
            parts.append("(?P=id)" if seen else "(?P<id>[^/]+)")
            seen = True
        else:
            wild = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
            parts.append(wild.get(token) or re.escape(unicodedata.normalize("NFC", token)))
    return "".join(parts)
