"""Objects in an object store, by URL, through fsspec: each is put whole, and read within bounds.

Server and credentials come from the environment, as s3fs and botocore read it. Whatever touches the
store raises `Unreachable` where it does not answer, or refuses.
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
    """An object store that does not answer, or refuses."""


def check_url(url: str) -> str:
    """Return a URL under which objects may lie, without a slash at its end.

    Raises:
        BadSpec: no such URL, or a store that is not known.

    Examples:
        >>> check_url("s3://bucket/runs/")
        's3://bucket/runs'
    """
    match = URL.fullmatch(url)
    if not match or match["store"] not in PACKAGES or {".", ".."} & set(match["path"].split("/")):
        raise BadSpec(f"store {shorten(url)}; expected {EXAMPLE}")
    return url.removesuffix("/")


def read_object(url: str, limit: int) -> bytes | None:
    """Return an object, None where there is none; of a larger one, `limit` bytes and one more."""
    with _filesystem(url, "read") as files:
        try:
            content: bytes = files.cat_file(url, start=0, end=limit + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.EINVAL and files.info(url)["size"] == 0:
                return b""  # S3 refuses the first byte of an empty object
            raise
        return content


def read_tail(url: str, size_bytes: int) -> bytes:
    """Return the last bytes of an object."""
    with _filesystem(url, "read") as files:
        content: bytes = files.cat_file(url, start=-size_bytes)
        return content


def write_object(url: str, content: bytes) -> None:
    """Put an object in place of whatever has its name, whole or not at all."""
    with _filesystem(url, "written") as files:
        files.pipe_file(url, content)


def size_of(url: str) -> int | None:
    """Return an object's size in bytes, None where there is none."""
    with _filesystem(url, "read") as files:
        try:
            return int(files.info(url)["size"])
        except FileNotFoundError:
            return None


def sizes_under(url: str) -> dict[str, int]:
    """Return the sizes in bytes of all objects under a URL, by the rest of their names."""
    with _filesystem(url, "listed") as files:
        objects = files.find(url, detail=True)
    start = len(url.partition("://")[2]) + 1
    return {name[start:]: int(info["size"]) for name, info in objects.items()}


def names_under(url: str) -> list[str]:
    """List the names directly under a URL: objects, and common prefixes of others."""
    with _filesystem(url, "listed") as files:
        return [str(name).rstrip("/").rpartition("/")[2] for name in files.ls(url, detail=False)]


def remove_under(url: str) -> None:
    """Remove all objects under a URL."""
    with _filesystem(url, "removed") as files, contextlib.suppress(FileNotFoundError):
        files.rm(url, recursive=True)


@contextlib.contextmanager
def _filesystem(url: str, action: str) -> Iterator[Any]:
    """Give the file system of a URL; any failure becomes one line."""
    try:
        yield _files(url.partition("://")[0], os.getpid())
    except (EnsError, MemoryError):
        raise
    except Exception as error:  # of fsspec, botocore, aiohttp: each has its own kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreachable(
            f"{url} cannot be {action} ({reason}); look at the URL, at AWS_ENDPOINT_URL and the"
            " credentials in the environment, and run again"
        ) from None


@functools.cache
def _files(store: str, _process: int) -> Any:
    """Make the file system of a process: a forked one lacks the thread that runs its loop."""
    import fsspec

    try:
        # Cached listings would not show what other processes write.
        return fsspec.filesystem(store, use_listings_cache=False, skip_instance_cache=True)
    except ImportError:
        raise Unreachable(f"{store}:// needs {PACKAGES[store]}") from None
