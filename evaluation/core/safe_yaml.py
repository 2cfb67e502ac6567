"""YAML from untrusted files: plain values only, no aliases, at most 1 MiB."""

from pathlib import Path
from typing import Any

import yaml

from evaluation.core.errors import BadSpec

MAX_BYTES = 1 << 20
"""YAML is read at some 100 kB a second; files that people write are a few kB."""


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases: nine lines of them, each ten times the one before, fill any memory."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"an alias, *{event.anchor}; write out its value")
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    """Read plain YAML values.

    Raises:
        BadSpec: not YAML, or an alias; the caller adds the file's name.
    """
    try:
        return _PlainLoader(text).get_single_data()
    except Exception as error:  # PyYAML raises whatever a malformed value makes it stumble over
        raise BadSpec(" ".join(str(error).split()) or type(error).__name__) from None


def read_yaml(path: Path, expected: str) -> Any:
    """Read a YAML file.

    Args:
        path: of the file.
        expected: what the file should be, for the message if it is missing.

    Raises:
        BadSpec: missing, not YAML, or too long.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadSpec(f"more than {MAX_BYTES >> 20} MiB")
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadSpec(f"{path} is missing; expected {expected}") from None
    except (OSError, ValueError, BadSpec) as error:
        raise BadSpec(f"{path} cannot be read as YAML ({error})") from None
