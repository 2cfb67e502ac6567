"""From the options of the command line to an experiment."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from ensemble.pipeline.experiment import Experiment, read_experiment
from evaluation.ground.errors import BadSpec
from evaluation.ground.layout import Run
from members.objects import check_url
from members.recipe import SPECIALISTS, check_name, read_member

ZOO = {
    "unet": {"architecture": "unet(width=8)"},
    "unet_aspp": {"architecture": "unet(width=8, bottleneck=aspp)"},
    "deeplab": {"architecture": "deeplab_v3_plus(width=8)"},
    "five": {"architecture": "specialists(unet(width=4))"},
}
ZOO_RECIPE = {
    "epochs": 8,
    "optimizer": "adamw(lr=3e-3)",
    "loss": "cross_entropy(weights=frequency, power=0.5)",
    "oversample": 2,
}
"""What `train-members` trains when nobody says what: small enough for minutes on two cores."""


def experiment_from(
    run: Run,
    *,
    data: str | None,
    validation: str | None,
    experiment: Path | None,
    members: Sequence[str],
    specialists: str | None,
    folds: int | None,
    drop: str | None,
    epochs: int | None,
    train_share: float | None,
    tta: str | None,
    tta_merge: str | None,
    seed: int | None,
    size: str | None,
    drop_outliers: bool,
    store_dtype: str | None,
    store: str | None,
) -> Experiment:
    """Return the experiment that a run holds or a file gives, with what options add to it.

    Raises:
        BadSpec: options that cannot be read, or members given twice over.
    """
    base = _base(run, experiment)
    given: dict[str, Any] = {
        "data": data and full_path(data),
        "validation": validation and full_path(validation),
        "drop": drop and full_path(drop),
        "folds": folds,
        "seed": seed,
        "size": size and read_size(size),
        "drop_outliers": drop_outliers or None,
        "store_dtype": store_dtype,
        "store": store and check_url(store),
    }
    base = base.model_copy(update={key: v for key, v in given.items() if v is not None})
    asked = {"epochs": epochs, "train_share": train_share, "tta": tta, "tta_merge": tta_merge}
    changed = {key: value for key, value in asked.items() if value is not None}
    defaults = {**base.defaults, **changed}
    wanted = [*members, *([f"five={SPECIALISTS}({specialists})"] if specialists else [])]
    recipes = {}
    for text in wanted:
        name, recipe = read_member(text, defaults)
        if name in recipes:
            raise BadSpec(f"member {name!r} is given twice; write NAME=SPEC with distinct names")
        recipes[check_name(name, "member")] = recipe
    if not recipes and not base.members:
        zoo = {**ZOO_RECIPE, **defaults}
        return base.model_copy(update={"members": ZOO, "defaults": zoo})
    if changed and not recipes:
        members_now = {name: {**m, **changed} for name, m in base.members.items()}
        base = base.model_copy(update={"members": members_now})
    return base.with_members(recipes)


def read_size(text: str) -> tuple[int, int]:
    """Read `64x128`: rows and columns, in pixels.

    Raises:
        BadSpec: anything else.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise BadSpec(f"size {text!r}; expected ROWSxCOLS, such as 64x128")
    return int(parts[0]), int(parts[1])


def _base(run: Run, file: Path | None) -> Experiment:
    if file is not None:
        return read_experiment(file)
    if run.experiment.is_file():
        return read_experiment(run.experiment)
    return Experiment()


def full_path(data: str) -> str:
    """Return a data set's path counted from the root; the built-in sample is none."""
    return data if data == "sample" else str(Path(data).resolve())


def read_share(text: str) -> Fraction:
    """Read `1/4` or `0.25`.

    Raises:
        BadSpec: anything else.
    """
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise BadSpec(f"scale {text!r}; expected a fraction such as 1/4") from None
