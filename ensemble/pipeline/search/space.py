"""The space of a search: a recipe, and what some of its options may be."""

import json
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Annotated, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import BaseModel, ConfigDict, Field

from ensemble.pipeline.search.paths import filled
from evaluation.ground.errors import BadSpec
from members.recipe import Recipe

DECIMALS = 10

Number = Annotated[float, Field(allow_inf_nan=False)]


class Range(BaseModel):
    """What an option may be, from low to high, both included; whole numbers where all are.

    Args:
        low: the lowest.
        high: the highest.
        log: whether orders of magnitude are alike, not differences.
        step: from one value to the next.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | Number
    high: int | Number
    log: bool = False
    step: int | Number | None = None

    def distribution(self) -> BaseDistribution:
        """Return it as Optuna has it.

        Raises:
            ValueError: no such range.
        """
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log goes with a low above 0, and without a step")
        if self.step is not None and not self._leads():
            raise ValueError(
                f"steps of {self.step} do not lead from {self.low} to {self.high} exactly"
            )
        if all(isinstance(value, int) for value in (self.low, self.high, self.step or 1)):
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def _leads(self) -> bool:
        """Tell whether steps end at high; in decimals, in which 0.4 is four times 0.1."""
        low, high, step = (Decimal(str(value)) for value in (self.low, self.high, self.step))
        return step > 0 and (high - low) % step == 0


@dataclass(frozen=True)
class Space:
    """A recipe and what its options may be.

    Args:
        recipe: what is not searched.
        options: from a path to a list of choices or a range.
    """

    recipe: Recipe
    options: dict[str, list[Any] | Range]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return what Optuna draws from; a choice that is a list goes as its JSON text."""
        return {
            path: CategoricalDistribution([label(choice) for choice in values])
            if isinstance(values, list)
            else values.distribution()
            for path, values in self.options.items()
        }

    def decoded(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """Return the value of each option from what Optuna drew."""
        return {path: self._value(path, value) for path, value in drawn.items()}

    def document(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return {
            path: values if isinstance(values, list) else values.model_dump()
            for path, values in self.options.items()
        }

    def check(self) -> list[Recipe]:
        """Refuse what no trial could train; return a recipe for each end and choice.

        Raises:
            BadSpec: a path that leads nowhere, or a value that its option refuses.
        """
        recipes = []
        for path in self.options:
            key = path.partition(".")[0]
            # An option inside a key that is searched too must fit every choice of it.
            around = [key] if key != path and key in self.options else []
            for values in product(*(self._ends(name) for name in [*around, path])):
                try:
                    options = dict(zip([*around, path], values, strict=True))
                    recipes.append(filled(self.recipe, options))
                except BadSpec as error:
                    raise BadSpec(f"{path}: {error}") from None
        return recipes

    def _ends(self, path: str) -> list[Any]:
        values = self.options[path]
        return values if isinstance(values, list) else [values.low, values.high]

    def _value(self, path: str, drawn: Any) -> Any:
        values = self.options[path]
        if not isinstance(values, list):
            # Steps are added up in binary: 0.1 three times is a little more than 0.3.
            return drawn if values.step is None else round(drawn, DECIMALS)
        return next(choice for choice in values if label(choice) == drawn)


def label(choice: Any) -> str | int | float | bool | None:
    """Return what stands for a choice in the study, which keeps plain values alone."""
    if choice is None or isinstance(choice, str | int | float | bool):
        return choice
    return json.dumps(choice)
