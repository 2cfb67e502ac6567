"""Losses by name, weighted sums of them, and sums whose weights are learnt.

A factory takes what the training pixels look like (`frequencies`, `ignore`) and gives a module over
logits (image, class, row, col) and target (image, row, col), one number for the batch.

Weights of several losses, learnt with the network.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from evaluation.core.errors import BadSpec
from evaluation.core.specs import Spec, Table, parse_sum
from evaluation.core.types import Shares


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

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum; 0 where no pixel counts."""
        losses = torch.stack([term(logits, target) for term in self.terms])
        weighed = torch.exp(-self.log_variances) * losses + self.log_variances / 2
        # A loss of exactly 0 has seen no pixel, and would have its weight grow without end.
        return torch.where(losses == 0, losses, weighed).sum()


LOSSES = Table(
    "loss",
    {
        "boundary": "members.losses.boundary:boundary",
        "cross_entropy": "members.losses.cross_entropy:cross_entropy",
        "dice": "members.losses.overlap:dice",
        "focal": "members.losses.cross_entropy:focal",
        "lovasz": "members.losses.overlap:lovasz",
        "ssim": "members.losses.boundary:ssim",
    },
)
LEARNED = "learned_weights"


class WeightedSum(nn.Module):
    """Terms added up by weight."""

    def __init__(self, terms: list[tuple[float, nn.Module]]) -> None:
        super().__init__()
        self.weights = [weight for weight, _ in terms]
        self.terms = nn.ModuleList(term for _, term in terms)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum of the weighted terms."""
        values = [
            w * term(logits, target) for w, term in zip(self.weights, self.terms, strict=True)
        ]
        return torch.stack(values).sum()


def build_loss(text: str, *, frequencies: Shares, ignore: int | None) -> nn.Module:
    """Build a loss from a spec or a sum such as `0.5*dice + 0.5*focal(gamma=2)`.

    `learned_weights(dice, focal(gamma=2))` is a term too: a sum whose weights are learnt.

    Args:
        text: the spec.
        frequencies: share of each class in the training pixels.
        ignore: the class whose pixels are left out, or None.

    Raises:
        BadSpec: unknown name or option, a value that its option does not take, or a bad sum.
    """

    def built(spec: Spec) -> nn.Module:
        if spec.name == LEARNED:
            return LearnedWeights([built(term) for term in _learned_terms(spec)])
        module: nn.Module = LOSSES.build(spec, frequencies=frequencies, ignore=ignore)
        return module

    return WeightedSum([(weight, built(spec)) for weight, spec in parse_sum(text)])


def check_loss(text: str) -> None:
    """Refuse a loss spec that `build_loss` would refuse, without building anything."""
    for _, spec in parse_sum(text):
        for term in _learned_terms(spec) if spec.name == LEARNED else [spec]:
            LOSSES.check(term, "frequencies", "ignore")


def _learned_terms(spec: Spec) -> list[Spec]:
    """Return the losses inside `learned_weights(...)`."""
    example = f"write {LEARNED}(dice, focal(gamma=2))"
    if spec.options:
        raise BadSpec(f"{spec} has no option {next(iter(spec.options))!r}; {example}")
    if len(spec.arguments) < 2:
        raise BadSpec(
            f"{spec} weighs too few losses ({len(spec.arguments)}); expected 2 or more, {example}"
        )
    terms = [Spec(term) if isinstance(term, str) else term for term in spec.arguments]
    for term in terms:
        if not isinstance(term, Spec) or term.name == LEARNED:
            raise BadSpec(f"{spec} cannot weigh {term}; {example}")
    return terms
