"""What a killed process leaves behind, and who clears it away.

What is being written has a hidden name beside its own, `.NAME.HOST-PID-TOKEN.partial`; what is
being replaced waits as `.NAME.HOST-PID-TOKEN.old`. Both say whose they are, so that the next writer
can tell those of the dead, which it clears away, from those of the living.
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
import zlib
from collections.abc import Iterable
from pathlib import Path

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
TOKEN_BYTES = 6
MARKED = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{12}\.(?P<kind>partial|old)"
    r"(\.[^.]*)?"
)
ZARR = ".zarr"


def partial_name(path: Path) -> Path:
    """Return where to write what is to become `path`; its ending is kept."""
    return _marked(path, f"partial{path.suffix}")


def old_name(path: Path) -> Path:
    """Return where `path` waits until its successor is there; a crash gives it back."""
    return _marked(path, "old")


def is_leftover(path: Path) -> bool:
    """Tell whether a name is one of those."""
    return MARKED.fullmatch(path.name) is not None


def clear_beside(path: Path) -> None:
    """Clear away what dead processes of this machine left of `path`; others may be at work."""
    found = (left for left in _listed(path.parent) if _parts(left)["name"] == path.name)
    for left in [left for left in found if _parts(left)["host"] == HOST and not _alive(left)]:
        _clear(left)


def clear_within(run: Path) -> None:
    """Clear away what was left anywhere in a folder whose lock is held.

    The inside of Zarr arrays, with a file for each chunk, is not looked at: their store does so
    when it goes on.
    """
    for folder, inner, files in os.walk(run):
        found = [Path(folder, name) for name in (*inner, *files) if MARKED.fullmatch(name)]
        inner[:] = [n for n in inner if not n.endswith(ZARR) and not MARKED.fullmatch(n)]
        for left in found:
            if _parts(left)["host"] != HOST or not _alive(left):
                _clear(left)


def remove_folder(path: Path) -> None:
    """Remove a folder so that no crash leaves half of it under its name."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path.rename(_marked(path, "partial")))


def _marked(path: Path, kind: str) -> Path:
    return path.with_name(
        f".{path.name}.{HOST}-{os.getpid()}-{secrets.token_hex(TOKEN_BYTES)}.{kind}"
    )


def _listed(folder: Path) -> Iterable[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry) for entry in entries if MARKED.fullmatch(entry.name)]


def _parts(left: Path) -> re.Match[str]:
    found = MARKED.fullmatch(left.name)
    assert found is not None
    return found


def _alive(left: Path) -> bool:
    try:
        os.kill(int(_parts(left)["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # there, and somebody else's
        return True
    return True


def _clear(left: Path) -> None:
    """Remove a leftover; what was to be replaced by something that never came goes back."""
    place = left.with_name(_parts(left)["name"])
    if _parts(left)["kind"] == "old" and not place.exists():
        left.rename(place)
    elif left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)
