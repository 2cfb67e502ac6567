"""Losses by name, and weighted sums of them.

A factory takes what the training pixels look like (`frequencies`, `ignore`) and gives a module over
logits (picture, class, row, col) and truth (picture, row, col), one number for the batch.
"""

import torch
from torch import Tensor, nn

from evaluation.ground.arrays import Shares
from evaluation.ground.specs import Table, parse_sum

LOSSES = Table(
    "loss",
    {
        "cross_entropy": "members.losses.cross_entropy:cross_entropy",
        "dice": "members.losses.dice:dice",
        "focal": "members.losses.focal:focal",
    },
)


class WeightedSum(nn.Module):
    """Terms added up by weight."""

    def __init__(self, terms: list[tuple[float, nn.Module]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.terms = nn.ModuleList(term for _, term in terms)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the sum of the weighted terms."""
        values = [w * term(logits, truth) for w, term in zip(self.weights, self.terms, strict=True)]
        return torch.stack(values).sum()


def build_loss(text: str, *, frequencies: Shares, ignore: int | None) -> nn.Module:
    """Build a loss from a spec or a sum such as `0.5*dice + 0.5*focal(gamma=2)`.

    Args:
        text: the spec.
        frequencies: share of each class in the training pixels.
        ignore: the class whose pixels are left out, or None.
    """
    terms = [
        (weight, LOSSES.build(spec, frequencies=frequencies, ignore=ignore))
        for weight, spec in parse_sum(text)
    ]
    return WeightedSum(terms)


def check_loss(text: str) -> None:
    """Refuse a loss spec that `build_loss` would refuse, without building anything."""
    for _, spec in parse_sum(text):
        LOSSES.check(spec, "frequencies", "ignore")
