"""Members and their recipes, read from the command line or an experiment file."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from evaluation.core.classes import Classes
from evaluation.core.errors import BadSpec, shorten, unknown
from evaluation.core.ragged import Size
from evaluation.core.safe_yaml import parse_yaml
from evaluation.core.specs import Spec, parse_spec, split_name
from evaluation.core.strict_values import StrictModel, read_sides
from members.architectures import ARCHITECTURES
from members.external_networks.description import NetworkDescription
from members.losses import check_loss
from members.optimizers import OPTIMIZERS, SCHEDULES
from members.trainers import TRAINERS

SPECIALISTS = "specialists"
PREDICTION = {"tta", "tta_merge", "tile", "overlap"}
"""Recipe keys that affect prediction only: weights are kept when they change."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
REPEATS = "repeats"
"""Key of a member: so many trainings of its recipe, each a member of its own."""
MAX_REPEATS = 100
FORMER_KEYS = {"procedure": "trainer"}
"""Recipe keys by their earlier names, which are still read."""

Monitor = Literal["miou", "loss"]
Merge = Literal["mean", "geometric_mean", "max"]


class Recipe(StrictModel):
    """How one network is built and trained; everything but the data and the seed.

    Args:
        architecture: spec, or `specialists(SPEC)` for one binary network per class.
        loss: spec, or weighted sum of specs.
        augment: specs, applied in order.
        epochs: maximum number of passes over the training images.
        batch: images per step.
        optimizer: spec.
        schedule: spec of the learning-rate schedule.
        patience: training stops after so many epochs without a better holdout score.
        oversample: how often an image with a rare class is used per epoch.
        trainer: spec of the training procedure.
        monitor: the holdout metric that stops the training, selects the best weights and drives
            `plateau`: `miou`, the run's metric, or the loss.
        clip: maximum gradient norm. The default is far above the usual norm (about 1), so only rare
            outliers are clipped.
        ema: decay of an exponential moving average of the weights, such as 0.99; the average is
            what is validated and saved. 0 turns averaging off.
        train_share: fraction of the training groups to train on.
        tta: test-time augmentation for every split, such as `flips` or
            `flips+scales`; see `members.tta`.
        tta_merge: how the maps of the augmented views are merged.
        size: rows and columns to resize images to for the network, such as `256x256`; its maps are
            brought back to the images' own size. By default nothing is resized.
        fit: how images fit the size: `stretch`, `pad` or `crop`, see `members.resizing.Fit`.
        crop: rows and columns of random crops to train on, such as `256x256`; half of them hold a
            class drawn for its rarity. By default whole images, or crops of the smallest rows and
            columns if images have several sizes.
        tile: rows and columns of tiles to predict by; by default images are predicted whole.
        overlap: of neighbouring tiles, as a share of their side; their maps are blended.
        precision: `auto` uses bfloat16 where the hardware supports it, `float32` never does.
        single: train one network on the training images of all folds, instead of one per fold. It
            has no out-of-fold maps, so that nothing is fitted or chosen by it.

    Examples:
        >>> Recipe(architecture="unet(width=8)", trainer="staged").trainer
        'staged'
    """

    architecture: str = "unet"
    loss: str = "cross_entropy"
    augment: tuple[str, ...] = ("flips",)
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    batch: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    optimizer: str = "adamw"
    schedule: str = "cosine"
    patience: Annotated[int, Field(ge=1, le=1_000_000)] = 6
    oversample: Annotated[int, Field(ge=1, le=100)] = 1
    trainer: str = "supervised"
    monitor: Monitor = "miou"
    clip: Annotated[float, Field(gt=0, le=1e30)] = 5.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    train_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    tta: str | None = None
    tta_merge: Merge = "mean"
    size: Annotated[Size | None, BeforeValidator(read_sides)] = None
    fit: Literal["stretch", "pad", "crop"] = "stretch"
    crop: Annotated[Size | None, BeforeValidator(read_sides)] = None
    tile: Annotated[Size | None, BeforeValidator(read_sides)] = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    precision: Literal["auto", "float32"] = "auto"
    single: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_former_keys(cls, values: Any) -> Any:
        return _with_current_keys(values) if isinstance(values, Mapping) else values

    def check(self) -> None:
        """Check that every spec can be built.

        Raises:
            BadSpec: the first that cannot.
        """
        # They need torch, which reading a recipe does not.
        from members.augmentations.augment import Augment
        from members.trainers.distill import check_student
        from members.tta import check_tta

        if self.fit != "stretch" and self.size is None:
            raise BadSpec(f"fit {self.fit} goes with a size, such as size 256x256")
        ARCHITECTURES.check(architecture_of(self.architecture), "channels", "classes")
        check_loss(self.loss)
        Augment(self.augment)
        OPTIMIZERS.check(self.optimizer, "parameters")
        SCHEDULES.check(self.schedule, "epochs")
        TRAINERS.check(self.trainer)
        check_student(self, parse_spec(self.architecture))
        check_tta(self.tta)


@dataclass(frozen=True)
class Member:
    """One network to train in every fold.

    Args:
        name: also the name of its folders.
        recipe: how it is trained.
        label: for a specialist, its positive class.
        family: for a specialist, the name of the group of specialists it belongs to.
        network: for a network that was trained elsewhere, what is said about it; of the recipe only
            what concerns prediction applies.
    """

    name: str
    recipe: Recipe
    label: int | None = None
    family: str | None = None
    network: NetworkDescription | None = None

    def training_config(self) -> dict[str, Any]:
        """Return what the weights depend on, as JSON values."""
        # Keys that came later are left out at their defaults, so that older weights stay current.
        later = {"size", "fit"} if self.recipe.size is None else set()
        later |= set() if self.recipe.single else {"single"}
        recipe = self.recipe.model_dump(mode="json", exclude=PREDICTION | later)
        return {"recipe": recipe, "label": self.label}

    def prediction_config(self) -> dict[str, Any]:
        """Return what the maps depend on besides the weights, as JSON values."""
        keys = PREDICTION if self.network is None else PREDICTION | {"size", "fit"}
        return {"member": self.name, **self.recipe.model_dump(mode="json", include=keys)}

    def __post_init__(self) -> None:
        check_name(self.name, "member")
        try:
            self.recipe.check()
        except BadSpec as error:
            raise BadSpec(f"member {self.name!r}: {error}") from None

    @classmethod
    def external(cls, name: str, network: NetworkDescription) -> "Member":
        """Return the member of a network that was trained elsewhere.

        Raises:
            BadSpec: a test-time augmentation that is unknown, or a name that cannot be a folder's.
        """
        keys = {key: getattr(network, key) for key in network.PREDICTION}
        return cls(name, Recipe(**keys), network=network)

    @classmethod
    def expand(cls, name: str, recipe: Recipe, classes: Classes) -> "list[Member]":
        """Return the member, or one specialist per class for an architecture `specialists(SPEC)`.

        Examples:
            >>> recipe = Recipe(architecture="specialists(unet)")
            >>> [member.name for member in Member.expand("ovr", recipe, Classes(("soil", "rock")))]
            ['ovr-soil', 'ovr-rock']
        """
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
    """Make folder names of class names; numbered if two would be the same."""
    slugs = [re.sub(r"[^A-Za-z0-9_.]+", "_", name) for name in names]
    if len(set(slugs)) == len(slugs):
        return slugs
    return [f"{label}-{slug}" for label, slug in enumerate(slugs)]


def check_name(name: str, kind: str) -> str:
    """Return the name if it can be used as a folder name.

    Raises:
        BadSpec: it cannot.
    """
    if not NAME.fullmatch(name):
        raise BadSpec(f"{kind} name {name!r}; expected letters, digits, '_', '.' and '-'")
    return name


def read_member(text: str, defaults: Mapping[str, Any]) -> tuple[str, Recipe]:
    """Read `NAME=SPEC`, `NAME={recipe}` or the bare SPEC of an architecture.

    Args:
        text: as given on the command line.
        defaults: recipe keys to use where the text does not set them.

    Returns:
        The name (by default that of the architecture) and the recipe.

    Examples:
        >>> name, recipe = read_member("small={architecture: unet(width=4), epochs: 8}", {})
        >>> name, recipe.architecture, recipe.epochs
        ('small', 'unet(width=4)', 8)
    """
    name, mapping = _read_mapping(text)
    return name, read_recipe(name, mapping, defaults)


def read_repeats(text: str, defaults: Mapping[str, Any]) -> dict[str, Recipe]:
    """Read a member as `read_member` does, with its repeats.

    Raises:
        BadSpec: it cannot be read.
    """
    name, mapping = _read_mapping(text)
    repeated, others = repeat_members({name: mapping}, defaults)
    return {member: read_recipe(member, recipe, others) for member, recipe in repeated.items()}


def _read_mapping(text: str) -> tuple[str, Any]:
    name, rest = split_name(text)
    if not rest.startswith("{"):
        return name or parse_spec(rest).name, {"architecture": rest}
    try:
        return name or "member", parse_yaml(rest)
    except BadSpec as error:
        raise BadSpec(
            f"member {shorten(text)} is no YAML mapping; write NAME={{architecture: unet,"
            f" epochs: 8}}, with quotes around specs that contain commas ({error})"
        ) from None


def repeat_members(
    members: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Replace each member with `repeats: R` by R members of the same recipe.

    They are named NAME-1 to NAME-R, and so are trained from other seeds, which follow from the
    names. A strategy averages over them like over any members; `ens compare --recipes` takes them
    as trainings of one recipe.

    Args:
        members: mapping of recipe keys per member.
        defaults: recipe keys of all members.

    Returns:
        The members and the defaults, both without the key.

    Raises:
        BadSpec: not an integer from 1 to 100, or two members of one name.

    Examples:
        >>> repeat_members({"unet": {"epochs": 8, "repeats": 2}}, {})
        ({'unet-1': {'epochs': 8}, 'unet-2': {'epochs': 8}}, {})
    """
    others = {key: value for key, value in defaults.items() if key != REPEATS}
    repeated: dict[str, Any] = {}
    for name, mapping in members.items():
        number = defaults.get(REPEATS, 1)
        recipe = mapping
        if isinstance(mapping, Mapping):
            number = mapping.get(REPEATS, number)
            recipe = {key: value for key, value in mapping.items() if key != REPEATS}
        is_whole = isinstance(number, int) and not isinstance(number, bool)
        if not is_whole or not 1 <= number <= MAX_REPEATS:
            raise BadSpec(
                f"member {name!r}: 'repeats' got {shorten(number)}; expected an integer from 1 to"
                f" {MAX_REPEATS}"
            )
        for copy in [name] if number == 1 else [f"{name}-{k + 1}" for k in range(number)]:
            if copy in repeated:
                raise BadSpec(f"member {copy!r} is given twice; repeats of {name!r} take that name")
            repeated[copy] = recipe
    return repeated, others


def repeats_of(recipes: Mapping[str, Recipe], name: str) -> list[str]:
    """Return the members that are repeats of a recipe, or the single one of that name.

    Raises:
        BadSpec: no such recipe, or members of such names whose recipes differ.
    """
    numbered = re.compile(re.escape(name) + r"-[1-9][0-9]*")
    repeats = [member for member in recipes if numbered.fullmatch(member)]
    if name in recipes and not repeats:
        return [name]
    if not repeats:
        known = dict.fromkeys(re.sub(r"-[1-9][0-9]*$", "", member) for member in recipes)
        raise BadSpec(unknown("recipe", name, known))
    for other in repeats[1:]:
        if recipes[other] != recipes[repeats[0]]:
            raise BadSpec(
                f"members {repeats[0]!r} and {other!r} have different recipes; expected repeats of"
                f" {name!r}, trained with --repeats"
            )
    return repeats


def read_recipe(name: str, mapping: object, defaults: Mapping[str, Any]) -> Recipe:
    """Check a recipe mapping and add the defaults.

    Raises:
        BadSpec: an unknown key or an invalid value; names member and key.
    """
    if not isinstance(mapping, dict):
        raise BadSpec(f"member {name!r} is {shorten(mapping)}; expected a mapping of recipe keys")
    try:
        return Recipe.model_validate(
            {**_with_current_keys(defaults), **_with_current_keys(mapping)}
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join([*Recipe.model_fields, REPEATS])
            raise BadSpec(
                f"member {name!r} has no key {shorten(key)}{_yaml_hint(key)}; known: {known}"
            ) from None
        reason = first["msg"].removeprefix("Input should be ")
        raise BadSpec(
            f"member {name!r}: {key!r} got {shorten(first['input'])}; expected {reason}"
        ) from None


def _yaml_hint(key: str) -> str:
    """Say what YAML made a key of, where a spec or a pair was meant."""
    if ")" in key:
        return ' (a spec with commas needs quotes: {architecture: "unet(width=8, depth=3)"})'
    return " (YAML wants a blank after the colon)" if ":" in key else ""


def specialist_families(members: Iterable[Member]) -> dict[str, list[Member]]:
    """Group specialists by family, in the order of their labels."""
    families: dict[str, list[Member]] = {}
    for member in members:
        if member.family is not None:
            families.setdefault(member.family, []).append(member)
    return families


def architecture_of(spec: str | Spec) -> str:
    """Return the spec of an architecture, without `specialists(...)` around it.

    Raises:
        BadSpec: it cannot be read, or `specialists` has other than one architecture inside.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    if spec.name != SPECIALISTS:
        return str(spec)
    if len(spec.arguments) != 1 or spec.options:
        raise BadSpec(f"write specialists(ARCHITECTURE), not {shorten(str(spec))}")
    return str(spec.arguments[0])


def is_student(recipe: Recipe) -> bool:
    """Tell whether a network learns from the maps of others."""
    return parse_spec(recipe.trainer).name == "distill"


def _with_current_keys(mapping: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {old: new for old, new in FORMER_KEYS.items() if new not in mapping}
    return {renamed.get(key, key): value for key, value in mapping.items()}
