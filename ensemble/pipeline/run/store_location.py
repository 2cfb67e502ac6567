"""Where the arrays of a run lie in an object store, and which of them are removed there.

Each store of maps has a name of its own under the run's own name, and its `store.json` says which.
What no `store.json` of the run names was replaced, failed or was left by a killed process.

A copy of a run must never remove what the original has. So the run's own name goes with one
folder, known by its path and its inode: a folder that was copied or moved gets a new name, and what
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
from members.object_store import Unreachable, names_under, remove_under, write_object
from members.store_metadata import META, StoreMetadata

NAME_BYTES, TOKEN_BYTES = 8, 6
RUN_NAME = re.compile(r"[\w-]+-[0-9a-f]{16}", re.ASCII)
STORE_NAME = re.compile(r"[\w-]+-[0-9a-f]{12}", re.ASCII)
OWNER_FILE = "run.json"

UrlFactory = Callable[[str], str | None]
"""From what maps are of to the URL of their array; None puts it beside their `store.json`."""


def local_only(_: str) -> str | None:
    """Put arrays into the run's folder."""
    return None


@contextlib.contextmanager
def store_urls(run: Run, url: str | None) -> Iterator[UrlFactory]:
    """Give URLs for new stores; before and after, remove the arrays that no store names.

    Args:
        run: the experiment folder, held for writing.
        url: under which the run's name lies; None for stores in its folder.

    Raises:
        Unreachable: the object store does not answer, or refuses; nothing was begun yet.
    """
    if url is None:
        yield local_only
        return
    root = f"{url}/{_run_name(run)}"
    owner = {"run": str(run.path.resolve()), "host": socket.gethostname()}
    write_object(f"{root}/{OWNER_FILE}", json.dumps(owner).encode())
    _remove_unnamed(run, root)
    try:
        yield lambda what: f"{root}/{_plain(what)}-{secrets.token_hex(TOKEN_BYTES)}"
    except Unreachable:
        raise
    except Exception:
        with contextlib.suppress(Unreachable):  # the first error is the one to report
            _remove_unnamed(run, root)
        raise
    _remove_unnamed(run, root)


def _run_name(run: Run) -> str:
    """Return the name that goes with this folder; a new one where it has none."""
    folder = {"folder": str(run.path.resolve()), "inode": run.path.stat().st_ino}
    known: Any = read_json(run.objects) if run.objects.is_file() else None
    if isinstance(known, dict) and {**known, **folder} == known:
        name = known.get("name")
        if isinstance(name, str) and RUN_NAME.fullmatch(name):
            return name
    name = f"{_plain(run.path.resolve().name)}-{secrets.token_hex(NAME_BYTES)}"
    write_json(run.objects, {**folder, "name": name})
    return name


def _plain(text: str) -> str:
    return re.sub(r"[^\w-]", "-", text, flags=re.ASCII)


def _remove_unnamed(run: Run, root: str) -> None:
    """Remove the arrays that no store names; where a `store.json` cannot be read, none."""
    try:
        named = {StoreMetadata.read(folder).url for folder in run.stores(META)}
    except Exception:  # whatever is wrong with it, its maps may be whole
        return
    for name in names_under(root):
        if STORE_NAME.fullmatch(name) and f"{root}/{name}" not in named:
            remove_under(f"{root}/{name}")
