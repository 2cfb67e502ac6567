"""Mixtures of losses: as they are written, or all whose weights are multiples of a step."""

import ast
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import comb

from evaluation.ground.errors import BadSpec
from evaluation.ground.specs import Spec, parse_spec, parse_sum
from members.losses import check_loss

MOST = 1000
FINEST = 1000  # parts of 1 in a step


def mixtures(written: Sequence[str], losses: str | None, step: float) -> list[str]:
    """Return the mixtures to compare, each once and in one form.

    Args:
        written: such as `0.5*dice + 0.5*focal`.
        losses: such as `dice,focal(gamma=2)`: all their mixtures whose weights sum to 1; or None.
        step: between two weights of those.

    Raises:
        BadSpec: nothing given, a weight that is not positive, an unknown loss, or a step that
            does not divide 1.
    """
    found = [_read(text) for text in written]
    if losses is not None:
        found += _grid(_losses(losses), step)
    if not found:
        raise BadSpec("no mixture; write --mixture '0.5*dice + 0.5*focal', or --losses dice,focal")
    for mixture in found:
        check_loss(mixture)
    return list(dict.fromkeys(found))


def _read(text: str) -> str:
    try:
        parts = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parts = []  # what is no expression, parse_sum says
    if any(isinstance(part, ast.Sub) for part in parts):
        raise BadSpec(f"mixture {text!r} takes a loss away; expected weights above 0")
    return _sum(parse_sum(text))


def _losses(text: str) -> list[Spec]:
    names = parse_spec(f"losses({text})").arguments
    losses = [parse_spec(str(name)) for name in names]
    if len({str(loss) for loss in losses}) < max(2, len(losses)):
        raise BadSpec(f"losses {text!r}; expected two or more that differ, such as dice,focal")
    for loss in losses:
        check_loss(str(loss))
    return losses


def _grid(losses: list[Spec], step: float) -> list[str]:
    exact = Fraction(step).limit_denominator(FINEST)
    if not 0 < exact < 1 or exact.numerator != 1:
        raise BadSpec(f"step {step:g}; expected a part of 1, such as 0.5, 0.25 or 0.1")
    parts = exact.denominator
    number = comb(parts + len(losses) - 1, parts)
    if number > MOST:
        raise BadSpec(
            f"{len(losses)} losses by steps of {step:g} make {number} mixtures; expected {MOST} at"
            " most: take larger steps or fewer losses"
        )
    return [
        _sum([(share / parts, loss) for share, loss in zip(shares, losses, strict=True) if share])
        for shares in _shares(parts, len(losses))
    ]


def _shares(parts: int, losses: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to deal out so many parts."""
    if losses == 1:
        yield (parts,)
        return
    for first in range(parts, -1, -1):
        for others in _shares(parts - first, losses - 1):
            yield (first, *others)


def _sum(terms: list[tuple[float, Spec]]) -> str:
    return " + ".join(str(loss) if weight == 1 else f"{weight:g}*{loss}" for weight, loss in terms)
