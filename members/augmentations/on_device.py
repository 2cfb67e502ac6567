"""Augmentations of whole batches in torch, for images that lie on a GPU.

They do what Albumentations does on the CPU image by image (`geometric`, `photometric`), with other
draws. Random numbers come from the given generator, large ones from a generator on the device that
is seeded by it.
"""

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from evaluation.core.types import Array
from members.augmentations.augment import Augmentation, Pair, bernoulli_mask
from members.augmentations.sampling import sample, source_grid
from members.devices import send


def by_device(on_cpu: Augmentation, on_gpu: Augmentation) -> Augmentation:
    """Return an augmentation that is done where the images are."""

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        return (on_gpu if images.is_cuda else on_cpu)(images, masks, rng)

    return augment


def affine(shift: float, zoom: float, degrees: float, probability: float) -> Augmentation:
    """Shift by whole pixels, zoom and rotate about the centre.

    Args:
        shift: maximum, as a fraction of the height and of the width.
        zoom: factors lie between 1 - zoom and 1 + zoom.
        degrees: maximum, in either direction.
        probability: fraction of the images that are changed.
    """

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        count, (rows, cols) = len(images), masks.shape[1:]
        changed = rng.random(count) < probability
        angle = np.deg2rad(rng.uniform(-degrees, degrees, count)) * changed
        factor = np.where(changed, rng.uniform(1 - zoom, 1 + zoom, count), 1.0)
        limits = shift * np.array([cols, rows])
        moves = np.rint(rng.uniform(-limits, limits, (count, 2))) * changed[:, None]
        cosine, sine = np.cos(angle) / factor, np.sin(angle) / factor
        # The source of a pixel: back by the shift, the angle and the factor.
        matrices = np.stack([[cosine, sine], [-sine, cosine]]).transpose(2, 0, 1)
        shifts = -(matrices @ moves[:, :, None])[..., 0]
        grid = source_grid(_sent(matrices, images), _sent(shifts, images), rows, cols)
        return sample(images, masks, grid)

    return augment


def elastic(alpha: float, sigma: float, probability: float) -> Augmentation:
    """Displace every pixel by smoothed noise.

    Args:
        alpha: the noise is uniform between -alpha and alpha pixels, before it is smoothed.
        sigma: standard deviation of the smoothing, in pixels.
        probability: fraction of the images that are deformed.
    """

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        count, (rows, cols) = len(images), masks.shape[1:]
        changed = bernoulli_mask(probability, images, rng)[:, None, None]
        moves = []
        for _ in range(2):
            drawn = torch.rand(
                count, rows, cols, generator=_seeded(images, rng), device=images.device
            )
            noise = alpha * (2 * drawn - 1)
            smoothed = _window(rows, sigma, images) @ noise @ _window(cols, sigma, images).mT
            moves.append(smoothed * changed)
        identity = torch.eye(2, device=images.device).expand(count, 2, 2)
        none = torch.zeros(count, 2, device=images.device)
        grid = source_grid(identity, none, rows, cols)
        ends = [2 / max(side - 1, 1) for side in (cols, rows)]
        shifts = [move * end for move, end in zip(moves, ends, strict=True)]
        return sample(images, masks, grid + torch.stack(shifts, dim=-1))

    return augment


def brightness_contrast(brightness: float, contrast: float, probability: float) -> Augmentation:
    """Multiply the grey values and add to them; see `photometric.brightness_contrast`."""

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        count = len(images)
        changed = rng.random(count) < probability
        factor = np.where(changed, rng.uniform(1 - contrast, 1 + contrast, count), 1.0)
        offset = 255 * rng.uniform(-brightness, brightness, count) * changed
        values = images.float() * _per_image(factor, images) + _per_image(offset, images)
        return _as_bytes(values), masks

    return augment


def noise(spread: float, probability: float) -> Augmentation:
    """Add Gaussian noise; see `photometric.noise`."""

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        deviations = 255 * rng.uniform(0, spread, len(images))
        deviations *= rng.random(len(images)) < probability
        drawn = torch.randn(images.shape, generator=_seeded(images, rng), device=images.device)
        return _as_bytes(images.float() + drawn * _per_image(deviations, images)), masks

    return augment


def blur(sigma_px: float, probability: float) -> Augmentation:
    """Blur by a Gaussian; see `photometric.blur`. Beyond the edge nothing has weight."""

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        sigmas = rng.uniform(0, sigma_px, len(images)) * (rng.random(len(images)) < probability)
        each = _per_image(np.maximum(sigmas, 1e-3), images)  # of less than a pixel: unchanged
        rows, cols = images.shape[2:]
        blurred = _window(rows, each, images) @ images.float() @ _window(cols, each, images).mT
        return _as_bytes(blurred), masks

    return augment


def _window(length: int, sigma: float | Tensor, like: Tensor) -> Tensor:
    """Return the Gaussian as a matrix whose rows sum to 1."""
    index = torch.arange(length, device=like.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((index[:, None] - index) / sigma) ** 2)
    return weights / weights.sum(dim=-1, keepdim=True)


def _as_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def _sent(values: Array, like: Tensor) -> Tensor:
    return send(torch.from_numpy(values.astype(np.float32)), like.device)


def _per_image(values: Array, like: Tensor) -> Tensor:
    return _sent(values, like)[:, None, None, None]


def _seeded(like: Tensor, rng: Generator) -> torch.Generator:
    return torch.Generator(like.device).manual_seed(int(rng.integers(2**31)))
