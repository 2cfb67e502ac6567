"""Where a run's maps lie in an object store, and what is cleared away there.

Each store of maps has a name of its own under the run's own name, and its `store.json` says which.
What no `store.json` of the run names was replaced, failed or was left by a killed process.

A copy of a run must never clear away what the original has. So the run's own name goes with one
folder, known by its path and its inode: a folder that was copied or moved gets a new one, and what
lies under the old one is read as before and never removed.
"""

import contextlib
import json
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any

from evaluation.core.files import read_json, write_json
from evaluation.core.run_folder import Run
from members.object_store import (
    Unreachable,
    names_under,
    remove_under,
    write_object,
)
from members.store_metadata import META, StoreMetadata

NAME_BYTES, TOKEN_BYTES = 8, 6
NAME = re.compile(r"[\w-]+-[0-9a-f]{16}", re.ASCII)
PLACE = re.compile(r"[\w-]+-[0-9a-f]{12}", re.ASCII)
OWNER = "run.json"

Place = Callable[[str], str | None]
"""From what maps are of to the URL for their array; None is beside their `store.json`."""


def local_only(_: str) -> str | None:
    """Place arrays in the run's folder."""
    return None


@contextlib.contextmanager
def placing(run: Run, url: str | None) -> Iterator[Place]:
    """Give places for new stores; before and after, clear away what no store names.

    Args:
        run: the experiment folder, held for writing.
        url: under which the run's name lies; None for stores in its folder.

    Raises:
        Unreachable: the object store does not answer, or refuses; nothing was begun yet.
    """
    if url is None:
        yield local_only
        return
    home = f"{url}/{_own_name(run)}"
    owner = {"run": str(run.path.resolve()), "host": socket.gethostname()}
    write_object(f"{home}/{OWNER}", json.dumps(owner).encode())
    _clear(run, home)
    try:
        yield lambda what: f"{home}/{_plain(what)}-{secrets.token_hex(TOKEN_BYTES)}"
    except Unreachable:
        raise
    except Exception:
        with contextlib.suppress(Unreachable):  # the first error is the one to tell
            _clear(run, home)
        raise
    _clear(run, home)


def _own_name(run: Run) -> str:
    """Return the name that goes with this folder; a new one where it has none."""
    here = {"folder": str(run.path.resolve()), "inode": run.path.stat().st_ino}
    known: Any = read_json(run.objects) if run.objects.is_file() else None
    if isinstance(known, dict) and {**known, **here} == known and _is_name(known.get("name")):
        return str(known["name"])
    name = f"{_plain(run.path.resolve().name)}-{secrets.token_hex(NAME_BYTES)}"
    write_json(run.objects, {**here, "name": name})
    return name


def _plain(text: str) -> str:
    return re.sub(r"[^\w-]", "-", text, flags=re.ASCII)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _clear(run: Run, home: str) -> None:
    """Remove the arrays that no store names; where one cannot be read, none is removed."""
    try:
        named = {StoreMetadata.read(folder).at for folder in run.stores(META)}
    except Exception:  # whatever is wrong with it, its maps may be whole
        return
    for name in names_under(home):
        if PLACE.fullmatch(name) and f"{home}/{name}" not in named:
            remove_under(f"{home}/{name}")
