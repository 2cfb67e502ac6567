"""What every Optuna search shares: values of options from YAML, samplers, and studies on disk."""

import contextlib
import copy
import hashlib
import json
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

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
from optuna.samplers import BaseSampler, GPSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import Trial
from pydantic import Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.files import atomic_file
from evaluation.core.strict_values import StrictModel

Number = Annotated[float, Field(allow_inf_nan=False)]
Distributions = dict[str, BaseDistribution]

VALUES_FORM = "expected a list of choices or {low: , high: , log: , step: }"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's log and warnings; searches log in their own words."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


class Range(StrictModel):
    """Values of an option from low to high, both included; integers if all three are.

    Args:
        low: the lowest value.
        high: the highest value.
        log: whether values are sampled on a logarithmic scale.
        step: from one value to the next.
    """

    low: int | Number
    high: int | Number
    log: bool = False
    step: int | Number | None = None

    def distribution(self) -> BaseDistribution:
        """Return Optuna's distribution.

        Raises:
            ValueError: the range is empty, or its step does not fit.
        """
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log goes with a low above 0, and without a step")
        if self.step is not None and not self._step_fits():
            raise ValueError(
                f"steps of {self.step} do not lead from {self.low} to {self.high} exactly"
            )
        if all(isinstance(value, int) for value in (self.low, self.high, self.step or 1)):
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def _step_fits(self) -> bool:
        low, high, step = (Decimal(str(value)) for value in (self.low, self.high, self.step))
        return step > 0 and (high - low) % step == 0


Values = list[Any] | Range
"""What an option may be: choices, or a range."""


def read_values(path: str, given: Any, *, plain: bool = False) -> Values:
    """Check the values of an option from a YAML file: choices, or {low, high, log, step}.

    With `plain` choices must be numbers or text, not lists or null.

    Raises:
        BadSpec: neither of both, or values that contradict each other.
    """
    if isinstance(given, list) and given:
        return _check_choices(path, given, plain=plain)
    if not isinstance(given, dict):
        raise BadSpec(f"{path} got {given!r}; {VALUES_FORM}")
    try:
        values = Range(**{str(key): value for key, value in given.items()})
        values.distribution()
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Input should be ")
        key = str(first["loc"][0])
        raise BadSpec(f"{path}: {key!r}: {reason[:1].lower()}{reason[1:]}; {VALUES_FORM}") from None
    except ValueError as error:
        raise BadSpec(f"{path}: {error}; {VALUES_FORM}") from None
    return values


def distribution_of(values: Values) -> BaseDistribution:
    """Return Optuna's distribution over values; a choice that is a list stands as its JSON text."""
    if isinstance(values, list):
        return CategoricalDistribution([choice_label(choice) for choice in values])
    return values.distribution()


def choice_label(choice: Any) -> str | int | float | bool | None:
    """Return what stands for a choice in a study, which stores plain values only."""
    if choice is None or isinstance(choice, str | int | float | bool):
        return choice
    return json.dumps(choice)


def end_values(values: Values) -> list[Any]:
    """Return every choice, or both ends of a range."""
    return values if isinstance(values, list) else [values.low, values.high]


def values_to_dict(options: Mapping[str, Values]) -> dict[str, Any]:
    """Return the values of options as JSON values."""
    return {
        name: values if isinstance(values, list) else values.model_dump()
        for name, values in options.items()
    }


def suggest(trial: Trial, distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return the value of each option in a trial; values it already has are kept."""
    with quiet():
        return {path: _suggest(trial, path, among) for path, among in distributions.items()}


SamplerName = Literal["tpe", "gp", "random", "grid"]
MAX_GRID_POINTS = 100_000


@dataclass(frozen=True)
class TrialSampler:
    """Gives each trial, by its number, its sampler; a grid has so many points.

    What a trial samples follows from its number, the seed and the trials before it, so an
    interrupted search continues as if it had not been interrupted.
    """

    for_trial: Callable[[int], BaseSampler]
    points: int | None = None


def make_sampler(name: SamplerName, distributions: Distributions, seed: int) -> TrialSampler:
    """Return the samplers of a search; `gp` is a Gaussian process.

    Raises:
        BadSpec: a grid over a range without steps, or of too many points.
    """
    if name == "grid":
        return _grid_sampler(distributions, seed)
    makers: dict[str, Callable[[int], BaseSampler]] = {
        "tpe": lambda trial_seed: TPESampler(seed=trial_seed),
        "gp": lambda trial_seed: GPSampler(seed=trial_seed),
        "random": lambda trial_seed: RandomSampler(seed=trial_seed),
    }

    def for_trial(number: int) -> BaseSampler:
        digest = hashlib.sha256(f"{seed} trial {number}".encode()).digest()
        with quiet():
            return makers[name](int.from_bytes(digest[:4], "little"))

    return TrialSampler(for_trial)


FILE, STUDY = "study.sqlite", "recipe"
CONFIG = "asked"
"""Attribute of a study: what its trials depend on besides their options."""

LOCK_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class OpenStudy:
    """Optuna's study with the storage of its file."""

    study: optuna.Study
    storage: RDBStorage

    def trial(self, number: int) -> Trial:
        """Return a trial that has started, to continue it."""
        with quiet():
            return Trial(self.study, self._trial_id(number))

    def draw(
        self, number: int, sampler: BaseSampler, distributions: Distributions
    ) -> dict[str, Any]:
        """Return the options of a trial that has started, and store them.

        A trial whose drawing was interrupted is drawn from the first option again, so it gets the
        options that it would have got; Optuna would go on with what the sampler draws first.
        """
        trial_id = self._trial_id(number)
        stored = self.storage.get_trial(trial_id)
        empty = copy.copy(stored)
        empty.params, empty.distributions = {}, {}
        with quiet():
            study = optuna.load_study(study_name=STUDY, storage=self.storage, sampler=sampler)
            together = sampler.infer_relative_search_space(study, empty)
            drawn = sampler.sample_relative(study, empty, together)
            for path, among in distributions.items():
                if isinstance(among, CategoricalDistribution) and among.single():
                    drawn[path] = among.choices[0]
                elif path not in drawn:
                    drawn[path] = sampler.sample_independent(study, empty, path, among)
                if path not in stored.params:
                    value = among.to_internal_repr(drawn[path])
                    self.storage.set_trial_param(trial_id, path, value, among)
        return {path: stored.params.get(path, drawn[path]) for path in distributions}

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(STUDY)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


@contextlib.contextmanager
def open_study(path: Path, pruner: BasePruner | None = None) -> Iterator[OpenStudy]:
    """Open a study that `create_study` wrote and `check_study` accepted.

    Raises:
        BadRun: it cannot be read or written.
    """
    storage = _storage(path, skip_table_creation=True, skip_compatibility_check=True)
    try:
        with quiet():
            # `draw` has its own sampler; this one, unlike the default, does nothing by itself.
            study = optuna.load_study(
                study_name=STUDY, storage=storage, sampler=RandomSampler(seed=0), pruner=pruner
            )
        yield OpenStudy(study, storage)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _unusable(path, error.__cause__ or error) from None
    finally:
        _close(storage)


def create_study(path: Path, config: Mapping[str, Any]) -> None:
    """Write an empty study, whole or not at all, with the configuration of all its trials."""
    with atomic_file(path) as partial, quiet():
        storage = _storage(partial)
        study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
        study.set_user_attr(CONFIG, dict(config))
        _close(storage)


def check_study(path: Path) -> None:
    """Check that a file is a whole study; it is left untouched.

    Raises:
        BadRun: it is damaged, locked, or was written by another program.
    """
    try:
        url = f"{path.resolve().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(url, uri=True)) as file:
            state = file.execute("PRAGMA quick_check(1)").fetchone()[0]
            if state != "ok":
                raise _unusable(path, state)
            names = file.execute("SELECT study_name FROM studies").fetchall()
    except sqlite3.Error as error:
        raise _unusable(path, error) from None
    if names != [(STUDY,)]:
        raise _unusable(path, f"it holds other studies than {STUDY!r}")
    try:
        with quiet():
            _close(_storage(path, skip_table_creation=True))
    except RuntimeError as error:  # of another version of Optuna
        raise _unusable(path, error) from None


def check_same_config(path: Path, config: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that a study was started with this configuration.

    Raises:
        BadRun: a part differs; names it, and both values.
    """
    with open_study(path) as opened:
        stored = opened.study.user_attrs.get(CONFIG, {})
    for part, new in config.items():
        old = stored.get(part, {})
        for key in [*new, *old]:
            if part in stored and old.get(key) != new.get(key):
                before, now = (json.dumps(d[key]) if key in d else "nothing" for d in (old, new))
                raise BadRun(
                    f"{path} searches with another {part}: {key} is {before} there, {now} here;"
                    " take another --run, or move it away"
                )


def _check_choices(path: str, choices: list[Any], *, plain: bool) -> list[Any]:
    labels = [choice_label(choice) for choice in choices]
    for index, (choice, label) in enumerate(zip(choices, labels, strict=True)):
        if plain and not isinstance(choice, str | int | float):
            raise BadSpec(f"{path}: choice {choice!r}; expected a number or text")
        if isinstance(label, float) and not math.isfinite(label):
            raise BadSpec(f"{path}: choice {label} is not a finite number")
        if label in labels[:index]:
            raise BadSpec(f"{path}: choice {choice!r} is duplicated")
    return choices


def _suggest(trial: Trial, path: str, among: BaseDistribution) -> Any:
    if isinstance(among, CategoricalDistribution):
        return trial.suggest_categorical(path, among.choices)
    if isinstance(among, IntDistribution):
        return trial.suggest_int(path, among.low, among.high, step=among.step, log=among.log)
    assert isinstance(among, FloatDistribution)
    return trial.suggest_float(path, among.low, among.high, step=among.step, log=among.log)


def _grid_sampler(distributions: Distributions, seed: int) -> TrialSampler:
    """Sample every combination once, in an order that depends on the seed."""
    values = {path: _grid_values(path, among) for path, among in distributions.items()}
    sizes = [len(choices) for choices in values.values()]
    points = math.prod(sizes)
    if points > MAX_GRID_POINTS:
        raise BadSpec(
            f"the grid has {points} points; expected at most {MAX_GRID_POINTS}:"
            " take fewer choices, larger steps or another sampler"
        )
    order = np.random.default_rng(seed).permutation(points)

    def for_trial(number: int) -> BaseSampler:
        indices = np.unravel_index(order[number], sizes)
        point = {
            path: choices[index]
            for (path, choices), index in zip(values.items(), indices, strict=True)
        }
        with quiet():
            return PartialFixedSampler(point, RandomSampler(seed=0))

    return TrialSampler(for_trial, points)


def _grid_values(path: str, among: BaseDistribution) -> list[Any]:
    if isinstance(among, CategoricalDistribution):
        return list(among.choices)
    if isinstance(among, IntDistribution) and not among.log:
        return list(range(among.low, among.high + 1, among.step))
    if isinstance(among, FloatDistribution) and among.step is not None:
        steps = round((among.high - among.low) / among.step)
        return [min(among.low + step * among.step, among.high) for step in range(steps + 1)]
    raise BadSpec(f"{path}: a grid needs a list of choices, or a range with steps and without log")


def _storage(
    path: Path, *, skip_table_creation: bool = False, skip_compatibility_check: bool = False
) -> RDBStorage:
    # In a URL %, ?, # and braces have a meaning, so Optuna is given the connection instead.
    file = path.absolute()

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=LOCK_TIMEOUT_SECONDS, check_same_thread=False)

    return RDBStorage(
        f"sqlite:///{FILE}",
        engine_kwargs={"creator": connect},
        skip_table_creation=skip_table_creation,
        skip_compatibility_check=skip_compatibility_check,
    )


def _close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _unusable(path: Path, reason: object) -> BadRun:
    first = str(reason).splitlines()[0]
    return BadRun(
        f"{path} cannot be used as a study ({first}) and was not changed;"
        " move it away, or take another --run"
    )
