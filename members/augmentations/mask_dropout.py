"""Pictures without one of their labels."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadSpec
from members.augmentations.chance import drawn
from members.augmentations.kinds import Augmentation


def mask_dropout(
    *,
    label: Annotated[int, Field(ge=0, lt=UNLABELLED)] | None = None,
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Augmentation:
    """Erase one label, all its pixels black and unlabelled, so that the others must do without it.

    The only label of a picture is never erased.

    Args:
        label: class index of the one that is erased; None draws one of each picture's.
        probability: share of the pictures that lose a label.

    Raises:
        BadSpec: a fixed label would be erased from every picture.
    """
    if label is not None and probability == 1:
        raise BadSpec(f"would leave no picture with class {label}; lower `probability`")

    def augmentation(
        pictures: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        present = torch.zeros(len(masks), UNLABELLED + 1, dtype=torch.bool, device=masks.device)
        present = present.scatter_(1, masks.flatten(1).long(), True)[:, :UNLABELLED]
        chances = torch.from_numpy(rng.random((len(masks), UNLABELLED))).to(masks.device)
        erased = (chances * present).argmax(dim=1)
        if label is not None:
            erased = torch.full_like(erased, label)
        chosen = drawn(probability, pictures, rng) & (present.sum(dim=1) > 1)
        gone = (masks == erased[:, None, None]) & chosen[:, None, None]
        return pictures.masked_fill(gone[:, None], 0), masks.masked_fill(gone, UNLABELLED)

    return augmentation
