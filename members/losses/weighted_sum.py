"""Sums of losses, with given weights or with weights learned along with the network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class WeightedSum(nn.Module):
    """Sum of (weight, loss) terms."""

    def __init__(self, terms: list[tuple[float, nn.Module]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.terms = nn.ModuleList(term for _, term in terms)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted sum."""
        values = [
            w * term(logits, target) for w, term in zip(self.weights, self.terms, strict=True)
        ]
        return torch.stack(values).sum()


class LearnedWeights(nn.Module):
    """Sum of exp(-s) loss + s / 2 over the terms, with one learned s per term.

    s is the logarithm of a term's variance sigma^2: this is loss / sigma^2 + log(sigma), the form
    for classification. A loss below 1/2 ends up with a weight above 1, and the sum may fall below
    0. For losses that are no likelihoods, such as Dice, it is a rule of thumb.

    Args:
        terms: losses that are never negative.

    References:
        Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics", CVPR 2018.
    """

    def __init__(self, terms: Iterable[nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.log_variances = nn.Parameter(torch.zeros(len(self.terms)))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum; 0 where no pixel counts."""
        losses = torch.stack([term(logits, target) for term in self.terms])
        weighted = torch.exp(-self.log_variances) * losses + self.log_variances / 2
        # A loss of exactly 0 means no pixel counted: its weight would otherwise grow without bound.
        return torch.where(losses == 0, losses, weighted).sum()
