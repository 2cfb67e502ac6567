"""Augmented copies made once, before training, instead of anew for every batch."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from evaluation.ground.errors import BadSpec
from evaluation.ground.specs import Spec
from members.augmentations import Augment
from members.augmentations.kinds import Ground, OffLine
from members.data.outliers import identical


class Copies(OffLine):
    """Copies of every picture, each through the same augmentations with other draws."""

    def __init__(self, augment: Augment, times: int) -> None:
        self._augment, self._times = augment, times

    def draw(
        self, pictures: Tensor, masks: Tensor, ground: Ground, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the copies without those that equal a picture, or an earlier copy."""
        drawn = [(pictures, masks)]
        drawn += [self._round(pictures, masks, ground, rng) for _ in range(self._times - 1)]
        all_pictures, all_masks = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        fresh = torch.ones(len(all_pictures), dtype=torch.bool)
        for places in identical(all_pictures.cpu().numpy()):
            fresh[places[1:]] = False
        fresh[: len(pictures)] = False
        fresh = fresh.to(pictures.device)
        return all_pictures[fresh], all_masks[fresh]

    def _round(
        self, pictures: Tensor, masks: Tensor, ground: Ground, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        order = torch.from_numpy(rng.permutation(len(pictures))).to(pictures.device)
        batches = torch.split(order, ground.batch)
        parts = [self._augment(pictures[places], masks[places], rng) for places in batches]
        moved, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        return moved, labels


def offline(
    *,
    by: Annotated[list[str | Spec], Field(min_length=1)],
    times: Annotated[int, Field(ge=2, le=100)] = 2,
) -> Copies:
    """Make the training set `times` as large by augmented copies, made once before training.

    Copies that come out equal to their origin or to another copy are dropped, so the set may end
    smaller. For an augmentation of every batch anew, which costs no memory, name it by itself.

    Args:
        by: augmentations, in order, such as `[flips, elastic]`.
        times: pictures and copies together, as a multiple of the pictures.
    """
    augment = Augment(by)
    if not augment.only_on_line:
        raise BadSpec("option 'by' got one that works off line itself; name it beside `offline`")
    return Copies(augment, times)
