"""Mirrored pictures."""

import albumentations


def flips(*, horizontal: bool = True, vertical: bool = False) -> albumentations.Compose:
    """Mirror half of the pictures, in each direction that is chosen.

    Args:
        horizontal: left and right change sides.
        vertical: up and down change sides; off, since terrain lies below the sky.
    """
    chosen = []
    if horizontal:
        chosen.append(albumentations.HorizontalFlip(p=0.5))
    if vertical:
        chosen.append(albumentations.VerticalFlip(p=0.5))
    return albumentations.Compose(chosen)
