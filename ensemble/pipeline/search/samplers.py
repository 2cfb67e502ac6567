"""Where the next trial looks: at random, on a grid, or where a model of the scores says."""

import hashlib
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)

from ensemble.pipeline.search.study import quiet
from evaluation.ground.errors import BadSpec

SamplerName = Literal["tpe", "gp", "random", "grid"]
GRID_POINTS = 100_000

Distributions = dict[str, BaseDistribution]


def sampler(name: SamplerName, distributions: Distributions, seed: int) -> "Sampler":
    """Return what gives each trial its sampler.

    A trial's draws follow from its number, the seed and the trials before it, so an interrupted
    search goes on as if it had not been.

    Args:
        name: `tpe`, `gp` (a Gaussian process), `random` or `grid`.
        distributions: of each option.
        seed: of the draws.

    Raises:
        BadSpec: a grid over a range without steps, or of too many points.
    """
    makers: dict[str, Callable[[int], BaseSampler]] = {
        "tpe": lambda own: TPESampler(seed=own),
        "gp": lambda own: GPSampler(seed=own),
        "random": lambda own: RandomSampler(seed=own),
    }
    if name == "grid":
        return _Grid(distributions, seed)
    return _Drawn(makers[name], seed)


class _Drawn:
    """Samplers with a seed of their own for each trial."""

    points: int | None = None

    def __init__(self, maker: Callable[[int], BaseSampler], seed: int) -> None:
        self._maker, self._seed = maker, seed

    def __call__(self, number: int) -> BaseSampler:
        """Return the sampler of a trial."""
        own = hashlib.sha256(f"{self._seed} trial {number}".encode()).digest()
        with quiet():
            return self._maker(int.from_bytes(own[:4], "little"))


class _Grid:
    """Every combination once, in an order of its own for each seed."""

    def __init__(self, distributions: Distributions, seed: int) -> None:
        self._values = {path: _steps(path, among) for path, among in distributions.items()}
        self.points: int | None = math.prod(len(values) for values in self._values.values())
        if self.points > GRID_POINTS:
            raise BadSpec(
                f"the grid has {self.points} points; expected {GRID_POINTS} at most:"
                " take fewer choices, larger steps or another sampler"
            )
        self._order = np.random.default_rng(seed).permutation(self.points)

    def __call__(self, number: int) -> BaseSampler:
        """Return what draws the point of a trial."""
        sizes = [len(values) for values in self._values.values()]
        corner = np.unravel_index(self._order[number], sizes)
        point = {
            path: values[place]
            for (path, values), place in zip(self._values.items(), corner, strict=True)
        }
        with quiet():
            return PartialFixedSampler(point, RandomSampler(seed=0))


Sampler = _Drawn | _Grid


def _steps(path: str, among: BaseDistribution) -> list[Any]:
    if isinstance(among, CategoricalDistribution):
        return list(among.choices)
    if isinstance(among, IntDistribution) and not among.log:
        return list(range(among.low, among.high + 1, among.step))
    if isinstance(among, FloatDistribution) and among.step is not None:
        steps = round((among.high - among.low) / among.step)
        return [min(among.low + step * among.step, among.high) for step in range(steps + 1)]
    raise BadSpec(f"{path}: a grid needs a list of choices, or a range with steps and without log")
