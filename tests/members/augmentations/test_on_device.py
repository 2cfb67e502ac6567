"""Augmentations in torch for images on a GPU, here on the CPU."""

import numpy as np
import pytest
import torch
from numpy.random import PCG64, Generator

from members.augmentations import on_device
from members.augmentations.geometric import scale
from members.augmentations.photometric import blur

ALL = {
    "affine": lambda p: on_device.affine(0.2, 0.3, 30.0, p),
    "elastic": lambda p: on_device.elastic(60.0, 6.0, p),
    "brightness_contrast": lambda p: on_device.brightness_contrast(0.2, 0.2, p),
    "noise": lambda p: on_device.noise(0.1, p),
    "blur": lambda p: on_device.blur(2.0, p),
}


class Highest(Generator):
    """Draws the upper limit instead of uniform numbers."""

    def uniform(self, low, high, size):  # type: ignore[override]
        return np.broadcast_to(high, size)


def drawn(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 250, (count, 2, 24, 32), dtype=torch.uint8, generator=generator)
    return images, (images[:, 0] % 5).contiguous()


@pytest.mark.parametrize("name", ALL)
class TestEvery:
    def test_it_keeps_shapes_and_types_and_its_input(self, name):
        images, masks = drawn()
        before = images.clone(), masks.clone()
        changed, labels = ALL[name](1.0)(images, masks, np.random.default_rng(0))
        assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
        assert (labels.shape, labels.dtype) == (masks.shape, torch.uint8)
        assert torch.equal(images, before[0])
        assert torch.equal(masks, before[1])
        assert not torch.equal(changed, images)

    def test_probability_0_changes_nothing(self, name):
        images, masks = drawn()
        changed, labels = ALL[name](0.0)(images, masks, np.random.default_rng(0))
        assert torch.equal(changed, images)
        assert torch.equal(labels, masks)

    def test_the_generator_decides(self, name):
        images, masks = drawn()
        first, second, other = (
            ALL[name](1.0)(images, masks, np.random.default_rng(seed))[0] for seed in (0, 0, 1)
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def test_a_translation_moves_image_and_mask_by_whole_pixels():
    images, masks = drawn()
    moved, labels = on_device.affine(0.2, 0.0, 0.0, 1.0)(images, masks, np.random.default_rng(3))
    inside = labels != 255
    assert torch.equal(moved[:, 0][inside] % 5, labels[inside])
    assert (moved[~inside[:, None].expand_as(moved)] == 0).all()
    assert 0 < (~inside).float().mean() < 0.4
    for before, after in zip(masks, labels, strict=True):
        rows, cols = (after != 255).any(dim=1).sum(), (after != 255).any(dim=0).sum()
        known = after[after != 255].reshape(rows, cols)
        windows = before.unfold(0, int(rows), 1).unfold(1, int(cols), 1)
        assert (windows == known).all(dim=-1).all(dim=-1).any()


def test_a_rotation_by_a_right_angle_is_that_of_torch():
    images, masks = drawn()
    images, masks = images[:, :, :, :24], masks[:, :, :24]
    turned, labels = on_device.affine(0.0, 0.0, 90.0, 1.0)(images, masks, Highest(PCG64(0)))
    assert torch.equal(labels, torch.rot90(masks, -1, (1, 2)))
    assert torch.equal(turned, torch.rot90(images, -1, (2, 3)))


def test_zoom_shows_less_or_more_as_on_the_cpu():
    images, masks = (part.repeat(20, *[1] * (part.ndim - 1)) for part in drawn())
    shares = [
        (augment(images, masks, np.random.default_rng(0))[1] == 255).float().mean()
        for augment in (on_device.affine(0.0, 0.3, 0.0, 1.0), scale(zoom=0.3, probability=1.0))
    ]
    assert shares[0] == pytest.approx(float(shares[1]), abs=0.05)


def test_noise_has_the_deviation_that_is_drawn():
    images, masks = torch.full((200, 1, 16, 16), 128, dtype=torch.uint8), torch.zeros(200, 16, 16)
    noisy, _ = on_device.noise(0.2, 1.0)(images, masks.byte(), np.random.default_rng(0))
    deviations = noisy.float().std(dim=(1, 2, 3)) / 255
    assert deviations.max() < 0.22
    assert float(deviations.mean()) == pytest.approx(0.1, abs=0.01)
    assert float(noisy.float().mean()) == pytest.approx(128, abs=0.5)


def test_a_blur_smooths_as_on_the_cpu():
    images, masks = drawn(60)
    left = [
        float(augment(images, masks, np.random.default_rng(0))[0].float().std() / 72)
        for augment in (on_device.blur(2.0, 1.0), blur(sigma_px=2.0, probability=1.0))
    ]
    assert left[0] == pytest.approx(left[1], abs=0.08)


def test_elastic_displacements_have_the_deviation_of_the_docstring():
    ramp = torch.arange(128.0).expand(8, 1, 128, 128).contiguous()
    masks = torch.zeros(8, 128, 128, dtype=torch.uint8)
    moved, labels = on_device.elastic(60.0, 6.0, 1.0)(ramp, masks, np.random.default_rng(0))
    assert (labels == 255).any()  # some come from outside
    inner = (moved - ramp)[..., 24:-24, 24:-24]  # at the edge the noise is smoothed less
    assert float(inner.std()) == pytest.approx(60 / (6.1 * 6), rel=0.15)
