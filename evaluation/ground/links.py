"""Links that lead out of a folder: what came in it from a stranger must not reach elsewhere."""

import os
from pathlib import Path

from evaluation.ground.errors import BadData

NOT_ENTERED = (".zarr", "done")
"""Folders with a file for each block of pictures; they are opened by names of our own."""


def refuse_links_out(folder: Path) -> None:
    """Refuse a folder with a symbolic link in it that leads out; nothing was read or written yet.

    The folder itself may be reached by a link: whoever called names it.

    Raises:
        BadData: names the first such link.
    """
    home = folder.resolve()
    for where, folders, files in os.walk(home):
        for name in (*folders, *files):
            path = Path(where, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
                raise BadData(
                    f"{path} is a link that leads out of {folder}, to {path.readlink()};"
                    " put a copy in its place"
                )
        folders[:] = [name for name in folders if not name.endswith(NOT_ENTERED)]
