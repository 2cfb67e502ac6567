"""One option of a step and its values, from the command line into a chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.ground.errors import BadSpec
from evaluation.ground.specs import Spec, parse_spec

EXAMPLE = "crf.bilateral_sxy=5,15,30"


@dataclass(frozen=True)
class Axis:
    """One option and its values.

    Args:
        step: its name.
        option: of the step.
        values: to be shown.
    """

    step: str
    option: str
    values: tuple[Any, ...]


def read_axis(text: str) -> Axis:
    """Read `STEP.OPTION=A,B,...`.

    Raises:
        BadSpec: anything else.
    """
    path, equals, values = text.partition("=")
    step, dot, option = path.strip().partition(".")
    if not (equals and dot and step.isidentifier() and option.isidentifier()):
        raise BadSpec(f"--grid {text!r}; expected STEP.OPTION=A,B,... such as {EXAMPLE}")
    given = parse_spec(f"{step}({option}=[{values}])").options[option]
    if not given:
        raise BadSpec(f"--grid {text!r} names no value; expected {EXAMPLE}")
    return Axis(step, option, tuple(given))


def named(rows: Axis, cols: Axis) -> list[Spec]:
    """Return the steps of two axes, each once, with nothing set."""
    return [Spec(name) for name in dict.fromkeys([rows.step, cols.step])]


def with_options(specs: Sequence[Spec], *chosen: tuple[Axis, Any]) -> list[Spec]:
    """Set options of the steps in a chain.

    Raises:
        BadSpec: the chain has no such step.
    """
    for axis, value in chosen:
        if all(spec.name != axis.step for spec in specs):
            raise BadSpec(f"--grid {axis.step}.{axis.option}; --chain has no step {axis.step!r}")
        specs = [
            Spec(spec.name, spec.arguments, {**spec.options, axis.option: value})
            if spec.name == axis.step
            else spec
            for spec in specs
        ]
    return list(specs)
