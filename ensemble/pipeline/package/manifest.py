"""The manifest of a package (`package.json`), its checks, and the README that goes with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluation.core.array_headers import DOCUMENT_BYTES
from evaluation.core.classes import Classes
from evaluation.core.errors import BadRun
from evaluation.core.files import check_no_external_links, read_json
from evaluation.core.provenance import digest
from members.codecs import StoreDtype
from members.external_networks.description import NetworkDescription
from members.external_networks.network import READING
from members.recipe import Member, Recipe, check_name, specialist_families
from members.train import WEIGHTS

MANIFEST, README, FUSION = "package.json", "README.md", "fusion"
Side = Annotated[int, Field(ge=1)]


class Manifest(BaseModel):
    """The content of `package.json`.

    Args:
        format: version of the package format.
        candidate: name of the candidate in its run.
        classes: names, colours and the ignored class.
        channels: of the images.
        image_type: of the images' values.
        shape: rows and columns of the first training image, in pixels; others may differ.
        store_dtype: type that maps are rounded to between the stages, as in the run.
        folds: number of models per member; a network from elsewhere is one.
        members: recipe of each, or the description of a network from elsewhere, in the order in
            which they are fused.
        strategy: fusion of the members; None for a single member.
        chain: post-processing steps, fitted.
        files: SHA-256 of every other file, by its path in the package.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    candidate: str
    classes: dict[str, Any]
    channels: Annotated[int, Field(ge=1)]
    image_type: Literal["uint8", "uint16", "float32"] = "uint8"
    shape: tuple[Side, Side]
    store_dtype: StoreDtype
    folds: Annotated[int, Field(ge=1, le=100)]
    members: dict[str, NetworkDescription | Recipe]
    strategy: str | None
    chain: str
    files: dict[str, str]


@dataclass(frozen=True)
class Package:
    """A package on disk: its folder, and the manifest in it."""

    folder: Path
    manifest: Manifest

    @property
    def classes(self) -> Classes:
        """Names and colours of the labels."""
        return Classes.from_dict(self.manifest.classes)

    @property
    def candidate(self) -> str:
        """Name of the candidate in its run."""
        return self.manifest.candidate

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.manifest.channels

    @property
    def image_type(self) -> str:
        """Type of the images' values."""
        return self.manifest.image_type

    @property
    def networks(self) -> list[Member]:
        """All networks; specialists one by one."""
        networks: list[Member] = []
        for name, member in self.manifest.members.items():
            if isinstance(member, NetworkDescription):
                networks.append(Member.external(name, member))
            else:
                networks += Member.expand(name, member, self.classes)
        return networks

    @property
    def specialists(self) -> dict[str, list[Member]]:
        """The networks of each one-vs-rest member."""
        return specialist_families(self.networks)

    def models(self, network: Member) -> list[Path]:
        """Return the folder of each fold's weights, or of the one network from elsewhere."""
        if network.network is not None:
            return [self.folder / network_folder(network.name)]
        return [self.folder / model_folder(network.name, k) for k in range(self.manifest.folds)]

    def expected_files(self) -> list[str]:
        """Return the files that must exist besides the manifest, as paths in the package."""
        weights = [
            f"{model_folder(network.name, fold)}/{WEIGHTS}"
            for network in self.networks
            if network.network is None
            for fold in range(self.manifest.folds)
        ]
        for network in self.networks:
            if network.network is not None:
                folder = network_folder(network.name)
                others = [file for file in self.manifest.files if file.startswith(f"{folder}/")]
                weights += dict.fromkeys([f"{folder}/{READING}", *others])
        fusion = [f"{FUSION}/{name}" for name in ("fitted.json", "fitted.npz")]
        return [*weights, *(fusion if self.manifest.strategy else []), README]


def model_folder(member: str, fold: int) -> str:
    """Return the folder of a model's weights in a package."""
    return f"weights/{member}/fold-{fold}"


def network_folder(member: str) -> str:
    """Return the folder of a network from elsewhere in a package."""
    return f"networks/{member}"


def read_package(folder: Path) -> Package:
    """Open a package, and check that each of its files is what was frozen.

    Raises:
        BadRun: no package, another format, or a file that is missing or was changed.
        EnsError: an invalid recipe or list of classes.
    """
    if not (folder / MANIFEST).is_file():
        raise BadRun(f"{folder} holds no {MANIFEST}; expected a folder that `ens freeze` wrote")
    try:
        document = read_json(folder / MANIFEST, DOCUMENT_BYTES)
        package = Package(folder, Manifest.model_validate(document))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise BadRun(f"{folder / MANIFEST}: {key!r}: {first['msg']}; freeze it again") from None
    check_no_external_links(folder)
    for name in package.manifest.members:
        check_name(name, "member")
    for path in package.expected_files():
        file = folder / path
        if not file.is_file():
            raise BadRun(f"{folder} lacks {path}; copy the package again")
        if digest(file) != package.manifest.files.get(path):
            raise BadRun(f"{file} is not what was frozen (SHA-256); copy the package again")
    return package


README_TEMPLATE = """# {candidate}

A frozen segmentation candidate. It labels new images exactly as the run that it comes from.
With `ens` installed:

    ens apply THIS_FOLDER IMAGES --out LABELS

IMAGES: a folder of images (`.png`, `.jpg`, `.tif`, ...), a `.npy` or a `.npz`; each image has
{channels} channel(s) of 8 bits, in training {rows} x {cols} pixels.
LABELS: a `.npy` file, (image, row, col), or a new folder, which gets one PNG per image. Both hold
the values of this table, those of the training masks.

| value | class | colour |
|---|---|---|
{classes}

Members, each the mean of {folds} models, or one network from elsewhere: {members}.
Fusion: {strategy}. Post-processing: {chain}.

`package.json` holds the same in machine-readable form, with the SHA-256 of every file.
"""


def readme(manifest: Manifest) -> str:
    """Return the README of a package, as Markdown."""
    classes = Classes.from_dict(manifest.classes)
    rows = [
        f"| {value} | {name}{'' if label in classes.scored else ' (not scored)'} | {colour} |"
        for label, (value, name, colour) in enumerate(
            zip(classes.values, classes.names, classes.colours, strict=True)
        )
    ]
    return README_TEMPLATE.format(
        candidate=manifest.candidate,
        rows=manifest.shape[0],
        cols=manifest.shape[1],
        channels=manifest.channels,
        classes="\n".join(rows),
        folds=manifest.folds,
        members=", ".join(f"{name} (`{_kind(m)}`)" for name, m in manifest.members.items()),
        strategy=f"`{manifest.strategy}`" if manifest.strategy else "none, there is one member",
        chain=f"`{manifest.chain}`" if manifest.chain else "none, labels are the plain argmax",
    )


def _kind(member: NetworkDescription | Recipe) -> str:
    """Return a member's architecture, or the file of a network from elsewhere."""
    return member.architecture if isinstance(member, Recipe) else member.path.name
