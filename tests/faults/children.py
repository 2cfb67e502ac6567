"""Processes that work on a tiny run and are made to die there; forked by one that has imported all.

A crash is injected at a point: a step that changes the tree of files, as Python's audit events tell
before it is taken. The writing in between is stopped by a limit on the size of files, which is real
for whatever library writes.
"""

import contextlib
import io
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ensemble.cli import run_command
from tests.faults.power import watch

Words = Sequence[str | Path]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.imported"])

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
GROWS = ("open", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
DIED = 9

NOBODY = 65534

Way = Literal["count", "before", "half", "full", "gone", "nobody", "clock", "power"]


@dataclass(frozen=True)
class Fault:
    """What befalls a process.

    Args:
        way: `before`: it dies before the step; `half`: it dies when it writes next, after some
            bytes; `full`: from then on no file can grow, as on a full disk; `gone`: all results are
            removed; `nobody`: the whole process runs as an ordinary user; `clock`: its clock goes
            backwards; `power`: it says what a power cut would take; `count`: nothing.
        point: the number of the step.
        limit: bytes that still can be written.
    """

    way: Way
    point: int = -1
    limit: int = 0


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        code: its exit code; minus the signal where one killed it.
        said: its stderr; empty where it was killed.
        points: for each step it took, whether a file may have grown before the next.
    """

    code: int
    said: str = ""
    points: tuple[bool, ...] = ()


class Child:
    """A process that runs commands one after the other, until one fails."""

    def __init__(self, commands: Sequence[Words], within: Path, fault: Fault | None = None) -> None:
        """Start it."""
        self._heard, says = CONTEXT.Pipe(duplex=False)
        words = [[str(word) for word in command] for command in commands]
        self.process = CONTEXT.Process(target=_work, args=(words, within, fault, says))
        self.process.start()
        says.close()

    def ended(self) -> Ended:
        """Wait for its end."""
        try:
            said, points = self._heard.recv()
        except EOFError:
            said, points = "", ()
        self.process.join()
        self._heard.close()
        code = self.process.exitcode
        assert code is not None
        return Ended(code, said, points)


def run_child(commands: Sequence[Words], within: Path, fault: Fault | None = None) -> Ended:
    """Run commands in a process of their own."""
    return Child(commands, within, fault).ended()


def is_refused(ended: Ended) -> bool:
    """Tell whether a command ended with one line that says why."""
    lines = [line for line in ended.said.splitlines() if line.startswith("ens: ")]
    return ended.code == 2 and len(lines) == 1 and "Traceback" not in ended.said


def refused(ended: Ended) -> str:
    """Return the one line that a command was refused in."""
    assert is_refused(ended), ended.said
    return next(line for line in ended.said.splitlines() if line.startswith("ens: "))


def _work(commands, within, fault, says):
    points: list[bool] = []
    if fault is not None:
        _inject(fault, within, points)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = next(filter(None, map(run_command, commands)), 0)
    says.send((errors.getvalue(), tuple(points)))
    sys.exit(code)


def _inject(fault, within, points):
    root = f"{within}/"
    if fault.way == "nobody":
        os.setuid(NOBODY)
    if fault.way == "clock":
        _turn_back()
    if fault.way == "power":
        watch(root)
    if fault.way == "half":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    written = [0]

    def look(event, arguments):
        if not _changes(event, arguments, root):
            return
        if fault.way == "count":
            before, written[0] = written[0], _written()
            if points and written[0] > before:
                points[-1] = True
        points.append(event in GROWS)
        if len(points) == fault.point + 1:
            _strike(fault, within)

    sys.addaudithook(look)


def _written():
    """Return how many bytes the process has written so far."""
    name, number = Path("/proc/self/io").read_text().splitlines()[1].split()
    assert name == "wchar:"
    return int(number)


def _turn_back():
    """Let each look at the clock find it a minute earlier."""
    now = itertools.count(time.time_ns(), -60 * 10**9)
    time.time_ns = lambda: next(now)
    time.time = lambda: next(now) / 1e9
    gmtime = time.gmtime
    time.gmtime = lambda seconds=None: gmtime(time.time() if seconds is None else seconds)


def _strike(fault, within):
    if fault.way == "gone":
        while within.exists():  # other threads write meanwhile
            shutil.rmtree(within, ignore_errors=True)
        return
    if fault.way == "before":
        os._exit(DIED)
    resource.setrlimit(resource.RLIMIT_FSIZE, (fault.limit, fault.limit))


def _changes(event, arguments, root):
    if event == "open":
        path, _, flags = arguments
        return not isinstance(path, int) and flags & WRITES and os.fspath(path).startswith(root)
    return event in CHANGES and any(
        isinstance(path, str | os.PathLike) and os.fspath(path).startswith(root)
        for path in arguments
    )
