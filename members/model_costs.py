"""What can be trained, and what it costs."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from members.architectures import ARCHITECTURES
from members.network import NormalisedNetwork

FLOPS_A_MULTIPLY_ADD = 2


@dataclass(frozen=True)
class ModelCost:
    """What an architecture costs at its defaults.

    Args:
        name: of the architecture.
        parameters: how many numbers are learnt.
        multiply_adds: of one image, once through the network.
        source: what it is, from its docstring.
    """

    name: str
    parameters: int
    multiply_adds: int
    source: str


def zoo(*, channels: int = 1, classes: int = 5, rows: int = 64, cols: int = 128) -> list[ModelCost]:
    """Return the cost of every architecture for images of one size.

    Args:
        channels: of the images.
        classes: how many logits a pixel.
        rows: of the images, in pixels.
        cols: of the images, in pixels.
    """
    return [_cost(name, channels, classes, rows, cols) for name in ARCHITECTURES]


def _cost(name: str, channels: int, classes: int, rows: int, cols: int) -> ModelCost:
    # Shapes are all that counting needs: no memory is taken, nothing is computed.
    with torch.device("meta"):
        network = NormalisedNetwork(name, channels=channels, classes=classes).eval()
        image = torch.zeros(1, channels, rows, cols)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(image)
    flops = counter.get_total_flops()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    about = (ARCHITECTURES.factory(name).__doc__ or "").partition("\n")[0]
    return ModelCost(name, parameters, flops // FLOPS_A_MULTIPLY_ADD, about)
