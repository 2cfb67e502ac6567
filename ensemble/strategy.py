"""A strategy from its spec, with the options of every strategy: `calibrate=` and `calibrate_at=`.

With `calibrate=`, the option `objective` of strategies that have it is `log_loss` by default.

mean(calibrate=temperature)
stacking(l2=0.1, calibrate=isotonic, calibrate_at=members)
"""

from collections.abc import Sequence
from typing import Any, Literal

from ensemble.calibration import CALIBRATORS
from ensemble.fusion import Fusion, LearnedFusion
from ensemble.strategies import STRATEGIES
from evaluation.core.errors import BadSpec
from evaluation.core.specs import Spec, parse_spec
from members.maps import MapReader

CALIBRATE, CALIBRATE_AT = "calibrate", "calibrate_at"
CALIBRATION_STAGES = ("pool", "members")
OBJECTIVE = "objective"
CONTEXT = ("classes", "ignore", "kinds", "floor", "seed", "metric")


def check_strategy(spec: str | Spec) -> Spec:
    """Return the parsed spec after checking its name and options; builds nothing.

    Raises:
        BadSpec: unknown strategy, option or calibrator, or a value that its option does not take.
    """
    spec = _parse(spec)
    plain, calibrator, _ = _split_options(spec)
    STRATEGIES.check(plain, *CONTEXT)
    if calibrator is not None:
        CALIBRATORS.check(calibrator, *CONTEXT)
    return spec


def strategy_context(
    members: Sequence[MapReader],
    *,
    ignore: int | None,
    seed: int,
    fitting: Sequence[MapReader] = (),
) -> dict[str, Any]:
    """Return the context of `build_strategy` for some members.

    Args:
        members: what will be fused; one or more, of the same classes.
        seed: random seed of the strategy.
        fitting: other maps of the members, that the strategy is fitted on.
    """
    return {
        "classes": members[0].num_classes,
        "ignore": ignore,
        "kinds": tuple(member.kind for member in members),
        "floor": max(member.floor for member in (*members, *fitting)),
        "seed": seed,
    }


def build_strategy(spec: str | Spec, **context: Any) -> Fusion | LearnedFusion:
    """Build what a spec names.

    Args:
        spec: the spec, parsed or not.
        context: see `ensemble.strategies`; `strategy_context` returns it.

    Raises:
        BadSpec: as `check_strategy`, or options that do not fit the members.

    Examples:
        >>> import numpy as np
        >>> mean = build_strategy("mean", classes=2, ignore=None, kinds=("probabilities",) * 2)
        >>> maps = np.array([[1.0, 0.0], [0.5, 0.5]], np.float32)[:, None, :, None, None]
        >>> mean(maps).ravel()
        array([0.75, 0.25], dtype=float32)
    """
    spec = _parse(spec)
    plain, calibrator, stage = _split_options(spec)
    strategy: Fusion | LearnedFusion = STRATEGIES.build(plain, **context)
    if calibrator is None:
        return strategy
    if stage == "members" and set(context["kinds"]) != {"probabilities"}:
        raise BadSpec(
            f"{CALIBRATE_AT}=members in {spec}: specialists have no map to calibrate one by one;"
            f" leave {CALIBRATE_AT} out"
        )
    from ensemble.calibration.calibrated import calibrated

    return calibrated(
        strategy,
        CALIBRATORS.build(calibrator, **context),
        classes=context["classes"],
        ignore=context["ignore"],
        seed=context["seed"],
        stage=stage,
    )


def optimises(spec: str | Spec) -> bool:
    """Return whether what a spec names is fitted to score highest, so that the metric matters."""
    spec = _parse(spec)
    fixed = spec.options.get("weights") is not None or objective_of(spec) == "log_loss"
    return STRATEGIES.takes(spec.name, "metric") and not fixed


def objective_of(spec: str | Spec) -> str | None:
    """Return what the decisions of a strategy are fitted by; None where it has no such choice.

    Examples:
        >>> objective_of("stacking"), objective_of("stacking(objective=log_loss)")
        ('metric', 'log_loss')
        >>> objective_of("mean")

        Who asks for calibrated probabilities gets them, unless decisions are asked for, too.

        >>> objective_of("stacking(calibrate=vector)")
        'log_loss'
    """
    spec = _parse(spec)
    if not STRATEGIES.takes(spec.name, OBJECTIVE) or spec.options.get("weights") is not None:
        return None
    return str(spec.options.get(OBJECTIVE, "log_loss" if is_calibrated(spec) else "metric"))


def is_calibrated(spec: str | Spec) -> bool:
    """Return whether a spec asks for calibrated probabilities."""
    return CALIBRATE in _parse(spec).options


def _parse(spec: str | Spec) -> Spec:
    return parse_spec(spec) if isinstance(spec, str) else spec


def _split_options(spec: Spec) -> tuple[Spec, Spec | None, Literal["pool", "members"]]:
    """Return the strategy's own spec, the calibrator's, and where it calibrates."""
    options = {k: v for k, v in spec.options.items() if k not in (CALIBRATE, CALIBRATE_AT)}
    if CALIBRATE in spec.options and objective_of(spec) == "log_loss":
        options[OBJECTIVE] = "log_loss"
    plain = Spec(spec.name, spec.arguments, options)
    calibrator, stage = spec.options.get(CALIBRATE), spec.options.get(CALIBRATE_AT, "pool")
    if stage not in CALIBRATION_STAGES:
        expected = " or ".join(CALIBRATION_STAGES)
        raise BadSpec(f"option {CALIBRATE_AT!r} of {spec} got {stage}; expected {expected}")
    if calibrator is None:
        if CALIBRATE_AT in spec.options:
            raise BadSpec(f"{spec} has {CALIBRATE_AT} without {CALIBRATE}; add {CALIBRATE}=NAME")
        return plain, None, stage
    return plain, _parse(calibrator if isinstance(calibrator, Spec) else str(calibrator)), stage
