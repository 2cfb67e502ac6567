"""Synthetic terrain: scenes of soil, bedrock, sand and rocks with rough polygon labels.

Textures come from noise that is filtered in the frequency domain. Many scenes are generated at
once, each with its own scale, direction, light and contrast.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8
from scipy import fft
from scipy.stats import norm

from evaluation.core.ragged import Size
from evaluation.core.types import Array

BACKGROUND, SOIL, BEDROCK, SAND, ROCK = range(5)

# How often a terrain wins, as in the real tiles: bedrock most, sand least.
BIAS = (-0.05, 0.25, -0.7)
BIAS_SPREAD = 0.85
RELIEF = 0.6
REGION_PX = 26.0
BLEND = 5.0
NODE_PX = 9
JITTER = 0.1
GAP_MARGIN = 0.17
HOLE_ABOVE = 2.1
SKY_SHARE = 0.42
ROCKY_SHARE = 0.5
ROVER_SHARE = 0.3
ROCKS = (2, 5)
ROCK_RADIUS_PX = (3.5, 7.5)

# Bedrock is a little brighter and sand a little darker, usually by less than scenes differ.
LEVEL = (0.0, 0.6, -0.5)
LEVEL_SPREAD = 0.25

Fields = Float32[np.ndarray, "scene row col"]
Textures = Float32[np.ndarray, "scene terrain row col"]
PerScene = Float[np.ndarray, "scene"]
Scores = Float32[np.ndarray, "scene terrain row col"]


@dataclass(frozen=True, eq=False)
class Scenes:
    """Grey images and their labels.

    Args:
        images: grey levels, 0 to 255.
        masks: 0 background, 1 soil, 2 bedrock, 3 sand, 4 big rock.
    """

    images: UInt8[np.ndarray, "scene row col"]
    masks: UInt8[np.ndarray, "scene row col"]


def draw_scenes(count: int, size: Size, rng: np.random.Generator) -> Scenes:
    """Generate scenes of `size` (rows, columns); half of them, at least one, hold big rocks."""
    noise = _Noise(count, size, rng)
    scores = _scores(noise)
    light = rng.uniform(-1, 1, count)
    grey = _blend(scores, _textures(noise, light))
    horizon = _horizon(noise)
    masks = _labels(scores, noise)
    _add_rocks(grey, masks, light, rng)
    sky = _rows_of(size) < horizon
    # Annotators stop well before the horizon.
    masks[_rows_of(size) < horizon + np.where(horizon > 0, 6, 0)] = BACKGROUND
    images = _expose(grey, sky, horizon, noise)
    _add_rover(images, masks, rng)
    return Scenes(images, masks)


class _Noise:
    """Filtered white noise of one shape; every field has mean 0 and standard deviation 1."""

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
        across = _per_scene(across_px)
        along = across if along_px is None else _per_scene(along_px)
        turn = _per_scene(0.0 if angle is None else angle)
        u = self.cols * np.cos(turn) + self.rows * np.sin(turn)
        v = self.rows * np.cos(turn) - self.cols * np.sin(turn)
        response = np.exp(np.float32(-2 * np.pi**2) * ((along * u) ** 2 + (across * v) ** 2))
        response = np.broadcast_to(response, (self.shape[0], *response.shape[1:]))
        # The spectrum of white noise is white: sampling it directly saves a transform.
        white = self.rng.standard_normal((*response.shape, 2), np.float32).view(np.complex64)[
            ..., 0
        ]
        return _unit(fft.irfft2(white * response, self.shape[1:]))


def _scores(noise: _Noise) -> Scores:
    """Return a smooth field per terrain; the highest one wins."""
    scenes = noise.shape[0]
    # Quantiles instead of random levels, so that a small set has scenes of every kind.
    levels = norm.ppf((np.arange(scenes) + 0.5) / scenes)
    fields = [
        RELIEF * noise.smooth(REGION_PX, 1.6 * REGION_PX)
        + _per_scene(bias + BIAS_SPREAD * noise.rng.permutation(levels))
        for bias in BIAS
    ]
    return np.stack(fields, axis=1).astype(np.float32)


def _blend(scores: Scores, texture: Textures) -> Fields:
    """Blend the textures where terrains meet."""
    share = np.exp(BLEND * (scores - scores.max(axis=1, keepdims=True)))
    share /= share.sum(axis=1, keepdims=True)
    return np.asarray((share * texture).sum(axis=1))


def _horizon(noise: _Noise) -> Float32[np.ndarray, "scene 1 col"]:
    """Return the row where the sky ends in each column; below 0 in scenes without sky."""
    scenes, rows, _ = noise.shape
    level = noise.rng.uniform(0.08, 0.34, scenes) * rows
    has_sky = np.arange(scenes) % 10 < 10 * SKY_SHARE
    level = np.where(noise.rng.permutation(has_sky), level, -rows)
    hills = noise.smooth(1.0, 18.0)[:, :1] * 3
    return np.asarray(_per_scene(level) + hills, np.float32)


def _labels(scores: Scores, noise: _Noise) -> Array:
    """Label polygons as annotators do: nodes far apart, slightly off, with gaps between."""
    nodes = scores[:, :, ::NODE_PX, ::NODE_PX]
    nodes = nodes + JITTER * noise.rng.standard_normal(nodes.shape, np.float32)
    fields = _upsample(nodes, noise.shape[1:])
    holes = noise.smooth(8.0, 16.0)[:, None, ::NODE_PX, ::NODE_PX]
    a, b, c = fields[:, 0], fields[:, 1], fields[:, 2]
    highest = np.maximum(np.maximum(a, b), c)
    second = np.maximum(np.minimum(np.maximum(a, b), c), np.minimum(a, b))
    gap = highest - second < GAP_MARGIN
    gap |= _upsample(holes, noise.shape[1:])[:, 0] > HOLE_ABOVE
    return np.where(gap, BACKGROUND, fields.argmax(axis=1) + SOIL).astype(np.uint8)


def _upsample(nodes: Array, size: tuple[int, ...]) -> Array:
    """Interpolate linearly between nodes that lie `NODE_PX` apart."""
    down, across = (
        _weights(count, length) for count, length in zip(nodes.shape[2:], size, strict=True)
    )
    return np.asarray(down @ (np.ascontiguousarray(nodes) @ np.ascontiguousarray(across.T)))


def _weights(nodes: int, length: int) -> Array:
    position = np.minimum(np.arange(length) / NODE_PX, nodes - 1)[:, None]
    weights: Array = np.clip(1 - np.abs(position - np.arange(nodes)), 0, 1).astype(np.float32)
    return weights


def _add_rocks(grey: Fields, masks: Array, light: PerScene, rng: np.random.Generator) -> None:
    """Put bright rocks with a shadow into some scenes, and their outlines into the masks."""
    scenes, rows, cols = grey.shape
    y, x = np.mgrid[:rows, :cols].astype(np.float32)
    for scene in rng.permutation(scenes)[: int(np.ceil(ROCKY_SHARE * scenes))]:
        for _ in range(rng.integers(*ROCKS)):
            centre = rng.uniform(0.3, 0.98) * rows, rng.uniform(0.02, 0.98) * cols
            radius = rng.uniform(*ROCK_RADIUS_PX)
            _add_rock(
                grey[scene], masks[scene], y - centre[0], x - centre[1], radius, light[scene], rng
            )


def _add_rock(
    grey: Array,
    mask: Array,
    y: Array,
    x: Array,
    radius: float,
    light: float,
    rng: np.random.Generator,
) -> None:
    corners = rng.normal(0, 0.07, 3)
    turn = np.arctan2(y, x)
    bent = 1 + sum(c * np.cos((n + 2) * turn + n) for n, c in enumerate(corners))
    reach = np.hypot(1.3 * y, x) / (radius * bent)
    shadow = np.hypot(1.6 * (y - 0.5 * radius), x + light * radius) / radius
    grey[(shadow < 1) & (reach >= 1)] -= 2.2
    inside = reach < 1
    slope = (-0.8 * y - light * x) / radius
    grey[inside] = 0.35 * grey[inside] + rng.uniform(2.2, 4.2) + 1.3 * slope[inside]
    # The label is coarser than the rock, as in annotations.
    mask[reach * bent < rng.uniform(1.0, 1.2)] = ROCK


def _expose(grey: Fields, sky: Array, horizon: Array, noise: _Noise) -> Array:
    """Turn fields into grey levels: haze, light that falls off, exposure and the camera's noise."""
    (scenes, rows, cols), rng = noise.shape, noise.rng
    level = _per_scene(np.clip(rng.normal(66, 14, scenes), 30, 110))
    contrast = _per_scene(rng.lognormal(-1.55, 0.25, scenes))
    distance = np.clip((_rows_of((rows, cols)) - horizon) / (0.35 * rows), 0.15, 1)
    tilt = rng.uniform(-0.16, 0.16, (2, scenes))
    fall = 1 + _per_scene(tilt[0]) * np.linspace(-1, 1, cols)[None, None]
    fall = fall + _per_scene(tilt[1]) * np.linspace(-1, 1, rows)[None, :, None]
    ground = level * (1 + contrast * distance * (grey + 0.5 * noise.smooth(30.0)))
    above = level * (_per_scene(rng.uniform(0.7, 1.5, scenes)) + 0.03 * noise.smooth(20.0))
    grey_levels = np.where(sky, above, ground) * fall + 1.5 * rng.standard_normal(
        grey.shape, np.float32
    )
    return np.clip(np.rint(grey_levels), 0, 255).astype(np.uint8)


def _add_rover(images: Array, masks: Array, rng: np.random.Generator) -> None:
    """Hide the lower side of some scenes by a part of the rover, flat and hard-edged."""
    scenes, rows, cols = images.shape
    y, x = np.mgrid[:rows, :cols]
    for scene in np.flatnonzero(rng.random(scenes) < ROVER_SHARE):
        left, right = np.sort(rng.uniform(-0.2, 1.2, 2)) * cols
        top = rng.uniform(0.55, 0.9) * rows + rng.normal(0, 0.12) * (x - left)
        part = (y > top) & (x > left + rng.normal(0, 0.3) * y) & (x < right)
        stripes = 14 * (np.mod(x + 2 * y, rng.integers(12, 30)) < 5)
        images[scene][part] = (rng.choice([12, 30, 120]) + stripes)[part]
        masks[scene][part] = BACKGROUND


def _textures(noise: _Noise, light: PerScene) -> Textures:
    """Generate soil, bedrock and sand everywhere, each with its own strength per scene."""
    scenes, rng = noise.shape[0], noise.rng
    scale = rng.uniform(0.8, 1.4, scenes)
    strength = rng.lognormal(0, 0.2, (3, scenes))
    level = np.array(LEVEL)[:, None] + rng.normal(0, LEVEL_SPREAD, (3, scenes))
    angle = rng.normal(0, 0.35, scenes)
    layers = (_soil(noise, scale, light), _bedrock(noise, scale, angle), _sand(noise, scale))
    return np.stack(
        [
            _per_scene(level[index]) + _per_scene(strength[index]) * texture
            for index, texture in enumerate(layers)
        ],
        axis=1,
    ).astype(np.float32)


def _soil(noise: _Noise, scale: PerScene, light: PerScene) -> Fields:
    """Granules and pebbles, lit from one side."""
    granules = _unit(noise.smooth(1.0 * scale) - 0.5 * noise.smooth(2.2 * scale))
    bumps = np.clip(noise.smooth(1.5 * scale) - 1.1, 0, 1)
    lit = np.gradient(bumps, axis=1) + _per_scene(light) * np.gradient(bumps, axis=2)
    return (1.0 * granules + 4.5 * lit).astype(np.float32)


def _bedrock(noise: _Noise, scale: PerScene, angle: PerScene) -> Fields:
    """Plates of several levels, parted by dark cracks, with layers in one direction."""
    plate = noise.smooth(4.0 * scale, 7.0 * scale, angle) + 0.15 * noise.smooth(1.5 * scale)
    crossing = noise.smooth(3.0 * scale, 9.0 * scale, angle + 1.2)
    cracks = np.exp(-((plate / 0.13) ** 2)) + 0.7 * np.exp(-((crossing / 0.12) ** 2))
    layers = noise.smooth(0.9 * scale, 7.0 * scale, angle)
    grain = noise.smooth(0.8 * scale)
    rock = 0.5 * np.tanh(2 * plate) - 1.5 * cracks + 0.4 * layers + 0.25 * grain
    return np.asarray(rock - rock.mean(axis=(1, 2), keepdims=True), np.float32)


def _sand(noise: _Noise, scale: PerScene) -> Fields:
    """Ripples that meander and fade, on a smooth surface."""
    scenes, rng = noise.shape[0], noise.rng
    turn = _per_scene(rng.uniform(0.9, 2.2, scenes))
    wave_px = _per_scene(scale * rng.uniform(5, 9, scenes))
    cols = np.arange(noise.shape[2], dtype=np.float32)
    along = cols * np.cos(turn) + _rows_of(noise.shape[1:]) * np.sin(turn)
    phase = 2 * np.pi * along / wave_px + 2.5 * noise.smooth(10.0)
    fading = np.clip(0.6 + 0.5 * noise.smooth(14.0), 0, 1.5)
    ripples = 0.55 * fading * np.sin(phase)
    return np.asarray(ripples + 0.15 * noise.smooth(1.2 * scale), np.float32)


def _rows_of(size: tuple[int, ...]) -> Array:
    """Return the row number of each pixel, (1, row, 1)."""
    return np.arange(size[0], dtype=np.float32)[None, :, None]


def _per_scene(values: float | Sequence[float] | Array) -> Array:
    """Return one value per scene, or one for all, that broadcasts with fields: (scene, 1, 1)."""
    return np.reshape(values, (-1, 1, 1)).astype(np.float32)


def _unit(field: Array) -> Fields:
    centred = field - field.mean(axis=(1, 2), keepdims=True)
    unit: Fields = (centred / (centred.std(axis=(1, 2), keepdims=True) + 1e-6)).astype(np.float32)
    return unit
