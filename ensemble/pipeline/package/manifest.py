"""What a package holds, and whether it is whole.

The page that a package brings along.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluation.core.array_headers import DOCUMENT_BYTES
from evaluation.core.classes import Classes
from evaluation.core.errors import BadRun
from evaluation.core.files import check_no_external_links, read_json
from evaluation.core.provenance import digest
from members.recipe import (
    Member,
    Recipe,
    check_name,
    specialist_families,
)
from members.store_metadata import StoreDtype
from members.train import WEIGHTS

CONTENTS, README, FUSION = "package.json", "README.md", "fusion"
Side = Annotated[int, Field(ge=1)]


class Contents(BaseModel):
    """The document `package.json`.

    Args:
        format: of the package.
        candidate: what was frozen.
        classes: names, colours and the ignored class.
        channels: of the images.
        shape: rows and columns of the images, in pixels.
        store_dtype: the type that maps are rounded to between the stages, as in the run.
        folds: how many models each member has.
        members: the recipe of each, in the order in which they are fused.
        strategy: that fuses them; None where the one member's maps are taken as they are.
        chain: of the steps, fitted.
        files: SHA-256 of every other file, by its path in the package.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    candidate: str
    classes: dict[str, Any]
    channels: Literal[1, 3]
    shape: tuple[Side, Side]
    store_dtype: StoreDtype
    folds: Annotated[int, Field(ge=1, le=100)]
    members: dict[str, Recipe]
    strategy: str | None
    chain: str
    files: dict[str, str]


@dataclass(frozen=True)
class Package:
    """A package on disk.

    Args:
        folder: where it lies.
        contents: what it says of itself.
    """

    folder: Path
    contents: Contents

    @property
    def classes(self) -> Classes:
        """What the labels mean."""
        return Classes.from_document(self.contents.classes)

    @property
    def networks(self) -> list[Member]:
        """Every network, specialists one by one."""
        recipes = self.contents.members.items()
        return [m for name, recipe in recipes for m in Member.expand(name, recipe, self.classes)]

    @property
    def specialists(self) -> dict[str, list[Member]]:
        """The networks of each family."""
        return specialist_families(self.networks)

    def models(self, network: Member) -> list[Path]:
        """Return the folder of each fold's weights."""
        return [self.folder / model_folder(network.name, k) for k in range(self.contents.folds)]

    def expected(self) -> list[str]:
        """List the files that must be there, as paths in the package."""
        weights = [f"{model_folder(m.name, k)}/{WEIGHTS}" for m, k in self._models()]
        fusion = [f"{FUSION}/{name}" for name in ("fitted.json", "fitted.npz")]
        return [*weights, *(fusion if self.contents.strategy else []), README]

    def _models(self) -> list[tuple[Member, int]]:
        return [(m, k) for m in self.networks for k in range(self.contents.folds)]


def model_folder(member: str, fold: int) -> str:
    """Return where a model's weights lie in a package."""
    return f"weights/{member}/fold-{fold}"


def read_package(folder: Path) -> Package:
    """Open a package and look that each of its files is what was frozen.

    Raises:
        BadRun: no package, of another format, or a file that is missing or was changed.
        EnsError: a recipe or class list that cannot be.
    """
    if not (folder / CONTENTS).is_file():
        raise BadRun(f"{folder} holds no {CONTENTS}; expected a folder that `ens freeze` wrote")
    try:
        document = read_json(folder / CONTENTS, DOCUMENT_BYTES)
        package = Package(folder, Contents.model_validate(document))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise BadRun(f"{folder / CONTENTS}: {key!r}: {first['msg']}; freeze it again") from None
    check_no_external_links(folder)
    for name in package.contents.members:
        check_name(name, "member")
    for path in package.expected():
        file = folder / path
        if not file.is_file():
            raise BadRun(f"{folder} lacks {path}; copy the package again")
        if digest(file) != package.contents.files.get(path):
            raise BadRun(f"{file} is not what was frozen (SHA-256); copy the package again")
    return package


TEXT = """# {candidate}

A frozen segmentation candidate: labels new images just as the run did that it was made in.
With `ens` installed:

    ens apply THIS_FOLDER IMAGES --out LABELS

IMAGES: a folder of `.png` or `.jpg` files, a `.npy` or a `.npz`;
{rows} x {cols} pixels, {channels} channel(s) of 8 bits.
LABELS: a `.npy` (image, row, col), or a folder that gets one PNG an image.

| label | class | colour |
|---|---|---|
{classes}

Members, each the mean of {folds} models: {members}.
Fused by: {strategy}. Post-processed by: {chain}.

`package.json` says all of it for programs, with the SHA-256 of every file.
"""


def readme(contents: Contents) -> str:
    """Return the page, as Markdown."""
    known = contents.classes
    rows = enumerate(zip(known["names"], known["colours"], strict=True))
    ignored = known["ignore"]
    return TEXT.format(
        candidate=contents.candidate,
        rows=contents.shape[0],
        cols=contents.shape[1],
        channels=contents.channels,
        classes="\n".join(
            f"| {label} | {name}{' (not scored)' if label == ignored else ''} | {colour} |"
            for label, (name, colour) in rows
        ),
        folds=contents.folds,
        members=", ".join(f"{name} (`{r.architecture}`)" for name, r in contents.members.items()),
        strategy=f"`{contents.strategy}`" if contents.strategy else "nothing, there is one member",
        chain=f"`{contents.chain}`" if contents.chain else "the plain argmax",
    )
