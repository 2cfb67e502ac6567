"""YAML 1.2 from untrusted files: plain values only, no aliases, no tags, at most 1 MiB.

PyYAML reads YAML 1.1, where `no` is false, `010` is 8, `1:30` is 90 and `1e1` is text. Here these
are text, text, text and 10. Where a number is expected, text is refused.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from evaluation.core.errors import BadSpec, shorten
from evaluation.core.files import atomic_file

MAX_BYTES = 1 << 20
"""YAML is read at some 100 kB a second; files that people write are a few kB."""

FLOAT = (
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
PLAIN_WORDS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", FLOAT, "-+.0123456789"),
)
"""What plain words mean, with their first characters. An integer has no leading 0: 010 is 8 in YAML
1.1 and 10 in YAML 1.2."""

Resolvers = dict[str, list[tuple[str, re.Pattern[str]]]]


def _resolvers(before: Resolvers) -> Resolvers:
    """Return resolvers in PyYAML's form, by first character, behind others."""
    resolvers = {first: list(words) for first, words in before.items()}
    for name, pattern, characters in PLAIN_WORDS:
        word = (f"tag:yaml.org,2002:{name}", re.compile(rf"({pattern})\Z"))
        for first in characters:
            resolvers.setdefault(first, []).append(word)
    return resolvers


class _Loader(yaml.SafeLoader):
    """Refuses aliases (nine lines of ten each fill any memory), tags, and a key given twice."""

    yaml_implicit_resolvers = _resolvers({})

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"an alias, *{event.anchor}; write out its value")
        tag = getattr(event, "tag", None)
        if tag is not None and tag in self.yaml_constructors:  # others have no constructor
            raise yaml.YAMLError(f"a tag, {tag}; write the value without it")
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(
                    f"the key {shorten(key.value)} is given twice, again in line {line}; remove one"
                )
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""

    yaml_implicit_resolvers = _resolvers(yaml.SafeDumper.yaml_implicit_resolvers)


def parse_yaml(text: str) -> Any:
    """Read plain YAML values.

    Raises:
        BadSpec: not YAML, an alias, a tag, or a key that is given twice; the caller adds the file's
            name.
    """
    try:
        return _Loader(text).get_single_data()
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
        return parse_yaml(path.read_text(encoding="utf-8").removeprefix("\ufeff"))
    except FileNotFoundError:
        raise BadSpec(f"{path} is missing; expected {expected}") from None
    except (OSError, ValueError, BadSpec) as error:
        raise BadSpec(f"{path} cannot be read as YAML ({error})") from None


def write_yaml(path: Path, document: Any) -> None:
    """Write plain values, whole or not at all, in the order of their keys."""
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100)
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
