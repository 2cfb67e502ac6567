"""What a case is, and how its files are damaged."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Make = Callable[[Path], object]

IMAGES, CLASSES, ROWS, COLS = 6, 5, 16, 24


@dataclass(frozen=True)
class Bad:
    """A bad file or folder.

    Args:
        name: of it, with the ending by which it is read.
        make: writes it.
        said: part of what is said of it.
    """

    name: str
    make: Make
    said: str


@dataclass(frozen=True)
class Case:
    """A bad file in a command.

    Args:
        bad: the file.
        words: of the command; {bad} is the file, {out} what it would write, other braces the good
            files beside it.
        said: part of what is said instead of the file's own words.
    """

    bad: Bad
    words: str
    said: str = ""

    @property
    def name(self) -> str:
        """The verb, and the file."""
        verb, *_, option = self.words.partition("{bad}")[0].split() * 2
        return f"{verb}_{option}-{self.bad.name}"

    @property
    def expected(self) -> str:
        """Part of the line on stderr."""
        return self.said or self.bad.said


def through(bad: list[Bad], *commands: str) -> list[Case]:
    """Send each file through each command."""
    return [Case(one, words) for words in commands for one in bad]


def saved(array: Any, **more: Any) -> bytes:
    """Return what np.save writes, or np.savez of `array` with more."""
    file = io.BytesIO()
    if more:
        np.savez(file, allow_pickle=True, **more)
    else:
        np.save(file, array, allow_pickle=True)
    return file.getvalue()


def written(content: bytes) -> Make:
    """Return what writes bytes to a path."""
    return lambda path: path.write_bytes(content)


def cut(name: str, content: bytes, said: str) -> Iterator[Bad]:
    """Yield a file truncated at every tenth of its length."""
    stem, _, ending = name.rpartition(".")
    for tenth in range(10):
        part = content[: len(content) * tenth // 10]
        yield Bad(f"{stem}-cut-at-{tenth}.{ending}", written(part), said)


def maps(dtype: Any = np.float32, **shape: int) -> Any:
    """Return good probabilities; other lengths of axes by name."""
    sizes = {"image": IMAGES, "klass": CLASSES, "row": ROWS, "col": COLS} | shape
    found = np.random.default_rng(0).random(tuple(sizes.values())) + 0.1
    return (found / found.sum(axis=1, keepdims=True)).astype(dtype)


def labels() -> Any:
    """Return good labels."""
    return np.random.default_rng(1).integers(0, CLASSES, (IMAGES, ROWS, COLS)).astype(np.uint8)


def with_value(array: Any, value: float) -> Any:
    """Return an array with one other value."""
    changed = array.copy()
    changed[0, 0, 0, ...] = value
    return changed
