"""Faults of the machine, not of the program: full disks, missing rights, folders that vanish."""

import errno
import os
from pathlib import Path

from evaluation.core.files import is_temp

HINTS = {
    errno.EACCES: "ask for write permission there, or choose another folder",
    errno.EPERM: "ask for write permission there, or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOSPC: "free space on the disk",
    errno.EDQUOT: "free space within the quota",
    errno.EFBIG: "raise the limit on file sizes",
    errno.EIO: "check the disk",
    errno.ENOLCK: "choose a file system with locks",
    errno.EMFILE: "raise the limit on open files",
    errno.ENAMETOOLONG: "use shorter names",
    errno.ENOTDIR: "choose another folder",
    errno.EISDIR: "choose another name",
}
RESUMES = "finished work is kept, and the same command goes on from here"


def describe(error: OSError) -> str | None:
    """Return what is wrong with the machine and what to do; None if the program is at fault."""
    number = error.errno
    name = error.filename or "a file"
    if number == errno.ENOENT and error.filename and _was_removed(Path(os.fsdecode(name))):
        return f"{name} is gone: its folder was removed meanwhile; {RESUMES}"
    if number not in HINTS:
        return None
    return f"{name}: {os.strerror(number)}; {HINTS[number]}; {RESUMES}"


def _was_removed(path: Path) -> bool:
    """Return whether a file that was being written, or its folder, no longer exists."""
    return is_temp(path) or not path.parent.exists()
