"""Textures drawn from noise that is filtered in the frequency domain, many scenes at once."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32
from scipy import fft

from evaluation.ground.arrays import Array
from members.data.resize import Size

# Bedrock is a little brighter and sand a little darker, seldom by more than scenes differ.
LEVEL = (0.0, 0.6, -0.5)
LEVEL_SPREAD = 0.25

Fields = Float32[np.ndarray, "scene row col"]
Textures = Float32[np.ndarray, "scene terrain row col"]
PerScene = Float[np.ndarray, "scene"]


class Noise:
    """White noise of one shape, filtered; every field has mean 0 and standard deviation 1.

    Args:
        scenes: how many fields at once.
        size: rows and columns.
        rng: where the noise comes from.
    """

    def __init__(self, scenes: int, size: Size, rng: np.random.Generator) -> None:
        self.shape = (scenes, *size)
        self.rng = rng
        self.rows = fft.fftfreq(size[0]).astype(np.float32)[None, :, None]
        self.cols = fft.rfftfreq(size[1]).astype(np.float32)[None, None, :]

    def smooth(
        self,
        across_px: float | PerScene,
        along_px: float | PerScene | None = None,
        angle: PerScene | None = None,
    ) -> Fields:
        """Smooth by a Gaussian, `along_px` in the direction `angle` and `across_px` across it."""
        across = per_scene(across_px)
        along = across if along_px is None else per_scene(along_px)
        turn = per_scene(0.0 if angle is None else angle)
        u = self.cols * np.cos(turn) + self.rows * np.sin(turn)
        v = self.rows * np.cos(turn) - self.cols * np.sin(turn)
        passed = np.exp(np.float32(-2 * np.pi**2) * ((along * u) ** 2 + (across * v) ** 2))
        passed = np.broadcast_to(passed, (self.shape[0], *passed.shape[1:]))
        # The spectrum of white noise is white: drawing it saves the transform there.
        white = self.rng.standard_normal((*passed.shape, 2), np.float32).view(np.complex64)[..., 0]
        return _unit(fft.irfft2(white * passed, self.shape[1:]))


def textures(noise: Noise, light: PerScene) -> Textures:
    """Draw soil, bedrock and sand everywhere; each has a strength of its own in each scene."""
    scenes, rng = noise.shape[0], noise.rng
    scale = rng.uniform(0.8, 1.4, scenes)
    strength = rng.lognormal(0, 0.2, (3, scenes))
    level = np.array(LEVEL)[:, None] + rng.normal(0, LEVEL_SPREAD, (3, scenes))
    angle = rng.normal(0, 0.35, scenes)
    drawn = (_soil(noise, scale, light), _bedrock(noise, scale, angle), _sand(noise, scale))
    return np.stack(
        [
            per_scene(level[place]) + per_scene(strength[place]) * texture
            for place, texture in enumerate(drawn)
        ],
        axis=1,
    ).astype(np.float32)


def _soil(noise: Noise, scale: PerScene, light: PerScene) -> Fields:
    """Granules and pebbles, lit from one side."""
    granules = _unit(noise.smooth(1.0 * scale) - 0.5 * noise.smooth(2.2 * scale))
    bumps = np.clip(noise.smooth(1.5 * scale) - 1.1, 0, 1)
    lit = np.gradient(bumps, axis=1) + per_scene(light) * np.gradient(bumps, axis=2)
    return (1.0 * granules + 4.5 * lit).astype(np.float32)


def _bedrock(noise: Noise, scale: PerScene, angle: PerScene) -> Fields:
    """Plates of several levels, parted by dark cracks, with layers in one direction."""
    plate = noise.smooth(4.0 * scale, 7.0 * scale, angle) + 0.15 * noise.smooth(1.5 * scale)
    crossing = noise.smooth(3.0 * scale, 9.0 * scale, angle + 1.2)
    cracks = np.exp(-((plate / 0.13) ** 2)) + 0.7 * np.exp(-((crossing / 0.12) ** 2))
    layers = noise.smooth(0.9 * scale, 7.0 * scale, angle)
    grain = noise.smooth(0.8 * scale)
    rock = 0.5 * np.tanh(2 * plate) - 1.5 * cracks + 0.4 * layers + 0.25 * grain
    return np.asarray(rock - rock.mean(axis=(1, 2), keepdims=True), np.float32)


def _sand(noise: Noise, scale: PerScene) -> Fields:
    """Ripples that wander and fade, on a smooth ground."""
    scenes, rng = noise.shape[0], noise.rng
    turn = per_scene(rng.uniform(0.9, 2.2, scenes))
    wave_px = per_scene(scale * rng.uniform(5, 9, scenes))
    cols = np.arange(noise.shape[2], dtype=np.float32)
    along = cols * np.cos(turn) + rows_of(noise.shape[1:]) * np.sin(turn)
    phase = 2 * np.pi * along / wave_px + 2.5 * noise.smooth(10.0)
    fading = np.clip(0.6 + 0.5 * noise.smooth(14.0), 0, 1.5)
    ripples = 0.55 * fading * np.sin(phase)
    return np.asarray(ripples + 0.15 * noise.smooth(1.2 * scale), np.float32)


def rows_of(size: tuple[int, ...]) -> Array:
    """Return the row number of each pixel, (1, row, 1)."""
    return np.arange(size[0], dtype=np.float32)[None, :, None]


def per_scene(values: float | Sequence[float] | Array) -> Array:
    """Return one value a scene, or one for all, to meet fields: (scene, 1, 1)."""
    return np.reshape(values, (-1, 1, 1)).astype(np.float32)


def _unit(field: Array) -> Fields:
    centred = field - field.mean(axis=(1, 2), keepdims=True)
    unit: Fields = (centred / (centred.std(axis=(1, 2), keepdims=True) + 1e-6)).astype(np.float32)
    return unit
