"""Weights from anybody: held against the network they are for before memory is taken."""

import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from evaluation.ground.errors import BadRun, BadSpec
from evaluation.ground.specs import Spec
from members.network import Network

HEADER_BYTES = 1 << 22
"""Some forty thousand tensors; the file's format itself allows 100 MB."""

Weights = Mapping[str, Tensor]


def network_with(path: Path, architecture: str | Spec, *, channels: int, classes: int) -> Network:
    """Build a network with the weights in a file.

    The network is laid out without memory first, since its spec comes from the same stranger.

    Args:
        path: of the `.safetensors`.
        architecture: the spec.
        channels: of the pictures.
        classes: how many logits a pixel.

    Raises:
        BadRun: damaged, of another network, or not finite.
    """
    try:
        weights = _read(path)
        with torch.device("meta"):
            planned = Network(architecture, channels=channels, classes=classes).state_dict()
        _check(weights, planned)
        network = Network(architecture, channels=channels, classes=classes)
        network.load_state_dict(weights)
    except (OSError, RuntimeError, TypeError, ValueError, SafetensorError, BadSpec) as error:
        reason = str(error).splitlines()[0]
        raise BadRun(f"{path} cannot be used ({reason}); remove it and train again") from None
    return network


def _read(path: Path) -> Weights:
    with path.open("rb") as file:
        start = file.read(8)
    if len(start) < 8:
        raise ValueError("no header")
    (length,) = struct.unpack("<Q", start)
    if length > HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes; expected {HEADER_BYTES} at most")
    return load_file(path)


def _check(weights: Weights, planned: Weights) -> None:
    lacking, unknown = (sorted(a.keys() - b) for a, b in ((planned, weights), (weights, planned)))
    if lacking or unknown:
        found = f"lacks {lacking[0]!r}" if lacking else f"holds {unknown[0]!r}, which it has not"
        raise ValueError(f"of another network: {found}")
    for name, values in weights.items():
        expected = planned[name]
        if (values.shape, values.dtype) != (expected.shape, expected.dtype):
            raise ValueError(
                f"of another network: {name!r} is {values.dtype} of shape {tuple(values.shape)},"
                f" expected {expected.dtype} of shape {tuple(expected.shape)}"
            )
        if not torch.isfinite(values).all():
            raise ValueError(f"{name!r} holds NaN or infinite weights")
