"""The experiment: which data, members, fusions and chains.

It is read from a YAML file or from the options of the command line, and kept in the run.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadSpec, check_distinct, shorten
from evaluation.core.label_options import NOTHING_SAID, LabelOptions, options_from_dict
from evaluation.core.ragged import Stack
from evaluation.core.run_folder import Run
from evaluation.core.safe_yaml import read_yaml, write_yaml
from evaluation.core.seeds import Seed
from evaluation.core.specs import split_chain
from evaluation.core.strict_values import StrictModel
from evaluation.protocols import ALL_PROTOCOLS, build_protocol
from members.codecs import StoreDtype, codec
from members.data.layouts import DEFAULT_LAYOUT, LayoutOptions
from members.external_networks.description import NetworkDescription, read_network
from members.object_store import EXAMPLE, check_url
from members.recipe import (
    REPEATS,
    SPECIALISTS,
    Member,
    Recipe,
    check_name,
    read_recipe,
    read_repeats,
    repeat_members,
)
from postproc.chain import check_image_type, parse_chain
from postproc.steps import STEPS

PATHS = ("data", "validation", "drop")


class FusionEntry(StrictModel):
    """A strategy over some of the members; over all of them where none are named."""

    strategy: str
    members: tuple[str, ...] = ()
    missing: Literal["refuse", "renormalise"] = "refuse"


def _url(value: str) -> str:
    try:
        return check_url(value)
    except BadSpec:
        raise PydanticCustomError("url", EXAMPLE) from None


def _label_options(value: Any) -> Any:
    return options_from_dict(value, "'classes'") if isinstance(value, dict) else value


def _layout_options(value: Any) -> Any:
    return LayoutOptions.from_dict(value, "'layout'") if isinstance(value, dict) else value


class Experiment(StrictModel):
    """Everything that `ens run` does.

    Args:
        data: file or folder of the training data; `sample` is the built-in one.
        validation: a labelled set; by default 15 % of the training groups.
        classes: names, ignored class and stored values; by default what the data says.
        layout: how the data lie on disk, see `members.data.layouts.LayoutOptions`.
        drop_outliers: leave out images that share one non-constant mask with nine others or more.
        drop: a text file with ids of training images to leave out, one per line.
        metric: the protocol that stops training, is fitted, selected and ranked by; by default
            `masked`, or of two classes with a declared foreground its IoU.
        folds: how many.
        seed: of folds, training and strategies.
        store_dtype: how probability maps are kept, see `members.codecs`.
        store: a URL under which new probability maps are written; by default the run's folder.
        defaults: recipe keys for every member whose recipe does not set them.
        members: recipe per member; with the key `repeats: R`, R members of that recipe.
        networks: networks that were trained elsewhere, by the name of their member: the file, or
            the keys of `members.external_networks.description.NetworkDescription`.
        fusions: spec of the strategy per fusion, or {strategy, members}.
        chains: spec per chain; every fusion is post-processed by every chain.
    """

    data: str = "sample"
    validation: str | None = None
    classes: Annotated[LabelOptions | None, BeforeValidator(_label_options)] = None
    layout: Annotated[LayoutOptions | None, BeforeValidator(_layout_options)] = None
    drop_outliers: bool = False
    drop: str | None = None
    metric: str | None = None
    folds: Annotated[int, Field(ge=2, le=100)] = 3
    seed: Seed = 0
    store_dtype: StoreDtype = "float16"
    store: Annotated[str, AfterValidator(_url)] | None = None
    defaults: dict[str, Any] = Field(default_factory=dict)
    members: dict[str, dict[str, Any]] = Field(default_factory=dict)
    networks: dict[str, Any] = Field(default_factory=dict)
    fusions: dict[str, str | FusionEntry] = Field(default_factory=dict)
    chains: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _repeat_members(cls, values: Any) -> Any:
        """Write out the members that are repeated."""
        if not isinstance(values, dict):
            return values
        members, defaults = values.get("members"), values.get("defaults", {})
        if not (isinstance(members, dict) and isinstance(defaults, dict)):
            return values
        repeated, others = repeat_members(members, defaults)
        return {**values, "members": repeated, "defaults": others}

    @model_validator(mode="before")
    @classmethod
    def _read_size(cls, values: Any) -> Any:
        """Take `size` and `fit` as defaults of the recipes, to which they belong."""
        if not isinstance(values, dict) or not isinstance(values.get("defaults", {}), dict):
            return values
        moved = {key: values[key] for key in ("size", "fit") if values.get(key) is not None}
        others = {key: value for key, value in values.items() if key not in ("size", "fit")}
        return others | {"defaults": {**moved, **others.get("defaults", {})}}

    def label_options(self) -> LabelOptions:
        """Return what the experiment says about classes and values of masks."""
        return self.classes or NOTHING_SAID

    def layout_options(self) -> LayoutOptions:
        """Return what the experiment says about how its data lie on disk."""
        return self.layout or DEFAULT_LAYOUT

    def with_data_options(self, labels: LabelOptions, layout: LayoutOptions) -> "Experiment":
        """Return the experiment with what options say about its data, whatever else it says."""
        changes: dict[str, Any] = {}
        if labels:
            changes["classes"] = self.label_options().updated(labels)
        if layout:
            changes["layout"] = resolve_layout_paths(self.layout_options().updated(layout))
        return self.model_copy(update=changes)

    def named_classes(self) -> Classes | None:
        """Return the classes that the experiment names; None where it leaves them to the data."""
        return self.label_options().without_data()

    def recipes(self) -> dict[str, Recipe]:
        """Return each member's recipe, filled up with the defaults."""
        return {name: read_recipe(name, m, self.defaults) for name, m in self.members.items()}

    def expanded(self, classes: Classes) -> list[Member]:
        """Return every network to train, specialists one by one."""
        recipes = self.recipes().items()
        return [m for name, recipe in recipes for m in Member.expand(name, recipe, classes)]

    def external_members(self) -> list[Member]:
        """Return the members whose networks were trained elsewhere.

        Raises:
            BadSpec: a description that cannot be read, or the name of another member.
        """
        taken = set(self.networks) & set(self.members)
        if taken:
            raise BadSpec(f"network {min(taken)!r} has the name of a member; choose another")
        return [Member.external(name, read_network(name, n)) for name, n in self.networks.items()]

    def with_networks(self, networks: Mapping[str, NetworkDescription]) -> "Experiment":
        """Return the experiment with networks added or replaced."""
        added = {name: network.model_dump(mode="json") for name, network in networks.items()}
        return self.model_copy(update={"networks": {**self.networks, **added}})

    def fusion_entry(self, name: str) -> FusionEntry:
        """Return the strategy and the members of a fusion; no members where it takes all.

        Raises:
            BadSpec: a member is named twice.
        """
        entry = self.fusions[name]
        if isinstance(entry, str):
            return FusionEntry(strategy=entry)
        check_distinct(f"fusion {name!r}: member", entry.members)
        return entry

    def resolved(self) -> "Experiment":
        """Return the experiment with the whole recipe of each member written out."""
        members = {name: r.model_dump(mode="json") for name, r in self.recipes().items()}
        return self.model_copy(update={"members": members, "defaults": {}})

    def with_members(self, recipes: dict[str, Recipe]) -> "Experiment":
        """Return the experiment with members added or replaced."""
        added = {name: recipe.model_dump(mode="json") for name, recipe in recipes.items()}
        return self.model_copy(update={"members": {**self.members, **added}})

    def write(self, path: Path) -> None:
        """Write it as YAML, whole or not at all."""
        write_yaml(path, self.model_dump(mode="json"))


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file.

    Paths in it are relative to its own folder.

    Raises:
        BadSpec: no YAML, an unknown key, a value that does not fit; names file and key.
    """
    content = read_yaml(path, "an experiment file")
    if not isinstance(content, dict):
        raise BadSpec(f"{path} holds {type(content).__name__}; expected keys such as data, members")
    try:
        experiment = Experiment(**content)
        check_metric(experiment)
        for name in experiment.fusions:
            experiment.fusion_entry(name)
    except BadData as error:
        raise BadSpec(f"{path}: 'classes': {error}") from None
    except BadSpec as error:
        raise BadSpec(f"{path}: {error}") from None
    except (ValidationError, TypeError) as error:
        raise BadSpec(f"{path}: {_reason(error)}") from None
    for kind in ("members", "networks", "fusions", "chains"):
        for name in getattr(experiment, kind):
            check_name(name, kind.removesuffix("s"))
    given = {key: value for key in PATHS if (value := getattr(experiment, key)) is not None}
    folder = path.resolve().parent
    paths: dict[str, Any] = {k: resolve_data_path(v, folder) for k, v in given.items()}
    try:
        read = {name: read_network(name, n, folder) for name, n in experiment.networks.items()}
    except BadSpec as error:
        raise BadSpec(f"{path}: {error}") from None
    experiment = experiment.with_networks(read)
    if experiment.layout is not None:
        paths["layout"] = resolve_layout_paths(experiment.layout, folder)
    return experiment.model_copy(update=paths)


def check_chains(
    experiment: Experiment, classes: Classes | None, images: Stack | None = None
) -> None:
    """Refuse chains that cannot be built; without classes, none of theirs is out of range.

    Args:
        experiment: whose chains are checked.
        classes: of the data; None where they are not known yet.
        images: of the data; where given, a step that reads images must take them.

    Raises:
        BadSpec: the first of them.
    """
    for text in experiment.chains.values():
        if classes is not None:
            chain = parse_chain(text, classes=len(classes), ignore=classes.ignore)
            if images is not None:
                check_image_type(images, chain.image_need)
            continue
        for step in split_chain(text):
            STEPS.check(step, "classes", "ignore", "floor")


def check_metric(experiment: Experiment) -> None:
    """Refuse a metric that is no protocol, or names none of the classes, if these are known.

    Raises:
        BadSpec: such a metric.
        BadData: classes that cannot be.
    """
    classes = experiment.named_classes()
    if experiment.metric is None:
        return
    if classes is None:
        ALL_PROTOCOLS.check(experiment.metric)
    else:
        build_protocol(experiment.metric, classes)


def resolve_data_path(data: str, folder: Path = Path()) -> str:
    """Return a data set's absolute path, relative to a folder; `sample` is the built-in set."""
    return data if data == "sample" else os.path.normpath(folder.resolve() / data)


def resolve_layout_paths(layout: LayoutOptions, folder: Path = Path()) -> LayoutOptions:
    """Return the options with absolute paths of the files that they name."""
    group_by, table = layout.group_by, layout.group_table
    if table is not None:
        group_by = f"{resolve_data_path(str(table[0]), folder)}:{table[1]}"
    ids = layout.ids and resolve_data_path(layout.ids, folder)
    return replace(layout, ids=ids, group_by=group_by)


def _reason(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return "keys must be words"
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; known: {', '.join(Experiment.model_fields)}"
    return (
        f"{key!r} got {shorten(first['input'])}; expected"
        f" {first['msg'].removeprefix('Input should be ')}"
    )


ZOO = {
    "unet": {"architecture": "unet(width=8)"},
    "unet_aspp": {"architecture": "unet(width=8, bottleneck=aspp)"},
    "deeplab": {"architecture": "deeplab_v3_plus(width=8)"},
    "specialists": {"architecture": "specialists(unet(width=4))"},
}
ZOO_RECIPE = {
    "epochs": 8,
    "optimizer": "adamw(lr=3e-3)",
    "loss": "cross_entropy(weights=frequency, power=0.5)",
    "oversample": 2,
}
"""What `train-members` trains by default: small enough for minutes on two cores."""


def experiment_from_options(
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
    repeats: int | None = None,
    train_share: float | None,
    tta: str | None,
    tta_merge: str | None,
    seed: int | None,
    size: str | None,
    fit: str | None,
    labels: LabelOptions = NOTHING_SAID,
    layout: LayoutOptions = DEFAULT_LAYOUT,
    objective_metric: str | None = None,
    drop_outliers: bool,
    store_dtype: str | None,
    store: str | None,
) -> Experiment:
    """Return the experiment of a file, or of the run, changed by the options that are given.

    Raises:
        BadSpec: options that cannot be read, or members given twice over.
    """
    base = Experiment()
    if experiment is not None or run.experiment.is_file():
        base = read_experiment(experiment or run.experiment)
    given: dict[str, Any] = {
        "data": data and resolve_data_path(data),
        "validation": validation and resolve_data_path(validation),
        "drop": drop and resolve_data_path(drop),
        "folds": folds,
        "seed": seed,
        "metric": objective_metric,
        "drop_outliers": drop_outliers or None,
        "store_dtype": store_dtype and codec(store_dtype).name,
        "store": store and check_url(store),
    }
    base = base.model_copy(update={key: v for key, v in given.items() if v is not None})
    base = base.with_data_options(labels, layout)
    check_metric(base)
    recipe_options = {
        "epochs": epochs,
        "train_share": train_share,
        "tta": tta,
        "tta_merge": tta_merge,
        "size": size and read_size(size),
        "fit": fit,
    }
    changed = {key: value for key, value in recipe_options.items() if value is not None}
    specs = [*members, *([f"specialists={SPECIALISTS}({specialists})"] if specialists else [])]
    return _with_members(base, specs, changed, repeats)


def _with_members(
    base: Experiment, specs: Sequence[str], changed: dict[str, Any], repeats: int | None
) -> Experiment:
    """Return an experiment with the members that are named, else its own, else the zoo.

    Args:
        base: the experiment.
        specs: of members, `NAME=SPEC`.
        changed: values of recipes that are given for all of them.
        repeats: trainings of each member that is named, with seeds of their own.

    Raises:
        BadSpec: a member given twice, or repeats without members.
    """
    defaults = {**base.defaults, **changed, **({} if repeats is None else {REPEATS: repeats})}
    recipes = _read_recipes(specs, defaults)
    if not recipes and not base.members and not base.networks:
        zoo, keys = repeat_members(ZOO, {**ZOO_RECIPE, **defaults})
        return base.model_copy(update={"members": zoo, "defaults": keys})
    if repeats is not None and not recipes:
        raise BadSpec(
            "--repeats is for the members that --member names; expected one or more, or"
            " 'repeats: R' in the experiment"
        )
    if changed and not recipes:
        retrained = {name: {**m, **changed} for name, m in base.members.items()}
        base = base.model_copy(update={"members": retrained})
    return base.with_members(recipes)


def _read_recipes(specs: Sequence[str], defaults: dict[str, Any]) -> dict[str, Recipe]:
    recipes: dict[str, Recipe] = {}
    for text in specs:
        for name, recipe in read_repeats(text, defaults).items():
            if name in recipes:
                raise BadSpec(
                    f"member {name!r} is given twice; write NAME=SPEC with distinct names"
                )
            recipes[check_name(name, "member")] = recipe
    return recipes


def read_size(text: str) -> tuple[int, int]:
    """Read `64x128`: rows and columns, in pixels.

    Raises:
        BadSpec: anything else.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise BadSpec(f"size {text!r}; expected ROWSxCOLS, such as 64x128")
    return int(parts[0]), int(parts[1])


def parse_fraction(text: str) -> Fraction:
    """Read `1/4` or `0.25`.

    Raises:
        BadSpec: anything else.
    """
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise BadSpec(f"scale {text!r}; expected a fraction such as 1/4") from None
