"""Objects in an object store, by URL, through fsspec: each is put whole, and read within bounds.

Which server and whose credentials, the environment says, as s3fs and botocore take it.
"""

import contextlib
import errno
import functools
import os
import re
from collections.abc import Iterator
from typing import Any

from evaluation.core.errors import BadSpec, EnsError, shorten

PACKAGES = {"s3": "s3fs: pip install -e '.[s3]' in the source folder"}
"""Which stores are opened, and what fsspec needs for each."""

EXAMPLE = "a URL such as s3://bucket/runs"
# Neither what fsspec expands (*, ?, [, ::) nor a password.
URL = re.compile(r"(?P<store>[a-z0-9]+)://(?P<path>[a-z0-9][\w.-]+(/[\w.=+-]+)*)/?", re.ASCII)


class Unreachable(EnsError):
    """An object store that does not do what it is asked."""


def check_url(url: str) -> str:
    """Return a URL under which objects may lie, without a slash at its end.

    Raises:
        BadSpec: no such URL, or a store that is not known.
    """
    found = URL.fullmatch(url)
    if not found or found["store"] not in PACKAGES or {".", ".."} & set(found["path"].split("/")):
        raise BadSpec(f"store {shorten(url)}; expected {EXAMPLE}")
    return url.removesuffix("/")


def read_object(url: str, most: int) -> bytes | None:
    """Return an object, None where there is none.

    Args:
        url: of it.
        most: bytes that are expected; of an object that has more, one more is read.

    Raises:
        Unreachable: the store does not answer, or refuses.
    """
    with _asked(url, "read") as files:
        try:
            content: bytes = files.cat_file(url, start=0, end=most + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EINVAL and files.info(url)["size"] == 0:
                return b""  # of nothing there is no first byte, says S3
            raise
        return content


def write_object(url: str, content: bytes) -> None:
    """Put an object in place of whatever has its name, whole or not at all.

    Raises:
        Unreachable: the store does not answer, or refuses.
    """
    with _asked(url, "written") as files:
        files.pipe_file(url, content)


def size_of(url: str) -> int | None:
    """Return an object's bytes, None where there is none.

    Raises:
        Unreachable: the store does not answer, or refuses.
    """
    with _asked(url, "read") as files:
        try:
            return int(files.info(url)["size"])
        except FileNotFoundError:
            return None


def sizes_under(url: str) -> dict[str, int]:
    """Return the bytes of all objects under a URL, by what their names have after it.

    Raises:
        Unreachable: the store does not answer, or refuses.
    """
    with _asked(url, "listed") as files:
        found = files.find(url, detail=True)
    start = len(url.partition("://")[2]) + 1
    return {name[start:]: int(one["size"]) for name, one in found.items()}


def names_under(url: str) -> list[str]:
    """List what lies directly under a URL: objects, and what others have in common.

    Raises:
        Unreachable: the store does not answer, or refuses.
    """
    with _asked(url, "listed") as files:
        return [str(name).rstrip("/").rpartition("/")[2] for name in files.ls(url, detail=False)]


def remove_under(url: str) -> None:
    """Remove all objects under a URL.

    Raises:
        Unreachable: the store does not answer, or refuses.
    """
    with _asked(url, "removed") as files, contextlib.suppress(FileNotFoundError):
        files.rm(url, recursive=True)


@contextlib.contextmanager
def _asked(url: str, done: str) -> Iterator[Any]:
    """Give the file system of a URL; whatever goes wrong becomes one line."""
    try:
        yield _files(url.partition("://")[0], os.getpid())
    except (EnsError, MemoryError):
        raise
    except Exception as error:  # of fsspec, botocore, aiohttp: each has its own kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreachable(
            f"{url} cannot be {done} ({reason}); look at the URL, at AWS_ENDPOINT_URL and the"
            " credentials in the environment, and run again"
        ) from None


@functools.cache
def _files(store: str, _process: int) -> Any:
    """Make the file system of a process: a loop that runs in a thread is not there in a fork."""
    import fsspec

    try:
        # Listings that are kept would not show what other processes write.
        return fsspec.filesystem(store, use_listings_cache=False, skip_instance_cache=True)
    except ImportError:
        raise Unreachable(f"{store}:// needs {PACKAGES[store]}") from None
