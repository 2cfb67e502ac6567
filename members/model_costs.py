"""Parameters and multiply-adds of the architectures."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from members.architectures import ARCHITECTURES
from members.network import NormalisedNetwork

FLOPS_PER_MULTIPLY_ADD = 2


@dataclass(frozen=True)
class ModelCost:
    """The cost of an architecture with default options.

    Args:
        name: of the architecture.
        parameters: number of trained values.
        multiply_adds: of a forward pass of one image.
        source: first line of its docstring.
    """

    name: str
    parameters: int
    multiply_adds: int
    source: str


def architecture_costs(
    *, channels: int = 1, classes: int = 5, rows: int = 64, cols: int = 128
) -> list[ModelCost]:
    """Return the cost of every architecture for images of the given size."""
    return [_cost(name, channels, classes, rows, cols) for name in ARCHITECTURES]


def _cost(name: str, channels: int, classes: int, rows: int, cols: int) -> ModelCost:
    # The meta device knows shapes alone: nothing is allocated or computed.
    with torch.device("meta"):
        network = NormalisedNetwork(name, channels=channels, classes=classes).eval()
        image = torch.zeros(1, channels, rows, cols)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image)
    flops = counter.get_total_flops()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    source = (ARCHITECTURES.factory(name).__doc__ or "").partition("\n")[0]
    return ModelCost(name, parameters, flops // FLOPS_PER_MULTIPLY_ADD, source)
