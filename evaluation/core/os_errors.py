"""Faults of the machine, not of the program: full disks, missing rights, folders that vanish."""

import errno
import os
from pathlib import Path

from evaluation.core.files import is_temp

FAULTS = {
    errno.EACCES: "ask for the right to write there, or choose another place",
    errno.EPERM: "ask for the right to write there, or choose another place",
    errno.EROFS: "it lies on a read-only file system; choose another place",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room within the quota",
    errno.EFBIG: "raise the limit on file sizes",
    errno.EIO: "look after the disk",
    errno.ENOLCK: "choose a file system with locks",
    errno.EMFILE: "raise the limit on open files",
    errno.ENAMETOOLONG: "take shorter names",
    errno.ENOTDIR: "choose another place",
    errno.EISDIR: "choose another name",
}
KEPT = "what is done is kept, and the same command goes on from here"


def describe(error: OSError) -> str | None:
    """Return what is wrong with the machine and what to do; None where the program is at fault.

    Args:
        error: that ended a command.
    """
    number = error.errno
    name = error.filename or "a file"
    if number == errno.ENOENT and error.filename and _was_removed(Path(os.fsdecode(name))):
        return f"{name} is gone: its folder was removed meanwhile; {KEPT}"
    if number not in FAULTS:
        return None
    return f"{name}: {os.strerror(number)}; {FAULTS[number]}; {KEPT}"


def _was_removed(path: Path) -> bool:
    """Tell whether what was being written, or the folder of it, is not there any more."""
    return is_temp(path) or not path.parent.exists()
