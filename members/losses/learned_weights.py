"""Weights of several losses, learnt with the network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class LearnedWeights(nn.Module):
    """Sum of exp(-s) loss + s / 2 over the terms, with one s a term learnt.

    s is the logarithm of a term's variance sigma^2: this is loss / sigma^2 + log(sigma), the form
    for classification. A loss below 1/2 ends up with a weight above 1, and the sum may fall below
    0. For losses that are no likelihoods, such as Dice, it is a rule of thumb.

    Args:
        terms: losses that are never negative.

    Source: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for
        Scene Geometry and Semantics", CVPR 2018.
    """

    def __init__(self, terms: Iterable[nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.log_variances = nn.Parameter(torch.zeros(len(self.terms)))

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the sum; 0 where no pixel counts."""
        losses = torch.stack([term(logits, truth) for term in self.terms])
        weighed = torch.exp(-self.log_variances) * losses + self.log_variances / 2
        # A loss of exactly 0 has seen no pixel, and would have its weight grow without end.
        return torch.where(losses == 0, losses, weighed).sum()
