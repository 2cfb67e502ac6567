"""Cases of bad files, and helpers that make them."""

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
        name: of it, with its suffix.
        make: writes it.
        message: part of the error message.
    """

    name: str
    make: Make
    message: str


@dataclass(frozen=True)
class Case:
    """A command that is given a bad file.

    Args:
        bad: the file.
        words: of the command; {bad} is the file, {out} what it would write, other braces the good
            files.
        message: part of the error message, where it is not that of the file.
    """

    bad: Bad
    words: str
    message: str = ""

    @property
    def name(self) -> str:
        """The command, and the file."""
        command, *_, option = self.words.partition("{bad}")[0].split() * 2
        return f"{command}_{option}-{self.bad.name}"

    @property
    def expected(self) -> str:
        """Part of the line on stderr."""
        return self.message or self.bad.message


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


def cut(name: str, content: bytes, message: str) -> Iterator[Bad]:
    """Yield a file truncated at every tenth of its length."""
    stem, _, ending = name.rpartition(".")
    for tenth in range(10):
        part = content[: len(content) * tenth // 10]
        yield Bad(f"{stem}-cut-at-{tenth}.{ending}", written(part), message)


def maps(dtype: Any = np.float32, **shape: int) -> Any:
    """Return good probabilities; other lengths of axes by name."""
    sizes = {"image": IMAGES, "klass": CLASSES, "row": ROWS, "col": COLS} | shape
    values = np.random.default_rng(0).random(tuple(sizes.values())) + 0.1
    return (values / values.sum(axis=1, keepdims=True)).astype(dtype)


def labels() -> Any:
    """Return good labels."""
    return np.random.default_rng(1).integers(0, CLASSES, (IMAGES, ROWS, COLS)).astype(np.uint8)


def with_value(array: Any, value: float) -> Any:
    """Return an array with one other value."""
    changed = array.copy()
    changed[0, 0, 0, ...] = value
    return changed
