"""A frozen candidate as one ONNX file: images in, probabilities and labels out.

Normalisation, networks of all folds, test-time augmentation, pixelwise fusion and steps on maps of
one pixel are in the graph. `onnxruntime` runs it without `ens` and without torch.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ensemble.fitted_json import load_fitted
from ensemble.pipeline.package.manifest import FUSION, Package
from ensemble.torch_fusion import TorchFusion, as_shares, torch_fusion
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.files import atomic_file
from evaluation.core.specs import Spec, parse_spec, split_chain
from members.external_networks.description import NetworkDescription
from members.network import NormalisedNetwork
from members.recipe import Member
from members.train import load_network
from members.tta import with_tta

IMAGES, PROBABILITIES, LABELS = "images", "probabilities", "labels"
"""Names of the graph's input and outputs."""

METADATA = "ens"
"""Key of the metadata that describe the candidate, as JSON."""

EXAMPLE_SIDES = (90, 110)
"""Rows and columns of the images that the graph is traced with."""

OPSET = 20

Step = Callable[[Tensor], Tensor]


class CandidateGraph(nn.Module):
    """A package as one network.

    Args:
        package: the frozen candidate.

    Raises:
        BadSpec: a part that a graph cannot hold.
    """

    def __init__(self, package: Package) -> None:
        super().__init__()
        check_exportable(package)
        self.networks = nn.ModuleDict(
            {
                member.name: nn.ModuleList(
                    _AnySize(
                        load_network(
                            member,
                            folder,
                            channels=package.manifest.channels,
                            classes=len(package.classes),
                        )
                    )
                    for folder in package.models(member)
                )
                for member in package.networks
            }
        )
        self.package = package
        self.fusion = _fusion_of(package)
        self.steps = [_step_of(spec, package) for spec in _chain_of(package)]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities (image, class, row, col) and class indices (image, row, col)."""
        specialists = self.package.specialists
        maps = [
            self._specialists(specialists[name], images)
            if name in specialists
            else self._member(member_named(self.package, name), images)
            for name in self.package.manifest.members
        ]
        fused = self.fusion(torch.stack(maps))
        for step in self.steps:
            fused = step(fused)
        return fused, fused.argmax(dim=1).to(torch.uint8)

    def _member(self, member: Member, images: Tensor) -> Tensor:
        folds = cast("nn.ModuleList", self.networks[member.name])
        maps = [_probabilities(network, member, images) for network in folds]
        return torch.stack(maps).mean(dim=0)

    def _specialists(self, members: Sequence[Member], images: Tensor) -> Tensor:
        """Renormalise the specialists' probabilities; uniform where all say no."""
        by_label = sorted(members, key=lambda member: member.label or 0)
        maps = torch.cat([self._member(member, images) for member in by_label], dim=1)
        empty = maps.sum(dim=1, keepdim=True) <= 0
        return as_shares(torch.where(empty, torch.ones_like(maps), maps))


class _AnySize(nn.Module):
    """A network whose padding depends on the images' size in the graph, not while it is traced."""

    def __init__(self, network: NormalisedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, as `NormalisedNetwork` does."""
        network, (rows, cols) = self.network, images.shape[2:]
        values = (images.float() - network.mean) / network.deviation
        for axis, side in ((2, rows), (3, cols)):
            padded = (side + network.stride - 1) // network.stride * network.stride
            values = values.index_select(axis, torch.arange(padded).clamp(max=side - 1))
        logits: Tensor = network.body(values)[:, :, :rows, :cols]
        return logits


def _probabilities(network: nn.Module, member: Member, images: Tensor) -> Tensor:
    recipe = member.recipe
    predict = with_tta(
        lambda batch: network(batch).float().softmax(dim=1), recipe.tta, recipe.tta_merge
    )
    maps = predict(images)
    return maps if member.label is None else maps[:, 1:]


def member_named(package: Package, name: str) -> Member:
    """Return the network of a member that is no family of specialists."""
    return next(member for member in package.networks if member.name == name)


def check_exportable(package: Package) -> None:
    """Check that a graph can hold every part of a candidate.

    Raises:
        BadSpec: the first part that it cannot hold, by name, and what to do.
    """
    for name, recipe in package.manifest.members.items():
        if isinstance(recipe, NetworkDescription):
            raise BadSpec(
                f"member {name!r} is a network from elsewhere ({recipe.path.name}), which is not"
                " traced again; freeze without --format onnx"
            )
        if recipe.size is not None or recipe.tile is not None:
            option = "size" if recipe.size is not None else "tile"
            raise BadSpec(
                f"member {name!r} resizes or cuts its images ({option}), which a graph cannot hold;"
                " freeze without --format onnx"
            )
        if recipe.tta is not None and any(
            part.strip().partition("(")[0] not in GRAPH_VIEWS for part in recipe.tta.split("+")
        ):
            raise BadSpec(
                f"member {name!r} predicts by {recipe.tta}; a graph can hold"
                f" {' and '.join(GRAPH_VIEWS)}"
            )
    _fusion_of(package)
    for spec in _chain_of(package):
        _step_of(spec, package)


GRAPH_VIEWS = ("flips", "turns")
GRAPH_STEPS = ("suppress_background", "class_bias")


def _fusion_of(package: Package) -> TorchFusion:
    if package.manifest.strategy is None:
        return lambda maps: maps[0]
    fusion = load_fitted(package.folder / FUSION).fusion
    try:
        return torch_fusion(fusion)
    except BadSpec as error:
        raise BadSpec(f"fusion {package.manifest.strategy}: {error}") from None


def _chain_of(package: Package) -> list[Spec]:
    return [parse_spec(part) for part in split_chain(package.manifest.chain)]


def _step_of(spec: Spec, package: Package) -> Step:
    """Return a step as torch operations.

    Raises:
        BadSpec: a step that a graph cannot hold.
    """
    classes = package.classes
    if spec.name == "suppress_background":
        ignore = spec.options.get("ignore", classes.ignore)
        others = torch.ones(len(classes), 1, 1)
        others[ignore] = 0
        return lambda maps: _suppress(maps, others)
    if spec.name == "class_bias":
        bias = torch.tensor([float(value) for value in spec.options["bias"]])
        factors = (bias - bias.max()).exp()[:, None, None]
        floor = float(spec.options.get("floor", 2.0**-25))
        return lambda maps: as_shares(maps.clamp_min(floor) * factors)
    raise _not_in_graph(spec)


def check_steps(chain: str) -> None:
    """Check that a graph can hold a chain's steps, before anything is fitted or packed.

    Raises:
        BadSpec: the first that it cannot hold.
    """
    for spec in map(parse_spec, split_chain(chain)):
        if spec.name not in GRAPH_STEPS:
            raise _not_in_graph(spec)


def _not_in_graph(spec: Spec) -> BadSpec:
    return BadSpec(
        f"step {spec.name} cannot be part of a graph, which holds {' and '.join(GRAPH_STEPS)};"
        " freeze a candidate without it, or without --format onnx for `ens apply`"
    )


def _suppress(maps: Tensor, others: Tensor) -> Tensor:
    scores = maps * others
    empty = scores.sum(dim=1, keepdim=True) <= 0
    return as_shares(torch.where(empty, others.expand_as(maps), scores))


def write_onnx(package: Package, path: Path) -> dict[str, Any]:
    """Write a package as one ONNX file.

    Images may have any number of rows and columns.

    Args:
        package: the frozen candidate.
        path: of the file, which is replaced whole or not at all.

    Returns:
        What its metadata say: classes, type of the images, provenance.

    Raises:
        BadSpec: a part that a graph cannot hold, or the extra `onnx` is not installed.
        BadRun: weights that cannot be read, or a network that cannot be traced.
    """
    check_installed()
    graph = CandidateGraph(package).eval()
    description = describe(package)
    dtype = torch.uint8 if package.manifest.image_type == "uint8" else torch.float32
    example = torch.zeros(2, package.manifest.channels, *EXAMPLE_SIDES, dtype=dtype)
    batch, rows, cols = (torch.export.Dim(name, min=1) for name in ("images", "rows", "cols"))
    shapes = {0: batch, 2: rows, 3: cols}
    with warnings.catch_warnings(), _quiet("torch.onnx"), torch.inference_mode():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                dynamic_shapes=(shapes,),
                input_names=[IMAGES],
                output_names=[PROBABILITIES, LABELS],
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BadRun(
                f"{package.manifest.candidate} cannot be written as a graph ({reason}); freeze it"
                " without --format onnx"
            ) from None
    assert program is not None  # with dynamo=True
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(description)
    with atomic_file(path) as partial:
        partial.write_bytes(model.SerializeToString())
    return description


def describe(package: Package) -> dict[str, Any]:
    """Return what a user of the file must know, as JSON values."""
    manifest = package.manifest
    return {
        "candidate": manifest.candidate,
        "classes": manifest.classes,
        "channels": manifest.channels,
        "image_type": manifest.image_type,
        "members": list(manifest.members),
        "strategy": manifest.strategy,
        "chain": manifest.chain,
        "files": manifest.files,
    }


def check_installed(*packages: str) -> None:
    """Check that packages of the extra `onnx` are there, by default all.

    Raises:
        BadSpec: one is not.
    """
    for package in packages or ("onnx", "onnxruntime", "onnxscript"):
        if find_spec(package) is None:
            raise BadSpec(
                f"ONNX needs {package}; run `pip install -e '.[onnx]'` in the source folder"
            )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger silent below errors."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
