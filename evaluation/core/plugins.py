"""Entries of tables from outside the package: by entry point, or by `--plugin MODULE`.

An installed package declares `[project.entry-points."ens.architecture"]` with lines such as
`mine = "module:factory"`. A module that is named by `--plugin` holds a dictionary of dictionaries,
`ENS_ENTRIES = {"architecture": {"mine": "module:factory"}}`.
"""

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points

from evaluation.core.errors import BadSpec

# The environment, since worker processes must find the same entries.
VARIABLE = "ENS_PLUGINS"
ENTRIES = "ENS_ENTRIES"


def load_plugins(modules: Sequence[str]) -> None:
    """Add the entries of these modules, in this process and in those it starts.

    Raises:
        BadSpec: a module cannot be imported, or holds no entries.
    """
    if modules and "" not in sys.path:
        sys.path.insert(0, "")  # modules in the current folder are found, as with `python`
    for name in modules:
        _entries(name)
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*plugin_modules(), *modules]))


def plugin_modules() -> list[str]:
    """Return the modules that were loaded by name."""
    return list(filter(None, os.environ.get(VARIABLE, "").split(",")))


def plugin_entries(kind: str) -> dict[str, str]:
    """Return the entries of a kind that come from outside, name -> `module:attribute`."""
    entries = dict(_installed(f"ens.{kind.replace(' ', '_')}", tuple(sys.path)))
    for name in plugin_modules():
        entries |= _entries(name).get(kind, {})
    return entries


@functools.cache
def _installed(group: str, path: tuple[str, ...]) -> Mapping[str, str]:
    """Return the entry points of a group; the search path is part of the cache's key."""
    return {point.name: point.value for point in entry_points(group=group)}


def _entries(name: str) -> Mapping[str, Mapping[str, str]]:
    try:
        entries: Mapping[str, Mapping[str, str]] = getattr(import_module(name), ENTRIES)
    except ImportError as error:
        raise BadSpec(f"plugin {name!r} cannot be imported ({error}); expected a module") from None
    except AttributeError:
        example = f'{ENTRIES} = {{"architecture": {{"mine": "{name}:mine"}}}}'
        raise BadSpec(f"plugin {name!r} has no entries; write {example} in it") from None
    return entries
