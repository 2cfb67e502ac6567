"""The bridge to the library that moves single pictures."""

import albumentations
import numpy as np
import torch
from torch import Tensor

from members.augmentations.kinds import Augmentation


def each_picture(transform: albumentations.BasicTransform) -> Augmentation:
    """Make an augmentation of a transform that takes one picture at a time, channels last."""
    compose = albumentations.Compose([transform], seed=0)

    def augmentation(
        pictures: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        compose.set_random_seed(int(rng.integers(2**31)))
        last = np.ascontiguousarray(pictures.cpu().numpy().transpose(0, 2, 3, 1))
        pairs = [
            compose(image=picture, mask=mask)
            for picture, mask in zip(last, masks.cpu().numpy(), strict=True)
        ]
        moved = np.stack([pair["image"] for pair in pairs])
        # The library drops the channel of a grey picture in some transforms.
        moved = moved.reshape(last.shape).transpose(0, 3, 1, 2)
        labels = np.stack([pair["mask"] for pair in pairs])
        return tuple(
            torch.from_numpy(np.ascontiguousarray(array)).to(pictures.device)
            for array in (moved, labels)
        )  # type: ignore[return-value]

    return augmentation
