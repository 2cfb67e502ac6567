"""Losses by name, and weighted sums of them.

A factory takes the class frequencies of the training pixels and the ignored class (`frequencies`,
`ignore`) and returns a module that maps logits (image, class, row, col) and target
(image, row, col) to one number per batch.
"""

from typing import Any

from evaluation.core.errors import BadSpec
from evaluation.core.specs import Spec, Table, parse_sum
from evaluation.core.types import Shares

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


def build_loss(text: str, *, frequencies: Shares, ignore: int | None) -> Any:
    """Build a loss (`nn.Module`) from a spec or a sum such as `0.5*dice + 0.5*focal(gamma=2)`.

    `learned_weights(dice, focal(gamma=2))` may be a term: a sum whose weights are learned.

    Args:
        text: the spec.
        ignore: the class whose pixels are left out, or None.

    Raises:
        BadSpec: unknown name or option, an invalid option value, or not a sum of specs.

    Examples:
        >>> import numpy as np, torch
        >>> loss = build_loss("2*cross_entropy", frequencies=np.full(4, 0.25), ignore=None)
        >>> loss(torch.zeros(1, 4, 2, 2), torch.ones(1, 2, 2).byte())  # 2 log 4
        tensor(2.7726)
    """
    from members.losses.weighted_sum import LearnedWeights, WeightedSum  # they need torch

    def built(spec: Spec) -> Any:
        if spec.name == LEARNED:
            return LearnedWeights([built(term) for term in _learned_terms(spec)])
        return LOSSES.build(spec, frequencies=frequencies, ignore=ignore)

    return WeightedSum([(weight, built(spec)) for weight, spec in parse_sum(text)])


def check_loss(text: str) -> None:
    """Check that `build_loss` accepts a spec, without building anything."""
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
            f"{spec} has too few losses ({len(spec.arguments)}); expected 2 or more, {example}"
        )
    terms = [Spec(term) if isinstance(term, str) else term for term in spec.arguments]
    for term in terms:
        if not isinstance(term, Spec) or term.name == LEARNED:
            raise BadSpec(f"{spec} cannot contain {term}; {example}")
    return terms
