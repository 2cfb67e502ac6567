"""Optuna's study in a sqlite file: made whole, opened with care, and quiet.

Where the next trial looks: at random, on a grid, or where a model of the scores says.
"""

import contextlib
import hashlib
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import RDBStorage
from optuna.trial import Trial
from sqlalchemy.exc import SQLAlchemyError

from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.files import atomic_file

STUDY = "recipe"
ASKED = "asked"
PATIENCE_SECONDS = 60  # for another process that writes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log and warnings to itself; what matters is told in our own words."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


@dataclass(frozen=True)
class Opened:
    """A study with the storage it lies in.

    Args:
        study: Optuna's.
        storage: of the file.
    """

    study: optuna.Study
    storage: RDBStorage

    def trial(self, number: int) -> Trial:
        """Return a trial that was begun, to be gone on with."""
        study_id = self.storage.get_study_id_from_name(STUDY)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        with quiet():
            return Trial(self.study, trial_id)


@contextlib.contextmanager
def opened(path: Path, pruner: BasePruner | None = None) -> Iterator[Opened]:
    """Open the study in a file that `create` made and `check` has looked at.

    Args:
        path: of the file.
        pruner: says which trials are hopeless; None where nobody will ask.

    Raises:
        BadRun: it cannot be read or written.
    """
    storage = RDBStorage(
        f"sqlite:///{path}",
        engine_kwargs={"connect_args": {"timeout": PATIENCE_SECONDS}},
        skip_table_creation=True,
        skip_compatibility_check=True,
    )
    try:
        with quiet():
            study = optuna.load_study(study_name=STUDY, storage=storage, pruner=pruner)
        yield Opened(study, storage)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _unusable(path, error.__cause__ or error) from None
    finally:
        _close(storage)


def check(path: Path) -> None:
    """Refuse a file that is no whole study; it stays as it is, byte for byte.

    Raises:
        BadRun: it is damaged, another program's, or held by one.
    """
    try:
        address = f"{path.resolve().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as file:
            found = file.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise _unusable(path, found)
            names = file.execute("SELECT study_name FROM studies").fetchall()
    except sqlite3.Error as error:
        raise _unusable(path, error) from None
    if names != [(STUDY,)]:
        raise _unusable(path, f"it holds other studies than {STUDY!r}")
    try:
        with quiet():
            _close(RDBStorage(f"sqlite:///{path}", skip_table_creation=True))
    except RuntimeError as error:  # of another version of Optuna
        raise _unusable(path, error) from None


def create(path: Path, asked: Mapping[str, Any]) -> None:
    """Make an empty study, whole or not at all.

    Args:
        path: of the file.
        asked: what the trials depend on besides their options; kept with the study.
    """
    with atomic_file(path) as partial, quiet():
        storage = RDBStorage(f"sqlite:///{partial}")
        study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
        study.set_user_attr(ASKED, dict(asked))
        _close(storage)


def draw(trial: Trial, distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return the value of each option in a trial; what was drawn before stays."""
    with quiet():
        return {path: _drawn(trial, path, among) for path, among in distributions.items()}


def _drawn(trial: Trial, path: str, among: BaseDistribution) -> Any:
    if isinstance(among, CategoricalDistribution):
        return trial.suggest_categorical(path, among.choices)
    if isinstance(among, IntDistribution):
        return trial.suggest_int(path, among.low, among.high, step=among.step, log=among.log)
    assert isinstance(among, FloatDistribution)
    return trial.suggest_float(path, among.low, among.high, step=among.step, log=among.log)


def _close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _unusable(path: Path, reason: object) -> BadRun:
    first = str(reason).splitlines()[0]
    return BadRun(
        f"{path} cannot be used as a study ({first}); it is left as it is:"
        " move it away, or take another --run"
    )


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
