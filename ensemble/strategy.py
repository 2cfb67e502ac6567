"""A strategy by its spec, with what every strategy may be told: `calibrate=` and `calibrate_at=`.

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
PLACES = ("pool", "members")
CONTEXT = ("classes", "ignore", "kinds", "floor", "seed")


def check_strategy(spec: str | Spec) -> Spec:
    """Return the parsed spec after looking at its name and options, building nothing.

    Raises:
        BadSpec: unknown strategy, option or calibrator, or a value that its option does not take.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    plain, calibrator, _ = _parted(spec)
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
    """Return what `build_strategy` is to know of members.

    Args:
        members: what will be fused; one or more, of the same classes.
        ignore: the class that is not scored, or None.
        seed: of what the strategy draws.
        fitting: other maps of the members, that the strategy learns from.
    """
    return {
        "classes": members[0].size[1],
        "ignore": ignore,
        "kinds": tuple(member.kind for member in members),
        "floor": max(member.floor for member in (*members, *fitting)),
        "seed": seed,
    }


def build_strategy(spec: str | Spec, **context: Any) -> Fusion | LearnedFusion:
    """Build what a spec names.

    Args:
        spec: the spec, parsed or not.
        context: see `ensemble.strategies`; `strategy_context` gives it.

    Raises:
        BadSpec: as `check_strategy`, or options that do not fit the members.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    plain, calibrator, at = _parted(spec)
    strategy: Fusion | LearnedFusion = STRATEGIES.build(plain, **context)
    if calibrator is None:
        return strategy
    if at == "members" and set(context["kinds"]) != {"probabilities"}:
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
        at=at,
    )


def is_calibrated(spec: str | Spec) -> bool:
    """Tell whether a spec asks for calibrated probabilities."""
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    return CALIBRATE in spec.options


def _parted(spec: Spec) -> tuple[Spec, Spec | None, Literal["pool", "members"]]:
    """Take what every strategy may be told out of a spec."""
    own = {k: v for k, v in spec.options.items() if k not in (CALIBRATE, CALIBRATE_AT)}
    plain = Spec(spec.name, spec.arguments, own)
    asked, at = spec.options.get(CALIBRATE), spec.options.get(CALIBRATE_AT, "pool")
    if at not in PLACES:
        raise BadSpec(f"option {CALIBRATE_AT!r} of {spec} got {at}; expected {' or '.join(PLACES)}")
    if asked is None:
        if CALIBRATE_AT in spec.options:
            raise BadSpec(f"{spec} has {CALIBRATE_AT} without {CALIBRATE}; add {CALIBRATE}=NAME")
        return plain, None, at
    return plain, asked if isinstance(asked, Spec) else parse_spec(str(asked)), at
