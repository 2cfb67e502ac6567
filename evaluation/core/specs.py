"""Specs: `name(option=value)`, looked up in a table of lazy references.

The grammar is Python's expression grammar, read with `ast` and never evaluated. Values are
literals, bare names (read as strings) or nested specs.
"""

import ast
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from keyword import iskeyword
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from evaluation.core.errors import BadSpec, shorten, unknown
from evaluation.core.plugins import plugin_entries
from evaluation.core.strict_values import check_kind

T = TypeVar("T")

Value = Any  # a literal, a bare name as str, or a nested Spec

MAX_CHARACTERS = 10_000
MAX_BITS = 64
MAX_WEIGHT = 1e6  # of a term of a sum
EXPECTED = "expected NAME or NAME(option=value, ...)"


@dataclass(frozen=True)
class Spec:
    """A name with positional arguments and named options, as read from a spec string."""

    name: str
    arguments: tuple[Value, ...] = ()
    options: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the canonical spec string, without empty parentheses."""
        inside = [_format_value(value) for value in self.arguments]
        inside += [f"{name}={_format_value(value)}" for name, value in self.options.items()]
        return f"{self.name}({', '.join(inside)})" if inside else self.name


def parse_spec(text: str) -> Spec:
    """Parse one spec, such as `stacking(l2=0.1)` or `specialists(unet(width=8))`.

    Raises:
        BadSpec: not a spec.

    Examples:
        >>> spec = parse_spec("stacking( l2 = 0.1 )")
        >>> spec.name, spec.options, str(spec)
        ('stacking', {'l2': 0.1}, 'stacking(l2=0.1)')
    """
    spec = _value(_expression(text), text)
    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, str) and spec.isidentifier():
        return Spec(spec)
    raise BadSpec(f"cannot read spec {shorten(text)}; {EXPECTED}")


def parse_sum(text: str) -> list[tuple[float, Spec]]:
    """Parse a weighted sum of specs into (weight, spec) per term; the default weight is 1.

    Raises:
        BadSpec: not a sum of specs, or a weight that is not positive.

    Examples:
        >>> [(weight, str(spec)) for weight, spec in parse_sum("0.5*dice + focal(gamma=2)")]
        [(0.5, 'dice'), (1.0, 'focal(gamma=2)')]
    """
    return [_term(node, text) for node in _terms(_expression(text))]


def split_chain(text: str) -> list[str]:
    """Split a chain at the bars outside brackets and quotes; empty text gives [].

    Examples:
        >>> split_chain("blur(sigma=1)|remove_small")
        ['blur(sigma=1)', 'remove_small']
    """
    parts, depth, quote, escaped, start = [], 0, "", False, 0
    for index, sign in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            escaped = sign == "\\"
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
        elif sign == "|" and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    if not text.strip():
        return []
    if not all(part.strip() for part in parts):
        raise BadSpec(f"chain {shorten(text)} has an empty step; expected STEP|STEP|...")
    return [part.strip() for part in parts]


def split_name(text: str) -> tuple[str | None, str]:
    """Split `NAME=SPEC` at the first `=` before any bracket; a bare SPEC has no name.

    Examples:
        >>> split_name("smooth=blur(sigma=1)"), split_name("blur(sigma=1)")
        (('smooth', 'blur(sigma=1)'), (None, 'blur(sigma=1)'))
    """
    name, equals, rest = text.partition("=")
    if not equals or "(" in name or "{" in name:
        return None, text.strip()
    return name.strip(), rest.strip()


class Table(Mapping[str, str]):
    """The entries of one kind, written out by hand: name -> lazy reference `module:attribute`.

    An entry is a factory. Its positional parameters are filled from `build`'s context (one with a
    default may be missing there), its keyword-only parameters are the options a spec may set. A
    context value whose name is an option is that option's default.

    Args:
        kind: what the entries are, in messages and for plugins.
        entries: name -> lazy reference.
        aliases: old name -> today's name; accepted wherever a name is, and listed nowhere.

    Examples:
        >>> table = Table("counter", {"count": "collections:Counter"}, aliases={"tally": "count"})
        >>> list(table), table["tally"]
        (['count'], 'collections:Counter')
    """

    def __init__(
        self, kind: str, entries: Mapping[str, str], *, aliases: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._aliases = dict(aliases or {})

    def __getitem__(self, name: str) -> str:
        """Return the reference of an entry."""
        return self._all()[self.canonical(name)]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._all())

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._all())

    def canonical(self, name: str) -> str:
        """Return today's name of an entry."""
        return self._aliases.get(name, name)

    def _all(self) -> dict[str, str]:
        """Return our entries and those of plugins, which cannot replace ours."""
        return {**self._entries, **plugin_entries(self.kind), **self._entries}

    def factory(self, name: str) -> Callable[..., Any]:
        """Import and return the factory of an entry.

        Raises:
            BadSpec: no such entry; the known ones are listed.
        """
        if name not in self:
            raise BadSpec(unknown(self.kind, name, self))
        module, _, attribute = self[name].partition(":")
        factory: Callable[..., Any] = getattr(import_module(module), attribute)
        return factory

    def takes(self, name: str, parameter: str) -> bool:
        """Tell whether the factory of an entry takes a value of the context."""
        return parameter in inspect.signature(self.factory(name)).parameters

    def check(self, spec: str | Spec, *known: str) -> Spec:
        """Return the parsed spec, by today's name, after checking its name and options.

        Args:
            spec: the spec, parsed or not.
            known: names of the context that `build` will be given.

        Raises:
            BadSpec: unknown name or option, or a value that its option does not take.
        """
        spec = self._parsed(spec)
        self._options(spec, dict.fromkeys(known), self.factory(spec.name))
        return spec

    def build(self, spec: str | Spec, **context: Any) -> Any:
        """Build the thing that a spec names.

        Args:
            spec: the spec, parsed or not.
            context: values by parameter name; the factory gets those that it has parameters for.

        Raises:
            BadSpec: unknown name or option, or a value that its option does not take.
        """
        spec = self._parsed(spec)
        factory = self.factory(spec.name)
        options = self._options(spec, context, factory)
        parameters = inspect.signature(factory).parameters.values()
        given = [
            context[p.name] if p.default is p.empty else context.get(p.name, p.default)
            for p in parameters
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        try:
            return factory(*given, **options)
        except BadSpec as error:
            raise BadSpec(f"{self.kind} {spec}: {error}") from None

    def _parsed(self, spec: str | Spec) -> Spec:
        spec = parse_spec(spec) if isinstance(spec, str) else spec
        return replace(spec, name=self.canonical(spec.name))

    def _options(
        self, spec: Spec, context: Mapping[str, Any], factory: Callable[..., Any]
    ) -> dict[str, Any]:
        parameters = inspect.signature(factory).parameters
        allowed = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
        where = f"{self.kind} {spec.name!r}"
        if spec.arguments:
            raise BadSpec(f"{where} got {spec.arguments[0]!s} without a name; write option=value")
        strange = [name for name in spec.options if name not in allowed]
        if strange:
            known = ", ".join(allowed) if allowed else "it has none"
            raise BadSpec(f"{where} has no option {shorten(strange[0])}; known: {known}")
        hints = _hints(factory)
        options = {name: context[name] for name in allowed if name in context}
        for name, value in spec.options.items():
            options[name] = _checked(value, hints[name], f"{where}: option {name!r}")
        needed = [
            p
            for p in allowed
            if p not in options and parameters[p].default is inspect.Parameter.empty
        ]
        if needed:
            raise BadSpec(f"{where} needs option {needed[0]!r}; write {spec.name}({needed[0]}=...)")
        return options


_CONFIG = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


@functools.cache
def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(factory, include_extras=True)


def _checked(value: Value, hint: Any, where: str) -> Value:
    """Check a value by its option's annotation (range and choices included)."""
    try:
        adapter = TypeAdapter(hint, config=_CONFIG)
        read = adapter.validate_python(value)
        check_kind(value, read)
        return read
    except (ValidationError, PydanticCustomError) as error:
        found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.message()
        reason = found.removeprefix("Input should be ")
        raise BadSpec(f"{where} got {_format_value(value)}; expected {reason}") from None


def _format_value(value: Value) -> str:
    """Write a value so that it parses back; None, True and the like are words only in quotes."""
    match value:
        case Spec():
            return str(value)
        case str() if value.isidentifier() and value.isascii() and not iskeyword(value):
            return value
        case list():
            return f"[{', '.join(_format_value(item) for item in value)}]"
        case dict():
            pairs = (f"{_format_value(key)}: {_format_value(item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
    return repr(value)


def _expression(text: str) -> ast.expr:
    try:
        if len(text) > MAX_CHARACTERS:
            raise ValueError
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadSpec(f"cannot read spec {shorten(text)}; {EXPECTED}") from None


def _value(node: ast.expr, text: str) -> Value:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            if any(keyword.arg is None for keyword in keywords):
                raise BadSpec(f"cannot read spec {shorten(text)}; ** has no meaning in a spec")
            options = [(str(keyword.arg), _value(keyword.value, text)) for keyword in keywords]
            return Spec(name, tuple(_value(arg, text) for arg in args), _unique(options, text))
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_value(element, text) for element in elements]
        case ast.Dict(keys=keys, values=values) if all(isinstance(k, _KEYS) for k in keys):
            pairs = zip(keys, values, strict=True)
            return _unique(
                [(_value(k, text), _value(v, text)) for k, v in pairs if k is not None], text
            )
    try:
        value = ast.literal_eval(node)
        if isinstance(value, str | float | None) or _is_small(value):
            return value
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass
    piece = ast.get_source_segment(text.strip(), node) or text
    raise BadSpec(
        f"cannot read {shorten(piece)} in spec {shorten(text)}; values are numbers, words, lists or"
        " specs"
    )


_KEYS = ast.Name | ast.Constant | ast.UnaryOp


def _unique(pairs: list[tuple[Any, Value]], text: str) -> dict[Any, Value]:
    """Return a mapping; Python's own would keep the last of two values."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadSpec(f"{shorten(twice)} is given twice in spec {shorten(text)}; remove one")
    return mapping


def _is_small(value: object) -> bool:
    """Return whether a value is an integer that fits in 64 bits."""
    return isinstance(value, int) and value.bit_length() <= MAX_BITS


def _terms(node: ast.expr) -> list[ast.expr]:
    last: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        last = _terms(node.right) + last
        node = node.left
    return [node, *last]


def _term(node: ast.expr, text: str) -> tuple[float, Spec]:
    weight = 1.0
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        factor = _value(node.left, text)
        numeric = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not numeric or not 0 < factor <= MAX_WEIGHT:
            raise BadSpec(
                f"weight {shorten(factor)} in {shorten(text)}; expected a number above 0 and at"
                f" most {MAX_WEIGHT:g}"
            )
        weight, node = float(factor), node.right
    value = _value(node, text)
    if isinstance(value, str) and value.isidentifier():
        value = Spec(value)
    if not isinstance(value, Spec):
        raise BadSpec(f"cannot read {shorten(text)}; expected a sum such as 0.5*dice + 0.5*focal")
    return weight, value


def one_per_class(option: str, value: T | list[T], classes: int) -> list[T]:
    """Return one value per class, from one number for all classes or one per class.

    Raises:
        BadSpec: the number of values is not the number of classes.
    """
    if not isinstance(value, list):
        return [value] * classes
    if len(value) != classes:
        raise BadSpec(
            f"{option} has {len(value)} numbers; expected {classes}, one per class, or one number"
        )
    return value
