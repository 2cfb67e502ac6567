"""One writer at a time in an experiment folder."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from evaluation.ground.errors import BadRun
from evaluation.ground.leftovers import clear_within
from evaluation.ground.links import refuse_links_out

LOCK = ".lock"


@contextlib.contextmanager
def writing(run: Path) -> Iterator[None]:
    """Hold the folder's lock; the system drops it however the process ends.

    What earlier holders left half done is cleared away.

    Raises:
        BadRun: another process holds it.
        BadData: a link in it leads out.
    """
    new = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    refuse_links_out(run)
    with (run / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadRun(
                f"{run} is being written by another ens; wait for it, or use --run"
            ) from None
        clear_within(run)
        try:
            yield
        except BaseException:
            clear_within(run)  # what killed workers left
            if new and [path.name for path in run.iterdir()] == [LOCK]:
                shutil.rmtree(run)
            raise
