"""What a member is: a name and a recipe, read from the command line or an experiment file."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluation.core.classes import Classes
from evaluation.core.errors import BadSpec, shorten
from evaluation.core.safe_yaml import parse_yaml
from evaluation.core.specs import Spec, parse_spec, split_name
from members.architectures import ARCHITECTURES
from members.augmentations import Augment
from members.losses import check_loss
from members.optimizers import OPTIMIZERS, SCHEDULES
from members.trainers import TRAINERS
from members.trainers.epoch_metrics import Monitor
from members.tta import Merge, check_test_time

SPECIALISTS = "specialists"
PREDICTION = {"tta", "tta_merge"}
"""Keys of a recipe that change its maps alone: weights are kept when they change."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Recipe(BaseModel):
    """How one network is built and trained; everything but the data and the seed.

    Args:
        architecture: spec, or `specialists(SPEC)` for one binary network a class.
        loss: spec, or weighted sum of specs.
        augment: specs, applied in order.
        epochs: how often every training image is seen, at most.
        batch: images a step.
        optimizer: spec.
        schedule: spec of the learning rate's course.
        patience: epochs without a better holdout score after which training stops.
        oversample: how often an image that holds a rare class is drawn an epoch.
        procedure: spec of the way it is trained.
        monitor: what stops the training, picks its best weights and drives `plateau`: the masked
            mIoU of the holdout, or its loss.
        clip: gradients longer than this are shortened to it; the default, far above the usual norm
            (about 1), only tames the rare step that is not.
        ema: decay of an exponential moving average of the weights, which then is what is examined
            and kept, such as 0.99; 0 keeps the weights themselves.
        train_share: learn from this share of the training groups only.
        tta: test-time augmentation of every split's maps alike, such as `flips` or `flips+scales`.
        tta_merge: how the maps of its views become one.
        precision: `auto` takes bfloat16 where the machine computes in it, `float32` never does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str = "unet"
    loss: str = "cross_entropy"
    augment: tuple[str, ...] = ("flips",)
    epochs: Annotated[int, Field(ge=1)] = 20
    batch: Annotated[int, Field(ge=1)] = 16
    optimizer: str = "adamw"
    schedule: str = "cosine"
    patience: Annotated[int, Field(ge=1)] = 6
    oversample: Annotated[int, Field(ge=1, le=100)] = 1
    procedure: str = "supervised"
    monitor: Monitor = "miou"
    clip: Annotated[float, Field(gt=0)] = 5.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    train_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    tta: str | None = None
    tta_merge: Merge = "mean"
    precision: Literal["auto", "float32"] = "auto"

    def check(self) -> None:
        """Refuse specs that name something unknown, before any work.

        Raises:
            BadSpec: the first of them.
        """
        ARCHITECTURES.check(architecture_of(self.architecture), "channels", "classes")
        check_loss(self.loss)
        Augment(self.augment)
        OPTIMIZERS.check(self.optimizer, "parameters")
        SCHEDULES.check(self.schedule, "epochs")
        TRAINERS.check(self.procedure)
        check_test_time(self.tta)


@dataclass(frozen=True)
class Member:
    """One network to train, in every fold.

    Args:
        name: names its folders.
        recipe: how it is trained.
        label: for a specialist, the class that it tells from all others.
        family: for a specialist, the name of the five it belongs to.
    """

    name: str
    recipe: Recipe
    label: int | None = None
    family: str | None = None

    def asked(self) -> dict[str, Any]:
        """Return what the weights depend on, as JSON values."""
        recipe = self.recipe.model_dump(mode="json", exclude=PREDICTION)
        return {"recipe": recipe, "label": self.label}

    def asked_of_maps(self) -> dict[str, Any]:
        """Return what the maps depend on besides the weights, as JSON values."""
        return {"member": self.name, **self.recipe.model_dump(mode="json", include=PREDICTION)}

    def __post_init__(self) -> None:
        """Check the name and all specs."""
        check_name(self.name, "member")
        try:
            self.recipe.check()
        except BadSpec as error:
            raise BadSpec(f"member {self.name!r}: {error}") from None

    @classmethod
    def expand(cls, name: str, recipe: Recipe, classes: Classes) -> "list[Member]":
        """Return the member, or the specialists that its recipe asks for."""
        try:
            spec, inside = parse_spec(recipe.architecture), architecture_of(recipe.architecture)
        except BadSpec as error:
            raise BadSpec(f"member {name!r}: {error}") from None
        if spec.name != SPECIALISTS:
            return [cls(name, recipe)]
        binary = recipe.model_copy(update={"architecture": inside})
        return [
            cls(f"{name}-{slug}", binary, label, name)
            for label, slug in enumerate(_slugs(classes.names))
        ]


def _slugs(names: Iterable[str]) -> list[str]:
    """Make class names fit for folders' names; numbered where two would share one."""
    slugs = [re.sub(r"[^A-Za-z0-9_.]+", "_", name) for name in names]
    if len(set(slugs)) == len(slugs):
        return slugs
    return [f"{label}-{slug}" for label, slug in enumerate(slugs)]


def check_name(name: str, kind: str) -> str:
    """Return a name that is fit for a folder.

    Raises:
        BadSpec: it is not.
    """
    if not NAME.fullmatch(name):
        raise BadSpec(f"{kind} name {name!r}; expected letters, digits, '_', '.' and '-'")
    return name


def read_member(text: str, defaults: Mapping[str, Any]) -> tuple[str, Recipe]:
    """Read `NAME=SPEC`, `NAME={recipe}` or a bare SPEC of an architecture.

    Args:
        text: as written on the command line.
        defaults: what a recipe that does not say otherwise has.

    Returns:
        The name (the architecture's where none was given) and the recipe.
    """
    name, rest = split_name(text)
    if not rest.startswith("{"):
        return name or parse_spec(rest).name, read_recipe(rest, {"architecture": rest}, defaults)
    try:
        mapping = parse_yaml(rest)
    except BadSpec:
        raise BadSpec(
            f"member {shorten(text)} is no YAML mapping; write NAME={{architecture: unet,"
            " epochs: 8}, with quotes around specs that hold commas"
        ) from None
    return name or "member", read_recipe(name or "member", mapping, defaults)


def read_recipe(name: str, mapping: object, defaults: Mapping[str, Any]) -> Recipe:
    """Check a recipe mapping, filled up with defaults.

    Raises:
        BadSpec: an unknown key or a value that does not fit; names member and key.
    """
    if not isinstance(mapping, dict):
        raise BadSpec(f"member {name!r} is {shorten(mapping)}; expected a mapping of recipe keys")
    try:
        return Recipe.model_validate({**defaults, **mapping})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(Recipe.model_fields)
            raise BadSpec(f"member {name!r} has no key {shorten(key)}; known: {known}") from None
        reason = first["msg"].removeprefix("Input should be ")
        raise BadSpec(
            f"member {name!r}: {key!r} got {shorten(first['input'])}; expected {reason}"
        ) from None


def specialist_families(members: Iterable[Member]) -> dict[str, list[Member]]:
    """Group specialists by family, in the order of their labels."""
    found: dict[str, list[Member]] = {}
    for member in members:
        if member.family is not None:
            found.setdefault(member.family, []).append(member)
    return found


def architecture_of(spec: str | Spec) -> str:
    """Return the spec of an architecture, looking through `specialists(...)`.

    Raises:
        BadSpec: it does not parse, or is `specialists` of anything but one architecture.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    if spec.name != SPECIALISTS:
        return str(spec)
    if len(spec.arguments) != 1 or spec.options:
        raise BadSpec(f"write specialists(ARCHITECTURE), not {shorten(str(spec))}")
    return str(spec.arguments[0])
