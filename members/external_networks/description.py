"""What is said about a network from elsewhere: what its file cannot say, or leaves open."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from evaluation.core.errors import BadSpec, check_distinct, shorten
from evaluation.core.ragged import Size
from evaluation.core.safe_yaml import parse_yaml, read_yaml
from evaluation.core.specs import split_name
from evaluation.core.strict_values import StrictModel, read_sides

SIDECARS = (".yaml", ".yml", ".json")
"""What is appended to the name of a network's file for that of its description."""

ORDERS = {"rgb": (0, 1, 2), "bgr": (2, 1, 0)}

InputRange = Literal["0..1", "0..255", "stored"]
Output = Literal["logits", "probabilities"]


def _read_order(value: Any) -> Any:
    if isinstance(value, str):
        if value.lower() not in ORDERS:
            raise PydanticCustomError("order", "rgb, bgr, or a list of the image's channels")
        return ORDERS[value.lower()]
    return value


def _read_names(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Sides = Annotated[Size | None, BeforeValidator(read_sides)]


class NetworkDescription(StrictModel):
    """A network's file, and what is said about it.

    Args:
        file: `.onnx`, `.torchscript`, `.ts` or `.pt` (TorchScript), `.pt2` (`torch.export`), or
            `.safetensors` of an architecture.
        architecture: spec, for `.safetensors`: the weights that `ens train-members` writes.
        input_range: what pixels of 0 to the largest value of their type are given to the network
            as; `stored` gives them as they are.
        mean: subtracted from each channel, or from all of them, after that.
        std: divided by, after that.
        channel_order: `rgb`, `bgr`, or which channel of the image is each of the network's.
        multiple: rows and columns are padded to a multiple of it; found by trial if left out.
        output: whether the values are logits or probabilities; told by their range if left out.
        normalise: divide probabilities by their sums, however far from 1.
        class_names: of the output's channels in their order; by default the run's.
        key: name of the output that holds the maps, where there are several.
        trained_on: ids of the run's images that it was trained on, or a file of them; an empty list
            for none, None for undeclared.
        size, fit, tile, overlap, tta, tta_merge: as in `members.recipe.Recipe`.

    Examples:
        >>> NetworkDescription(file="a.onnx", input_range="0..1", channel_order="bgr").channel_order
        (2, 1, 0)
    """

    PREDICTION: ClassVar = ("size", "fit", "tile", "overlap", "tta", "tta_merge")
    """Keys that are those of a recipe."""

    file: str
    architecture: str | None = None
    input_range: InputRange | None = None
    mean: tuple[float, ...] | float | None = None
    std: tuple[float, ...] | float | None = None
    channel_order: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...] | None, BeforeValidator(_read_order)
    ] = None
    multiple: Annotated[int, Field(ge=1, le=1024)] | None = None
    output: Output | None = None
    normalise: bool = False
    class_names: Annotated[tuple[str, ...] | None, BeforeValidator(_read_names)] = None
    key: str | None = None
    trained_on: tuple[str, ...] | str | None = None
    size: Sides = None
    fit: Literal["stretch", "pad", "crop"] = "stretch"
    tile: Sides = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    tta: str | None = None
    tta_merge: Literal["mean", "geometric_mean", "max"] = "mean"

    @property
    def path(self) -> Path:
        """The network's file."""
        return Path(self.file)

    def values(self, key: Literal["mean", "std"], channels: int) -> tuple[float, ...] | None:
        """Return one number per channel of the network, None where nothing is said.

        Raises:
            BadSpec: another number of them.
        """
        said = getattr(self, key)
        if said is None:
            return None
        numbers = said if isinstance(said, tuple) else (said,)
        if len(numbers) not in (1, channels):
            raise BadSpec(f"{key} has {len(numbers)} values; expected 1 or {channels}")
        return numbers * channels if len(numbers) == 1 else numbers

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return self.model_dump(mode="json")


def read_network(name: str, mapping: object, folder: Path = Path()) -> NetworkDescription:
    """Check what an experiment says about a network, and add what lies beside its file.

    Args:
        name: of the member.
        mapping: the keys of `NetworkDescription`, or the path of the file alone.
        folder: that relative paths start from.

    Raises:
        BadSpec: an unknown key or an invalid value; names member and key.
    """
    if isinstance(mapping, str):
        mapping = {"file": mapping}
    if not isinstance(mapping, Mapping) or not isinstance(mapping.get("file"), str):
        raise BadSpec(
            f"network {name!r} is {shorten(mapping)}; expected its file, or a mapping with 'file'"
        )
    file = folder.resolve() / mapping["file"]
    said = {**_read_sidecar(file), **_absolute(mapping, folder), "file": str(file)}
    try:
        return NetworkDescription.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "file"
        if first["type"] == "extra_forbidden":
            known = ", ".join(NetworkDescription.model_fields)
            raise BadSpec(f"network {name!r} has no key {shorten(key)}; known: {known}") from None
        reason = first["msg"].removeprefix("Input should be ")
        raise BadSpec(
            f"network {name!r}: {key!r} got {shorten(first['input'])}; expected {reason}"
        ) from None


def read_named_network(text: str) -> tuple[str, NetworkDescription]:
    """Read `NAME=FILE` or `NAME={file: FILE, mean: [...], ...}`.

    Raises:
        BadSpec: it has no name, or cannot be read.
    """
    name, rest = split_name(text)
    if name is None:
        raise BadSpec(f"--network {shorten(text)}; expected NAME=FILE")
    if not rest.startswith("{"):
        return name, read_network(name, rest)
    try:
        return name, read_network(name, parse_yaml(rest))
    except BadSpec as error:
        raise BadSpec(f"--network {shorten(text)}: {error}") from None


def read_named_networks(texts: Sequence[str]) -> dict[str, NetworkDescription]:
    """Read several; see `read_named_network`.

    Raises:
        BadSpec: one that cannot be read, or two of one name.
    """
    named = [read_named_network(text) for text in texts]
    check_distinct("--network", [name for name, _ in named])
    return dict(named)


def _absolute(mapping: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a mapping whose file of ids is absolute."""
    listed = mapping.get("trained_on")
    path = {"trained_on": str(folder.resolve() / listed)} if isinstance(listed, str) else {}
    return {**mapping, **path}


def _read_sidecar(file: Path) -> dict[str, Any]:
    """Return what a file beside a network says about it; JSON is YAML too.

    Raises:
        BadSpec: two of them, or no mapping.
    """
    beside = [file.with_name(file.name + suffix) for suffix in SIDECARS]
    found = [path for path in beside if path.is_file()]
    if len(found) > 1:
        raise BadSpec(f"{found[0]} and {found[1]} both describe {file.name}; remove one")
    if not found:
        return {}
    content = read_yaml(found[0], "the description of a network")
    if not isinstance(content, dict):
        raise BadSpec(f"{found[0]} holds {shorten(content)}; expected keys such as input_range")
    return _absolute(content, found[0].parent)
